"""The loop of ChamNet and NARS on known accuracies: within limits, in batches, and to the best networks soon."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo.search.cost import macs_cost
from fbnet_zoo.search.joint import JointEncoding
from fbnet_zoo.search.limits import Limits, excess
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.oracle import Oracle, read_oracle, table_encoding
from fbnet_zoo.search.predictive.config import ChamnetConfig, NarsConfig, PredictiveConfig
from fbnet_zoo.search.predictive.pools import Candidates
from fbnet_zoo.search.record import load_record
from fbnet_zoo.search.runs import SearchRun, run_search
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse
from tests.helpers.marks import first_is_quick
from tests.helpers.search_oracles import accuracy, energy, oracle, oracle_job, twins
from tests.helpers.search_spaces import NANO

NETWORKS = list(product(range(6), repeat=4))
LIMIT: Limits = {"energy": 4.0}
METHOD = pytest.mark.parametrize("kind", [ChamnetConfig, NarsConfig], ids=["chamnet", "nars"])
MOSTLY_CHAMNET = pytest.mark.parametrize("kind", first_is_quick([ChamnetConfig, NarsConfig]), ids=["chamnet", "nars"])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return oracle(tmp_path_factory.mktemp("known") / "known.csv", twins(), NETWORKS)


def searched(folder: Path, known: Oracle, config: PredictiveConfig) -> SearchRun:
    return run_search(oracle_job(config, known), folder)


def evaluated(run: SearchRun) -> list[Positions]:
    return [each.positions for each in run.history]


@METHOD
def test_the_best_network_within_a_limit_is_found_soon(tmp_path: Path, known: Oracle, kind: type) -> None:
    """Among 1,296 networks, a random search of 60 finds the best one in 5 of 100 cases."""
    best = max((each for each in NETWORKS if energy(each) <= LIMIT["energy"]), key=accuracy)
    run = searched(tmp_path / "run", known, kind(budget=60, batch=10, limits=dict(LIMIT), seed=1))
    assert run.record.best.positions == best
    assert len(set(evaluated(run))) == 60
    assert all(energy(each) <= LIMIT["energy"] for each in evaluated(run))


@MOSTLY_CHAMNET
def test_a_search_ends_when_no_network_is_left(tmp_path: Path, kind: type) -> None:
    few = oracle(tmp_path / "few.csv", twins(), NETWORKS[::200])
    run = searched(tmp_path / "run", few, kind(budget=60, batch=3))
    assert sorted(evaluated(run)) == NETWORKS[::200]


@MOSTLY_CHAMNET
def test_equal_seeds_give_equal_searches_and_others_do_not(tmp_path: Path, known: Oracle, kind: type) -> None:
    first, again, other = (
        evaluated(searched(tmp_path / f"{at}", known, kind(budget=15, batch=5, seed=seed)))
        for at, seed in enumerate((0, 0, 1))
    )
    assert first == again != other


def test_a_target_error_ends_the_search_after_one_more_batch(tmp_path: Path, known: Oracle) -> None:
    run = searched(tmp_path / "run", known, ChamnetConfig(budget=60, batch=5, target_error=50.0))
    assert len(run.history) == 10


def test_pairs_of_a_table_are_searched_together(tmp_path: Path) -> None:
    """The record tells the recipe of the best network."""
    space = parse(NANO + "recipe:\n  lr: [0.01, 0.02, 0.03]\n  mixup: [0, 0.2]\n", "nano.yaml")
    pairs = list(product(*map(range, JointEncoding(space).counts)))

    def top1(pair: Positions) -> float:
        return accuracy(pair[:3]) - 3 * abs(pair[3] - 1) + 2 * pair[4]

    path = tmp_path / "pairs.csv"
    decisions = JointEncoding(space).decisions
    lines = [",".join([*(each.name for each in decisions), "top1"])]
    for pair in pairs:
        options = (each.options[at] for each, at in zip(decisions, pair, strict=True))
        lines.append(",".join([*options, f"{top1(pair)}"]))
    path.write_text("\n".join(lines))
    table = read_oracle(path, table_encoding(path, space))
    run = run_search(oracle_job(NarsConfig(budget=40), table, space), tmp_path / "run")
    best = max(pairs, key=top1)
    assert run.record.best.positions == best
    assert run.record.best.recipe == {"lr": (0.01, 0.02, 0.03)[best[3]], "mixup": (0, 0.2)[best[4]]}
    assert load_record(tmp_path / "run" / "search.json") == run.record


class TestCandidates:
    """Of whole spaces, of which nothing is listed."""

    def candidates(self, limits: Limits) -> Candidates:
        encoding = Encoding(load_space("digits_tiny"))
        return Candidates(encoding=encoding, costs={"macs": macs_cost(encoding)}, limits=limits, among=None)

    @pytest.mark.parametrize("kind", ["random", "quasi_random", "bred"])
    def test_networks_are_new_different_and_within_the_limits(self, kind: str) -> None:
        candidates = self.candidates({"macs": 1.4e6})
        known = candidates.random(np.zeros((0, 7), dtype=np.int64), seed=4)[:20]
        found = {
            "random": lambda: candidates.random(known, seed=5),
            "quasi_random": lambda: candidates.new(candidates.quasi_random(256, seed=5), known),
            "bred": lambda: candidates.bred(lambda rows: -rows.sum(1).astype(float), known, seed=5),
        }[kind]()
        rows = [tuple(row) for row in found.tolist()]
        assert len(rows) > 10
        assert len(set(rows)) == len(rows)
        assert not set(rows) & set(map(tuple, known.tolist()))
        assert not any(excess(each, candidates.costs, candidates.limits) for each in rows)

    def test_quasi_random_networks_are_spread_more_evenly_than_random_ones(self) -> None:
        candidates = self.candidates({})

        def unevenness(rows: np.ndarray) -> float:
            shares = [np.bincount(rows[:, at], minlength=count) / len(rows) for at, count in enumerate(self.counts())]
            return float(sum(np.abs(each - 1 / len(each)).sum() for each in shares))

        quasi = candidates.quasi_random(256, seed=0)
        random = candidates.random(quasi[:0], seed=0)[:256]
        assert unevenness(quasi) < 0.5 * unevenness(random)

    def test_networks_within_a_tight_limit_are_found_too(self) -> None:
        """One network in 300."""
        encoding = Encoding(load_space("digits_tiny"))
        cost = macs_cost(encoding)
        drawn = self.candidates({}).random(np.zeros((0, 7), dtype=np.int64), seed=0)
        candidates = self.candidates({"macs": float(np.quantile(cost.population(drawn), 1 / 300))})
        assert len(candidates.random(drawn[:0], seed=1)) >= 50
        assert len(candidates.quasi_random(50, seed=1)) == 50

    def counts(self) -> Sequence[int]:
        return Encoding(load_space("digits_tiny")).counts


def test_the_methods_are_registered() -> None:
    assert {METHODS[name].config for name in ("chamnet", "nars")} == {ChamnetConfig, NarsConfig}
