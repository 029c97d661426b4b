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
"""Failed mutations of a network (evaluated before, or over a limit) after which a random network is drawn."""


class Mutation(Protocol):
    """Creates children of a network."""

    def child(self, parent: Positions) -> Positions | None:
        """Return a network near its parent, within the limits and not evaluated yet; `None` if none is left."""


def evolve(trials: Evaluations, config: EvolutionConfig) -> None:
    """Evaluate `config.budget` different networks, or all networks within the limits if there are fewer.

    The first population is evaluated at once, children one after the other. Networks whose evaluation failed have no
    children.

    Raises:
        InputError: the first population does not fit: too few networks are within the limits.
    """
    among, generator = trials.evaluator.candidates, random.Random(config.seed)  # noqa: S311 - not for cryptography
    population: deque[tuple[float, Positions]] = deque(maxlen=config.population)
    first = draw_networks(
        trials.encoding, trials.costs, config.limits, count=config.initial, seed=config.seed, among=among
    )
    for positions, top1 in zip(first, trials.top1_of(first), strict=True):
        if top1 is not None:
            population.append((top1, trials.canonical(positions)))
    mutation: Mutation = (
        Change(trials, config.limits, generator)
        if among is None
        else Nearest(trials, config.limits, generator, trials.encoding.canonical(among))
    )
    while population and len(trials.done) < config.budget:
        _, parent = max(generator.choices(population, k=config.sample))
        child = mutation.child(parent)
        if child is None:
            return
        top1 = trials.top1(child)
        if top1 is not None:
            population.append((top1, child))


class Change:
    """Changes one decision to another option."""

    def __init__(self, trials: Evaluations, limits: Limits, generator: random.Random) -> None:
        self.trials, self.limits, self.generator = trials, limits, generator

    def child(self, parent: Positions) -> Positions | None:
        """Return a network that differs in one decision, or a random one if those are exhausted."""
        for make in (self._changed, self._drawn):
            for _ in range(_TRIES):
                found = self.trials.canonical(make(parent))
                if not self.trials.has(found) and not excess(found, self.trials.costs, self.limits):
                    return found
        return None

    def _changed(self, parent: Positions) -> Positions:
        counts = self.trials.encoding.counts
        at = self.generator.randrange(len(counts))
        other = (parent[at] + self.generator.randrange(1, counts[at])) % counts[at]
        return (*parent[:at], other, *parent[at + 1 :])

    def _drawn(self, _: Positions) -> Positions:
        return tuple(self.generator.randrange(count) for count in self.trials.encoding.counts)


class Nearest:
    """Picks, from a list of networks, one that differs in as few decisions as possible."""

    def __init__(self, trials: Evaluations, limits: Limits, generator: random.Random, candidates: Population) -> None:
        self.trials, self.generator = trials, generator
        self.candidates = candidates[population_excess(candidates, trials.costs, limits) == 0]
        self.fresh = np.ones(len(self.candidates), dtype=np.bool_)
        self._at = {network.tobytes(): at for at, network in enumerate(self.candidates)}
        self._seen = 0

    def child(self, parent: Positions) -> Positions | None:
        """Return one of the nearest networks not evaluated yet, at random."""
        self._forget_evaluated()
        left = np.flatnonzero(self.fresh)
        if not len(left):
            return None
        distances = (self.candidates[left] != np.array(parent)).sum(1)
        nearest = left[distances == distances.min()]
        return tuple(self.candidates[self.generator.choice(nearest.tolist())].tolist())

    def _forget_evaluated(self) -> None:
        done = self.trials.done
        for each in done[self._seen :]:
            at = self._at.get(np.array(each.positions, dtype=np.int64).tobytes())
            if at is not None:
                self.fresh[at] = False
        self._seen = len(done)
