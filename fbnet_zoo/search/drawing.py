"""Random networks of a space, drawn evenly from those within the limits."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.limits import NEAR, Costs, Limits, population_excess, population_used
from fbnet_zoo.space.encoding import Encoding, Population, Positions

DRAWS, _AT_ONCE = 100_000, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Random networks.

    Attributes:
        networks: different networks, in the order in which they were drawn.
        tried: number of networks that were drawn until all were found.
    """

    networks: list[Positions]
    tried: int


def draw_networks(
    encoding: Encoding, costs: Costs, limits: Limits, *, count: int, seed: int, among: Population | None = None
) -> list[Positions]:
    """Return different random networks within the limits; every option of a decision is equally likely.

    Args:
        encoding: encoding of the space.
        costs: costs named by the limits.
        limits: highest allowed costs.
        count: number of networks.
        seed: random seed.
        among: networks to draw from (default: the whole space).

    Raises:
        InputError: too few networks were found within the limits.
    """

    def within(rows: Population) -> NDArray[np.bool_]:
        return population_excess(rows, costs, limits) == 0

    return _kept(encoding, within, "within the limits", count=count, seed=seed, among=among).networks


def draw_near_limits(encoding: Encoding, costs: Costs, limits: Limits, *, count: int, seed: int) -> Drawn:
    """Return different random networks within the limits that use at least 95 % of one; without limits, any.

    Raises:
        InputError: too few networks were found.
    """

    def near(rows: Population) -> NDArray[np.bool_]:
        within = population_excess(rows, costs, limits) == 0
        return within & (population_used(rows, costs, limits) >= NEAR) if limits else within

    words = f"at {100 * NEAR:g} to 100 % of the limits" if limits else "within the limits"
    return _kept(encoding, near, words, count=count, seed=seed, among=None)


def _kept(
    encoding: Encoding,
    keep: Callable[[Population], NDArray[np.bool_]],
    where: str,
    *,
    count: int,
    seed: int,
    among: Population | None,
) -> Drawn:
    found: dict[bytes, Positions] = {}
    tried = 0
    for rows in _drawn(encoding, random.Random(seed), among):  # noqa: S311 - not for cryptography
        kept = np.flatnonzero(keep(rows))
        for row, network in zip(kept.tolist(), encoding.canonical(rows[kept]), strict=True):
            found.setdefault(network.tobytes(), tuple(rows[row].tolist()))
            if len(found) == count:
                return Drawn(networks=list(found.values()), tried=tried + row + 1)
        tried += len(rows)
    total = f"{tried:,} random" if among is None else f"{tried:,}"
    raise InputError(
        f"only {len(found)} of {total} networks of {encoding.space.name} are {where}, "
        f"but {count} are needed; raise the limits, or request fewer"
    )


def _drawn(encoding: Encoding, generator: random.Random, among: Population | None) -> Iterator[Population]:
    if among is not None:
        order = generator.sample(range(len(among)), len(among))
        yield among[order]
        return
    for start in range(0, DRAWS, _AT_ONCE):
        number = min(_AT_ONCE, DRAWS - start)
        rows = [[generator.randrange(count) for count in encoding.counts] for _ in range(number)]
        yield np.array(rows, dtype=np.int64)
