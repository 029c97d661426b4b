"""Random networks of a space, drawn evenly from those within the limits."""

import random
from collections.abc import Iterator

import numpy as np

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.limits import Costs, Limits, population_excess
from fbnet_zoo.space.encoding import Encoding, Population, Positions

DRAWS, _AT_ONCE = 100_000, 256


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
    found: dict[bytes, Positions] = {}
    for rows in _drawn(encoding, random.Random(seed), among):  # noqa: S311 - not for cryptography
        kept = rows[population_excess(rows, costs, limits) == 0]
        for positions, network in zip(kept.tolist(), encoding.canonical(kept), strict=True):
            found.setdefault(network.tobytes(), tuple(positions))
            if len(found) == count:
                return list(found.values())
    total = f"{DRAWS:,} random" if among is None else f"{len(among):,}"
    raise InputError(
        f"only {len(found)} of {total} networks of {encoding.space.name} are within the limits, "
        f"but {count} are needed; raise the limits, or request fewer"
    )


def _drawn(encoding: Encoding, generator: random.Random, among: Population | None) -> Iterator[Population]:
    if among is not None:
        order = generator.sample(range(len(among)), len(among))
        yield among[order]
        return
    for _ in range(0, DRAWS, _AT_ONCE):
        rows = [[generator.randrange(count) for count in encoding.counts] for _ in range(_AT_ONCE)]
        yield np.array(rows, dtype=np.int64)
