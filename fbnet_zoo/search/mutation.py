"""The loop of regularized evolution, and its mutations."""

import random
from collections import deque
from typing import Protocol

import numpy as np

from fbnet_zoo.search.drawing import draw_networks
from fbnet_zoo.search.evaluator import Evaluations
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.limits import Limits, excess, population_excess
from fbnet_zoo.space.encoding import Population, Positions

_TRIES = 1000
"""Mutations of one network that were evaluated before or break a limit, after which another network is drawn."""


class Mutation(Protocol):
    """Makes children."""

    def child(self, parent: Positions) -> Positions | None:
        """Return a network near another one, within the limits and not evaluated yet; `None` where none is left."""


def evolve(asked: Evaluations, config: EvolutionConfig) -> None:
    """Evaluate `config.budget` different networks, or all that keep the limits where there are fewer.

    Raises:
        InputError: fewer networks than the first population has were found within the limits.
    """
    among, generator = asked.evaluator.candidates, random.Random(config.seed)  # noqa: S311 - nothing here is secret
    population: deque[tuple[float, Positions]] = deque(maxlen=config.population)
    first = min(config.population, config.budget)
    for each in draw_networks(asked.encoding, asked.costs, config.limits, count=first, seed=config.seed, among=among):
        population.append((asked.top1(each), asked.canonical(each)))
    mutation: Mutation = (
        Change(asked, config.limits, generator)
        if among is None
        else Nearest(asked, config.limits, generator, asked.encoding.canonical(among))
    )
    while len(asked.done) < config.budget:
        _, parent = max(generator.choices(population, k=config.sample))
        child = mutation.child(parent)
        if child is None:
            return
        population.append((asked.top1(child), child))


class Change:
    """Takes another option for one decision."""

    def __init__(self, asked: Evaluations, limits: Limits, generator: random.Random) -> None:
        self.asked, self.limits, self.generator = asked, limits, generator

    def child(self, parent: Positions) -> Positions | None:
        """Return a network that differs in one decision; a random one where those are exhausted; of `Mutation`."""
        for make in (self._changed, self._drawn):
            for _ in range(_TRIES):
                found = self.asked.canonical(make(parent))
                if not self.asked.has(found) and not excess(found, self.asked.costs, self.limits):
                    return found
        return None

    def _changed(self, parent: Positions) -> Positions:
        counts = self.asked.encoding.counts
        at = self.generator.randrange(len(counts))
        other = (parent[at] + self.generator.randrange(1, counts[at])) % counts[at]
        return (*parent[:at], other, *parent[at + 1 :])

    def _drawn(self, _: Positions) -> Positions:
        return tuple(self.generator.randrange(count) for count in self.asked.encoding.counts)


class Nearest:
    """Takes a network that differs in as few decisions as any of a list."""

    def __init__(self, asked: Evaluations, limits: Limits, generator: random.Random, candidates: Population) -> None:
        self.asked, self.generator = asked, generator
        self.candidates = candidates[population_excess(candidates, asked.costs, limits) == 0]

    def child(self, parent: Positions) -> Positions | None:
        """Return one of the nearest that were not evaluated, at random; of `Mutation`."""
        fresh = [row for row in map(tuple, self.candidates.tolist()) if not self.asked.has(row)]
        if not fresh:
            return None
        distances = (np.array(fresh) != np.array(parent)).sum(1)
        return fresh[self.generator.choice(np.flatnonzero(distances == distances.min()).tolist())]
