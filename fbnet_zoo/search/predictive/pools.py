"""Networks within the limits, among which a predictor chooses the next ones to evaluate."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fbnet_zoo._require import require
from fbnet_zoo.search.limits import Costs, Limits, population_excess
from fbnet_zoo.search.predictive.features import Floats, random_networks
from fbnet_zoo.search.predictive.genetic import GeneticConfig, genetic_search
from fbnet_zoo.search.predictive.problem import Problem, is_repeated
from fbnet_zoo.space.encoding import Encoding, Population

_GENERATIONS = 40
_RANDOM = 1000
_DRAWN, _MOST_DRAWN = 2**11, 2**17


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The networks that may be evaluated.

    Attributes:
        encoding: encoding of the space.
        costs: costs, those that the limits name among them.
        limits: highest allowed costs.
        among: networks to choose from, (networks, decisions), in canonical form; `None` for the whole space.
    """

    encoding: Encoding
    costs: Costs
    limits: Limits
    among: Population | None

    def new(self, networks: Population, known: Population) -> Population:
        """Return the networks that are within the limits, different, and not known, in canonical form."""
        rows = self.encoding.canonical(networks)
        rows = rows[self.excess(rows) == 0]
        return rows[~is_repeated(rows, known)]

    def excess(self, networks: Population) -> Floats:
        """Return the sum of each network's relative excesses over the limits, (networks,)."""
        return population_excess(networks, self.costs, self.limits)

    def random(self, known: Population, *, seed: int) -> Population:
        """Return new networks at random; all of the list if there is one."""
        if self.among is not None:
            return self.new(np.random.default_rng(seed).permutation(self.among), known)
        generator = np.random.default_rng(seed)
        return self._found(lambda: random_networks(self.encoding, _DRAWN, generator=generator), known, _RANDOM)

    def quasi_random(self, count: int, *, seed: int) -> Population:
        """Return up to `count` networks by a scrambled Sobol sequence, which fills a space evenly; all of a list."""
        if self.among is not None:
            return self.random(self.among[:0], seed=seed)
        counts = np.array(self.encoding.counts)
        sampler = require("scipy.stats.qmc", extra="train").Sobol(len(counts), rng=seed)
        none = np.zeros((0, len(counts)), dtype=np.int64)
        return self._found(lambda: (sampler.random(_DRAWN) * counts).astype(np.int64), none, count)

    def _found(self, draw: Callable[[], Population], known: Population, count: int) -> Population:
        """Return up to `count` new networks of those that are drawn until there are as many, or too many were drawn."""
        found = known[:0]
        for _ in range(_MOST_DRAWN // _DRAWN):
            found = np.concatenate((found, self.new(draw(), np.concatenate((known, found)))))
            if len(found) >= count:
                break
        return found[:count]

    def bred(self, score: Callable[[Population], Floats], known: Population, *, seed: int) -> Population:
        """Return new networks with high scores, found by a genetic search from the known ones; all of a list."""
        if self.among is not None:
            return self.new(self.among, known)
        problem = Problem(
            counts=self.encoding.counts,
            score=score,
            starts=known,
            excess=self.excess,
            canonical=self.encoding.canonical,
        )
        found = genetic_search(problem, GeneticConfig(generations=_GENERATIONS, seed=seed))
        return self.new(np.array(found.networks, dtype=np.int64), known)
