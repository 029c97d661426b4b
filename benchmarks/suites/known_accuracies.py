"""How soon searches find the best networks of a table of accuracies, and how well predictors rank its networks.

The regret of a search is what its best network lacks to the best one of the table within the limit, in points.
`python -m fbnet_zoo.benchmarks.suites.known_accuracies TABLE.csv --space S --out FILE` writes the figures of
docs/search_results.md.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from fbnet_zoo import __version__
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import FbnetZooError, InputError
from fbnet_zoo.folders import temporary
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.cost import macs_cost, params_cost
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Limits, population_excess
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.oracle import Oracle, read_oracle
from fbnet_zoo.search.predictive.accuracy import AccuracyPredictor
from fbnet_zoo.search.predictive.encoder import EncoderFeatures
from fbnet_zoo.search.predictive.features import DecisionFeatures, Features, StatisticFeatures, joined
from fbnet_zoo.search.runs import run_search
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import Record
from fbnet_zoo.stats import spearman
from fbnet_zoo.train import default_recipe

BATCH, EVERY = 10, 10
_SETTINGS: Mapping[str, dict[str, Any]] = {
    "random": {},
    "evolution": {"population": 20, "sample": 5},
    "chamnet": {"batch": BATCH},
    "nars": {"batch": BATCH},
}
"""Methods, and their settings that differ from the defaults, which are for trainings of hundreds of networks."""

SAMPLES = (20, 40, 80, 160, 320)


class Regret(Record):
    """The regrets of one method within some limits.

    Attributes:
        method: name of the method.
        limits: cost name to the highest value allowed.
        evaluations: numbers of evaluated networks.
        points: for each seed, the regret after so many evaluations, points.
    """

    method: str
    limits: dict[str, float]
    evaluations: tuple[int, ...]
    points: tuple[tuple[float, ...], ...]


class Ranking(Record):
    """The rank correlation of predicted and known accuracies.

    Attributes:
        features: what the predictor sees of a network.
        samples: numbers of networks that it is fitted to.
        spearman: for each seed, the correlation on all other networks of the table.
    """

    features: str
    samples: tuple[int, ...]
    spearman: tuple[tuple[float, ...], ...]


class KnownAccuracies(Record):
    """The figures of a table.

    Attributes:
        table: file name.
        space: name of the space.
        networks: number of networks in the table.
        batch: number of networks that methods with a predictor evaluate at a time.
        regrets: regrets of all methods.
        rankings: rank correlations of all predictors.
        date: end of the benchmark.
        versions: package name to version.
    """

    table: str
    space: str
    networks: int
    batch: int
    regrets: tuple[Regret, ...]
    rankings: tuple[Ranking, ...]
    date: datetime
    versions: dict[str, str]


def regret(oracle: Oracle, method: str, limits: Limits, *, budget: int, seeds: Sequence[int]) -> Regret:
    """Return the regrets of searches with several seeds.

    Raises:
        InputError: too few networks of the table are within the limits.
    """
    costs = {each.name: each for each in oracle.costs(limits)}
    best = np.max(np.array(oracle.known)[population_excess(oracle.candidates, costs, limits) == 0])
    marks = tuple(range(EVERY, budget + 1, EVERY))
    found = []
    for seed in seeds:
        settings = {"budget": budget, "seed": seed, "limits": dict(limits)} | _SETTINGS[method]
        config = METHODS[method].config.model_validate(settings)
        with temporary() as folder:
            run = run_search(_job(oracle, config), folder / "run")
        top1 = [each.top1 or 0.0 for each in run.history if isinstance(each, EvaluatedNetwork)]
        reached = np.maximum.accumulate(top1)
        found.append(tuple(float(best - reached[min(mark, len(reached)) - 1]) for mark in marks))
    return Regret(method=method, limits=dict(limits), evaluations=marks, points=tuple(found))


def _job(oracle: Oracle, config: MethodConfig) -> SearchJob:
    recipe = default_recipe("folder")
    return SearchJob(
        space=oracle.encoding.space,
        dataset=None,
        config=config,
        recipe=recipe,
        batch_size=recipe.batch_size,
        oracle=oracle,
    )


def rankings(oracle: Oracle, *, seeds: Sequence[int]) -> Iterator[Ranking]:
    """Yield the rank correlations of predictors with different features."""
    encoding = oracle.encoding
    free = [macs_cost(encoding), params_cost(encoding)]
    decisions = DecisionFeatures.of(encoding)
    features: Mapping[str, Features] = {
        "decisions": decisions,
        "decisions, MACs and parameters (`chamnet`)": joined(decisions, StatisticFeatures.of(encoding, free, seed=0)),
        "decisions, pretrained encoder (`nars`)": joined(decisions, EncoderFeatures.pretrained(encoding, free, seed=0)),
    }
    for name, each in features.items():
        found = [tuple(_correlation(oracle, each, count, seed) for count in SAMPLES) for seed in seeds]
        yield Ranking(features=name, samples=SAMPLES, spearman=tuple(found))


def _correlation(oracle: Oracle, features: Features, count: int, seed: int) -> float:
    order, top1 = np.random.default_rng(seed).permutation(len(oracle.known)), np.array(oracle.known)
    known, others = order[:count], order[count:]
    predictor = AccuracyPredictor.fitted(features, oracle.candidates[known], top1[known].tolist())
    return spearman(predictor.predict(oracle.candidates[others]).mean.tolist(), top1[others].tolist())


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV file of accuracies, as for `fbnet-zoo search --oracle`")
    parser.add_argument("--space", required=True, help="the search space")
    parser.add_argument("--limit", action="append", default=[], help="a limit, COLUMN=VALUE, beside none; repeatable")
    parser.add_argument("--budget", type=int, default=100, help="evaluations of each search (default: 100)")
    parser.add_argument("--seeds", type=int, default=10, help="searches with each method (default: 10)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    try:
        oracle = read_oracle(given.table, Encoding(load_space(given.space)))
        bounds = [{}, *(_limit(text) for text in given.limit)]
        cases = [(method, limits) for limits in bounds for method in _SETTINGS]
        seeds = range(given.seeds)
        regrets = [
            regret(oracle, method, limits, budget=given.budget, seeds=seeds)
            for method, limits in track(cases, "searches")
        ]
        found = KnownAccuracies(
            table=given.table.name,
            space=given.space,
            networks=len(oracle.known),
            batch=BATCH,
            regrets=tuple(regrets),
            rankings=tuple(rankings(oracle, seeds=seeds)),
            date=datetime.now(UTC),
            versions={"fbnet_zoo": __version__, "scikit-learn": version("scikit-learn")},
        )
    except FbnetZooError as error:
        sys.exit(f"{error}")
    write_atomically(given.out, found.model_dump_json(indent=1) + "\n")


def _limit(text: str) -> dict[str, float]:
    name, _, value = text.partition("=")
    try:
        return {name: float(value)}
    except ValueError as error:
        raise InputError(f"--limit {text}: expected COLUMN=VALUE") from error


if __name__ == "__main__":
    main()
