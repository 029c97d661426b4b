"""Genetic search over populations of positions, for one objective or several, under any number of limits.

Crossover and mutation rates follow fitness (Srinivas and Patnaik, 1994). The best of parents and children survive: by
score or, for several objectives, by fronts and crowding (NSGA-II). Every network that is scored is within the limits.
"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import Count, Seed
from fbnet_zoo.search.predictive.breeding import Rates, children
from fbnet_zoo.search.predictive.pareto import Scores, best_first, dominates, gained, hypervolume, undominated
from fbnet_zoo.search.predictive.problem import Problem, is_repeated
from fbnet_zoo.space.encoding import Population, Positions, neighbors
from fbnet_zoo.spec import Record

Share = Annotated[float, Field(ge=0, le=1)]

_CHUNK = 4096
"""Networks of a list that are scored at once."""

_SEEKING, _IN_VAIN = 100, 20
"""Generations in which a network within the limits is sought if none of the starts is, and those without success."""


class GeneticConfig(Record):
    """The configuration of a genetic search.

    Attributes:
        population: number of networks in each generation.
        generations: number of generations after the first population.
        seed: random seed; equal seeds give equal searches on the same machine.
        crossover: rates of crossover (of average pairs, of worse ones); k1 and k3 of the paper, where both are 1.
        mutation: rates of mutation of each decision (of average parents, of worse ones); k2 and k4 of the paper, where
            both are 0.5 for each bit.
        least_mutation: rate of mutation of each decision in children of the best parents.
        reference: point above which the hypervolume is measured, a score for each objective (default: the lowest
            scores of the first population).
    """

    population: Annotated[int, Field(ge=2)] = 100
    generations: Count = 500
    seed: Seed = 0
    crossover: tuple[Share, Share] = (0.5, 1.0)
    mutation: tuple[Share, Share] = (0.1, 0.1)
    least_mutation: Share = 0.005
    reference: tuple[float, ...] | None = None

    @property
    def rates(self) -> Rates:
        """The rates of crossover and mutation."""
        return Rates(crossover=self.crossover, mutation=self.mutation, least=self.least_mutation)


class Generation(Record):
    """The state of a genetic search after a generation; saved as JSON, it can be resumed.

    Attributes:
        number: number of the generation; 0 is the first population.
        evaluations: number of networks scored so far.
        networks: the population, the best first.
        scores: scores of each of its networks.
        front: networks found so far that no other one dominates; for one objective, the best one.
        front_scores: scores of each network of the front.
        reference: point above which the hypervolume is measured.
        hypervolumes: volume dominated by all networks found, after each generation; for one objective, the best score
            above the reference.
    """

    number: Annotated[int, Field(ge=0)]
    evaluations: Count
    networks: tuple[Positions, ...]
    scores: tuple[tuple[float, ...], ...]
    front: tuple[Positions, ...]
    front_scores: tuple[tuple[float, ...], ...]
    reference: tuple[float, ...]
    hypervolumes: tuple[float, ...]

    @property
    def best(self) -> Positions:
        """The first network of the population: for one objective, the best one found."""
        return self.networks[0]


def genetic_search(problem: Problem, config: GeneticConfig, *, after: Generation | None = None) -> Generation:
    """Return the last generation of a search; arguments and errors as in `generations`.

    >>> target = np.array([2, 0, 1])
    >>> problem = Problem(
    ...     counts=(3, 3, 3), starts=np.zeros((1, 3), int), score=lambda rows: -1.0 * (rows != target).sum(1)
    ... )
    >>> genetic_search(problem, GeneticConfig(population=6, generations=20)).best
    (2, 0, 1)
    """
    *_, last = generations(problem, config, after=after)
    return last


def generations(problem: Problem, config: GeneticConfig, *, after: Generation | None = None) -> Iterator[Generation]:
    """Yield the generations of a search, each complete: a search resumed after any of them equals an undisturbed one.

    A list of networks (`Problem.among`) is scored whole, as the first and only generation.

    Args:
        problem: what is searched.
        config: size and rates of the search.
        after: generation to resume after, which is yielded first (default: begin with the first population).

    Raises:
        InputError: no network within the limits was found, a score is not a finite number, or `after` is not a
            generation of this search.
    """
    if after is not None:
        _check(after, problem)
    now = after or (_first(problem, config) if problem.among is None else _listed(problem, config))
    yield now
    for number in range(now.number + 1, config.generations + 1 if problem.among is None else 0):
        now = _next(problem, config, now, np.random.default_rng([config.seed, number]))
        yield now


def _first(problem: Problem, config: GeneticConfig) -> Generation:
    """Return the first population: the starts, and random networks."""
    random, counts = np.random.default_rng([config.seed, 0]), np.array(problem.counts)
    start = within_limits(problem, config)
    drawn = (random.random((config.population, len(counts))) * counts).astype(np.int64)
    made = problem.canonical(np.concatenate((start[None], problem.starts, drawn)))
    inside = problem.repaired(made, np.broadcast_to(start, made.shape), random)
    return _begun(problem, config, inside[~is_repeated(inside, inside[:0])][: config.population])


def _listed(problem: Problem, config: GeneticConfig) -> Generation:
    """Return the networks of a list, as one generation."""
    assert problem.among is not None  # noqa: S101 - checked by the caller
    networks = problem.canonical(problem.among)
    excess = problem.excess(networks)
    if not (excess == 0).any():
        raise InputError(f"none of the {len(networks)} networks is within the limits; {_least(excess.min())}")
    inside = networks[excess == 0]
    return _begun(problem, config, inside[~is_repeated(inside, inside[:0])])


def _begun(problem: Problem, config: GeneticConfig, networks: Population) -> Generation:
    parts = [networks[at : at + _CHUNK] for at in range(0, len(networks), _CHUNK)]
    scores = np.concatenate([problem.scores(part) for part in parts])
    reference = scores.min(0) if config.reference is None else np.array(config.reference)
    if reference.shape != scores.shape[1:]:
        raise InputError(f"the reference has {len(reference)} values, but there are {scores.shape[1]} objectives")
    order, front = best_first(scores)[: config.population], undominated(scores)
    return Generation(
        number=0,
        evaluations=len(networks),
        networks=_tuples(networks[order]),
        scores=_tuples(scores[order]),
        front=_tuples(networks[front]),
        front_scores=_tuples(scores[front]),
        reference=tuple(reference.tolist()),
        hypervolumes=(hypervolume(scores, reference),),
    )


def _next(problem: Problem, config: GeneticConfig, now: Generation, random: np.random.Generator) -> Generation:
    """Return the generation after `now`."""
    population, scores = np.array(now.networks), np.array(now.scores)
    fitness = scores[:, 0] if scores.shape[1] == 1 else -np.arange(len(scores), dtype=np.float64)
    made, parents = children(population, fitness, np.array(problem.counts), config.rates, random)
    fresh = problem.settled(made, parents, population, random)
    found = problem.scores(fresh) if len(fresh) else scores[:0]
    if found.shape[1:] != scores.shape[1:]:
        raise InputError(f"the score has {found.shape[1]} objectives now; before, it had {scores.shape[1]}")
    networks, all_scores = np.concatenate((fresh, population)), np.concatenate((found, scores))
    order = best_first(all_scores)[: config.population]
    front, front_scores, gain = _extended(now, fresh, found)
    return Generation.model_construct(
        number=now.number + 1,
        evaluations=now.evaluations + len(fresh),
        networks=_tuples(networks[order]),
        scores=_tuples(all_scores[order]),
        front=front,
        front_scores=front_scores,
        reference=now.reference,
        hypervolumes=(*now.hypervolumes, now.hypervolumes[-1] + gain),
    )


def _extended(
    now: Generation, fresh: Population, found: Scores
) -> tuple[tuple[Positions, ...], tuple[tuple[float, ...], ...], float]:
    """Return the front with other networks, its scores, and the hypervolume gained."""
    known = np.array(now.front_scores)
    ahead = np.any(np.all(known[None] >= found[:, None], axis=2), axis=1)
    new = np.flatnonzero(~ahead)[undominated(found[~ahead])]
    if not len(new):
        return now.front, now.front_scores, 0.0
    gain, reference = 0.0, np.array(now.reference)
    for at, each in enumerate(new):
        gain += gained(found[each], np.concatenate((known, found[new[:at]])), reference)
    stay = np.flatnonzero(~dominates(found[new], known).any(0)).tolist()
    return (
        (*(now.front[at] for at in stay), *_tuples(fresh[new])),
        (*(now.front_scores[at] for at in stay), *_tuples(found[new])),
        gain,
    )


def within_limits(problem: Problem, config: GeneticConfig) -> NDArray[np.int64]:
    """Return a network within the limits, (decisions,): one of the starts, or one that is found from them.

    Raises:
        InputError: none was found; the text gives the least excess.
    """
    network, excess = nearest_to_limits(problem, config)
    if excess > 0:
        raise InputError(f"no network within all limits was found; {_least(excess)}")
    return network


def nearest_to_limits(problem: Problem, config: GeneticConfig) -> tuple[NDArray[np.int64], float]:
    """Return the network with the least excess over the limits that a search finds, and its excess."""
    starts = problem.canonical(problem.starts)
    excess = problem.excess(starts)
    best, least = starts[excess.argmin()], float(excess.min())
    if least == 0:
        return best, least
    unlimited = Problem(
        counts=problem.counts,
        score=lambda rows: -problem.excess(rows),
        starts=problem.starts,
        canonical=problem.canonical,
    )
    few, better = config.model_copy(update={"generations": _SEEKING, "reference": None}), 0
    for each in generations(unlimited, few):
        if -each.scores[0][0] < least:
            best, least, better = np.array(each.best), -each.scores[0][0], each.number
        if least == 0 or each.number - better >= _IN_VAIN:
            break
    return _descended(problem, best)


def _descended(problem: Problem, network: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """Return a network that no change of a single decision brings nearer to the limits, and its excess."""
    while True:
        here = tuple(network.tolist())
        near = problem.canonical(np.array([here, *neighbors(here, problem.counts)]))
        excess = problem.excess(near)
        if excess.min() == excess[0]:
            return network, float(excess[0])
        network = near[excess.argmin()]


def _least(excess: float) -> str:
    return f"the nearest exceeds them by {100 * excess:.3g} % in total; raise the limits"


def _check(after: Generation, problem: Problem) -> None:
    """Refuse a generation of another search."""
    networks = np.array(after.networks, ndmin=2)
    fits = networks.shape[1] == len(problem.counts) and ((networks >= 0) & (networks < problem.counts)).all()
    if not fits or (problem.excess(networks) > 0).any() or len(after.scores) != len(networks):
        raise InputError("the generation to resume after is of another search: its networks are not within this one")


def _tuples(rows: NDArray[np.int64] | Scores) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, rows.tolist()))
