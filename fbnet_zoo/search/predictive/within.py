"""Genetic search in a space, within limits on costs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.limits import Costs, Limits, population_excess, require_reachable
from fbnet_zoo.search.predictive.genetic import GeneticConfig, nearest_to_limits
from fbnet_zoo.search.predictive.problem import Problem, Score
from fbnet_zoo.space.encoding import Encoding, Population, Positions


def limited_problem(
    encoding: Encoding,
    costs: Costs,
    limits: Limits,
    score: Score,
    *,
    among: Population | None = None,
    initial: Sequence[Positions] = (),
) -> Problem:
    """Return the problem of finding the networks with the highest scores within the limits.

    Args:
        encoding: encoding of the space.
        costs: costs named by the limits.
        limits: highest allowed costs.
        score: scores of a population, (networks, decisions) to (networks,) or (networks, objectives).
        among: networks that may be found, (networks, decisions) (default: the whole space).
        initial: networks of the first population; those beyond a limit are changed until they are within all.

    Raises:
        InputError: a limit is out of reach (the text gives the lowest reachable value), the limits together are (the
            text gives the costs of the nearest network found), or a limit is on an unknown cost.

    >>> from fbnet_zoo.search import macs_cost, params_cost
    >>> from fbnet_zoo.search.predictive.genetic import genetic_search
    >>> from fbnet_zoo.space import load_space
    >>> encoding = Encoding(load_space("digits_tiny"))
    >>> macs, params = macs_cost(encoding, num_classes=10), params_cost(encoding, num_classes=10)
    >>> problem = limited_problem(encoding, {"macs": macs}, {"macs": 400_000.0}, params.population)
    >>> found = genetic_search(problem, GeneticConfig(population=20, generations=10))
    >>> bool(macs.of(found.best) <= 400_000)
    True
    """
    require_reachable(costs, limits)
    for positions in initial:
        encoding.choices(positions)
    cheapest = [costs[name].cheapest for name in limits] or [(0,) * len(encoding.counts)]
    problem = Problem(
        counts=encoding.counts,
        score=score,
        starts=np.array([*cheapest, *initial], dtype=np.int64),
        excess=lambda population: population_excess(population, costs, limits),
        canonical=encoding.canonical,
        among=among,
    )
    if among is not None:
        return problem
    nearest, excess = nearest_to_limits(problem, GeneticConfig())
    if excess > 0:
        raise InputError(_out_of_reach(tuple(nearest.tolist()), costs, limits))
    return replace(problem, starts=np.concatenate((nearest[None], problem.starts)))


def _out_of_reach(nearest: Positions, costs: Costs, limits: Limits) -> str:
    wanted = " and ".join(f"{name} <= {limit:g} {costs[name].unit}".rstrip() for name, limit in limits.items())
    reached = " and ".join(f"{name} {costs[name].of(nearest):g} {costs[name].unit}".rstrip() for name in limits)
    return f"no network found satisfies {wanted} together: the nearest one has {reached}; raise a limit"
