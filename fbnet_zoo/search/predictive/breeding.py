"""Children of a population: selection, and crossover and mutation at rates that follow fitness.

Srinivas and Patnaik, Adaptive probabilities of crossover and mutation in genetic algorithms, IEEE Transactions on
Systems, Man, and Cybernetics 24(4), 1994, equations 5 to 8.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.space.encoding import Population

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Rates of crossover and mutation.

    Attributes:
        crossover: rate of a pair whose better parent is of average fitness, and of worse pairs; k1 and k3.
        mutation: rate of each decision in a child of a parent of average fitness, and of worse ones; k2 and k4.
        least: lowest rate of mutation.
    """

    crossover: tuple[float, float]
    mutation: tuple[float, float]
    least: float

    def of_crossover(self, fitness: Floats, better: Floats) -> Floats:
        """Return the rate of each pair, (pairs,), given the fitness of the population and of its better parents."""
        return _adapted(fitness, better, *self.crossover)

    def of_mutation(self, fitness: Floats, parents: Floats) -> Floats:
        """Return the rate of each child, (children,), given the fitness of the population and of its parents."""
        return np.maximum(_adapted(fitness, parents, *self.mutation), self.least)


def _adapted(fitness: Floats, own: Floats, average: float, worse: float) -> Floats:
    """Return rates that fall from the average fitness to 0 at the best one."""
    best, mean = fitness.max(), fitness.mean()
    if best <= mean:
        return np.full(own.shape, average)
    return np.where(own < mean, worse, average * (best - own) / (best - mean))


def children(
    population: Population, fitness: Floats, counts: NDArray[np.int64], rates: Rates, random: np.random.Generator
) -> tuple[Population, Population]:
    """Return two children of each of as many pairs as give as many children, and the parent that each resembles.

    Args:
        population: parents, (networks, decisions), the best first.
        fitness: their fitness, (networks,).
        counts: number of options of each decision, (decisions,).
        rates: rates of crossover and mutation.
        random: source of random numbers.
    """
    pairs = (len(population) + 1) // 2
    first, second = random.integers(len(population), size=(2, 2, pairs)).min(0)  # each the better of two
    crossed = random.random(pairs) < rates.of_crossover(fitness, np.maximum(fitness[first], fitness[second]))
    swapped = (random.random((pairs, len(counts))) < 0.5) & crossed[:, None]
    parents = np.concatenate((population[first], population[second]))
    others = np.concatenate((population[second], population[first]))
    found = np.where(np.concatenate((swapped, swapped)), others, parents)
    rate = rates.of_mutation(fitness, fitness[np.concatenate((first, second))])
    return mutated(found, random.random(found.shape) < rate[:, None], counts, random), parents


def mutated(
    population: Population, where: NDArray[np.bool_], counts: NDArray[np.int64], random: np.random.Generator
) -> Population:
    """Return networks with another option, each equally likely, of the decisions in `where`."""
    steps = 1 + (random.random(population.shape) * (counts - 1)).astype(np.int64)
    return np.where(where, (population + steps) % counts, population)


def one_more(
    population: Population, rows: NDArray[np.bool_], counts: NDArray[np.int64], random: np.random.Generator
) -> Population:
    """Return networks of which those in `rows`, (networks,), have another option of one decision."""
    decided = np.flatnonzero(counts > 1)
    if not len(decided):
        return population
    at = decided[random.integers(len(decided), size=len(population))]
    where = rows[:, None] & (np.arange(len(counts)) == at[:, None])
    return mutated(population, where, counts, random)
