"""What a genetic search searches: decisions, scores and limits as plain functions of a population."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.predictive.breeding import one_more
from fbnet_zoo.search.predictive.pareto import Scores
from fbnet_zoo.space.encoding import Population

Score = Callable[[Population], NDArray[np.float64]]
"""Returns the scores of a population, (networks,) or (networks, objectives); higher is better."""

Excess = Callable[[Population], NDArray[np.float64]]
"""Returns by how much networks exceed the limits in total, (networks,); 0 within all of them."""

_KEPT = np.linspace(1, 0, 9)[1:, None]
"""Shares of a network's decisions that are kept when it is brought within the limits, the largest first."""


def unlimited(population: Population) -> NDArray[np.float64]:
    """Return the excess of networks where there are no limits."""
    return np.zeros(len(population))


def unchanged(population: Population) -> Population:
    """Return the canonical form of networks where no two positions are equal networks."""
    return population


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is searched. It knows no search space, so decisions of any kind can be appended to those of a network.

    Attributes:
        counts: number of options of each decision.
        score: scores of a population; several objectives give a Pareto set.
        starts: networks of the first population, (networks, decisions); one within the limits lets others be repaired.
        excess: excess of a population over the limits.
        canonical: form of a population in which equal networks are equal rows.
        among: networks that may be found, (networks, decisions); `None` for all.
    """

    counts: tuple[int, ...]
    score: Score
    starts: Population
    excess: Excess = unlimited
    canonical: Callable[[Population], Population] = unchanged
    among: Population | None = None

    def scores(self, population: Population) -> Scores:
        """Return the scores of a population, (networks, objectives).

        Raises:
            InputError: the score is not a finite number for each network.
        """
        found = np.asarray(self.score(population), dtype=np.float64)
        if found.ndim not in (1, 2) or len(found) != len(population) or found.shape[1:] == (0,):
            raise InputError(
                f"the score of {len(population)} networks has the shape {found.shape}; expected ({len(population)},) "
                f"or ({len(population)}, objectives)"
            )
        scores = found.reshape(len(found), -1) if len(found) else found.reshape(0, *found.shape[1:] or (1,))
        broken = np.flatnonzero(~np.isfinite(scores).all(1))
        if len(broken):
            network = tuple(population[broken[0]].tolist())
            raise InputError(f"the score of the network at {network} is {found[broken[0]]}; expected a finite number")
        return scores

    def settled(
        self, made: Population, toward: Population, known: Population, random: np.random.Generator
    ) -> Population:
        """Return different networks within the limits that are not known yet.

        What is known has one more decision changed, what is beyond a limit is brought back, and what is then still
        known is left out.

        Args:
            made: networks, (networks, decisions).
            toward: a network within the limits for each of them.
            known: networks that are not returned.
            random: source of random numbers.
        """
        own = self.canonical(made)
        again = self.canonical(one_more(own, is_repeated(own, known), np.array(self.counts), random))
        inside = self.repaired(again, toward, random)
        return inside[~is_repeated(inside, known)]

    def repaired(self, made: Population, toward: Population, random: np.random.Generator) -> Population:
        """Return networks within the limits, each with as many of the decisions of `made` as they allow.

        Decisions go back to those of `toward` in random order.
        """
        found, beyond = made.copy(), np.flatnonzero(self.excess(made) > 0)
        order = random.random((len(beyond), 1, made.shape[1]))
        mixed = np.where(order < _KEPT, made[beyond, None], toward[beyond, None])  # (networks, shares, decisions)
        tried = self.canonical(mixed.reshape(-1, made.shape[1])).reshape(mixed.shape)
        inside = self.excess(tried.reshape(-1, made.shape[1])).reshape(mixed.shape[:2]) == 0
        inside[:, -1] = True
        found[beyond] = tried[np.arange(len(beyond)), inside.argmax(1)]
        return found


def is_repeated(population: Population, known: Population) -> NDArray[np.bool_]:
    """Return which networks are known, or stand before in the population, (networks,)."""
    rows = np.ascontiguousarray(np.concatenate((known, population)))
    keys = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    first = np.zeros(len(rows), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return ~first[len(known) :]
