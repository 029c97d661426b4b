"""Costs of whole populations, and genetic search, against peers in the same run.

The peers of costs are a loop over networks and a plain lookup in numpy, layer by layer; that of genetic search is
pymoo's, with its operators for integers, on the same problem.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fbnet_zoo.benchmarks.suites.figures import Versus
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.search.cost import CostMetric, latency_cost, macs_cost
from fbnet_zoo.search.predictive.genetic import GeneticConfig, genetic_search
from fbnet_zoo.search.predictive.problem import Problem
from fbnet_zoo.search.predictive.within import limited_problem
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding, Population

NETWORKS, LOOPED = 100_000, 1_000
GENERATIONS, SIZE = 50, 100

Lookup = Callable[[Population], NDArray[np.float64]]


def latency() -> CostMetric:
    """Return the latency of the space `fbnet` by a shipped table."""
    return latency_cost(Encoding(load_space("fbnet")), find_table("host_xnnpack_fbnet"))


def macs() -> CostMetric:
    """Return the multiply-accumulates of the space `fbnetv3`."""
    return macs_cost(Encoding(load_space("fbnetv3")))


def drawn(encoding: Encoding, count: int) -> Population:
    """Return random networks."""
    return np.random.default_rng(0).integers(encoding.counts, size=(count, len(encoding.counts)))


def plain(metric: CostMetric) -> Lookup:
    """Return a cost that looks the tables up with all their axes, one part after another."""

    def costs(population: Population) -> NDArray[np.float64]:
        full = metric.encoding.full(list(population.T), np.zeros((), dtype=np.int64))
        total = np.zeros(len(population))
        for term in metric.terms:
            values = term.values.sum(-1)[tuple(full[axis] for axis in term.axes)]
            times = 1 if term.repeated_by is None else np.array(term.repeats)[full[term.repeated_by]]
            total = total + values * times
        return metric.slope * (metric.constant + total) + metric.intercept

    return costs


@pytest.mark.parametrize(("cost", "target"), [(latency, 100), (macs, 50)])
def bench_costs_against_a_loop(versus: Versus, cost: Callable[[], CostMetric], target: float) -> None:
    """Costs of 1,000 networks at once against one after another."""
    metric = cost()
    rows = drawn(metric.encoding, LOOPED)
    one_by_one = [tuple(row) for row in rows.tolist()]
    versus(partial(metric.population, rows), lambda: [metric.of(row) for row in one_by_one], target=target, rounds=9)


@pytest.mark.parametrize(("cost", "target"), [(latency, 1.5), (macs, 1.5)])
def bench_costs_against_a_plain_lookup(versus: Versus, cost: Callable[[], CostMetric], target: float) -> None:
    """Costs of 100,000 networks against a plain lookup."""
    metric = cost()
    rows = drawn(metric.encoding, NETWORKS)
    versus(partial(metric.population, rows), partial(plain(metric), rows), target=target, rounds=9)


def bench_genetic_search(versus: Versus) -> None:
    """50 generations of 100 networks of `fbnet` within a latency, against pymoo; about as many evaluations."""
    metric, problem = limited()
    assert metric.encoding.counts == problem.counts
    config = GeneticConfig(population=SIZE, generations=GENERATIONS)
    versus(lambda: genetic_search(problem, config), lambda: pymoo_search(problem), target=5, rounds=3)


def limited() -> tuple[CostMetric, Problem]:
    """Return the problem of the best score within a latency."""
    metric = latency()
    shares = [np.random.default_rng(at).normal(size=count) for at, count in enumerate(metric.encoding.counts)]

    def score(population: Population) -> NDArray[np.float64]:
        return np.sum([own[column] for own, column in zip(shares, population.T, strict=True)], axis=0)

    limits = {"latency": 0.6 * metric.least + 0.4 * metric.most}
    return metric, limited_problem(metric.encoding, {"latency": metric}, limits, score)


def pymoo_search(problem: Problem) -> None:
    """Search with pymoo's genetic algorithm."""
    from pymoo.algorithms.soo.nonconvex.ga import GA  # type: ignore[import-untyped]
    from pymoo.core.problem import Problem as PymooProblem  # type: ignore[import-untyped]
    from pymoo.operators.crossover.sbx import SBX  # type: ignore[import-untyped]
    from pymoo.operators.mutation.pm import PM  # type: ignore[import-untyped]
    from pymoo.operators.repair.rounding import RoundingRepair  # type: ignore[import-untyped]
    from pymoo.operators.sampling.rnd import IntegerRandomSampling  # type: ignore[import-untyped]
    from pymoo.optimize import minimize  # type: ignore[import-untyped]

    class Networks(PymooProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            upper = np.array(problem.counts) - 1
            super().__init__(n_var=len(upper), n_obj=1, n_ieq_constr=1, xl=0, xu=upper, vtype=int)

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            out["F"], out["G"] = -problem.score(x), problem.excess(x)

    algorithm = GA(
        pop_size=SIZE,
        sampling=IntegerRandomSampling(),
        crossover=SBX(vtype=float, repair=RoundingRepair()),
        mutation=PM(vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Networks(), algorithm, ("n_gen", GENERATIONS + 1), seed=0)
