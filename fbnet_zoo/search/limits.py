"""Limits on the costs of networks."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.space.encoding import Population, Positions


class NetworkCost(Protocol):
    """A cost of the networks of a space.

    Attributes:
        name: name of the cost, such as `latency`.
        unit: unit of all values.
        cheapest: positions of the network with the lowest cost.
        least: the lowest cost of any network.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def cheapest(self) -> Positions: ...
    @property
    def least(self) -> float: ...

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network."""

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of a population, (networks,), given as (networks, decisions)."""


Costs = Mapping[str, NetworkCost]
"""The known costs, by name."""

Limits = Mapping[str, float]
"""Cost name to the highest value allowed, in the cost's unit."""

NEAR = 0.95
"""Share of at least one limit that a network near the limits uses."""


def excess(positions: Sequence[int], costs: Costs, limits: Limits) -> float:
    """Return the sum of a network's relative excesses over the limits; 0 if it is within all of them."""
    return sum(max(0.0, costs[name].of(positions) / limit - 1) for name, limit in limits.items())


def population_excess(population: Population, costs: Costs, limits: Limits) -> NDArray[np.float64]:
    """Return `excess` of each network of a population, (networks,)."""
    total = np.zeros(len(population))
    for name, limit in limits.items():
        total += np.maximum(0.0, costs[name].population(population) / limit - 1)
    return total


def population_used(population: Population, costs: Costs, limits: Limits) -> NDArray[np.float64]:
    """Return the largest share of a limit that each network of a population uses, (networks,); there is a limit."""
    return np.max([costs[name].population(population) / limit for name, limit in limits.items()], axis=0)


def require_reachable(costs: Costs, limits: Limits) -> None:
    """Refuse a limit that no network of the space satisfies, or that is on an unknown cost.

    Raises:
        InputError: a limit is out of reach (the text gives the lowest reachable value), or on an unknown cost.
    """
    for name, limit in limits.items():
        require_known(costs, name, "a limit is")
        unit, least = costs[name].unit, costs[name].least
        if not (limit > 0 and limit >= least):
            most, found = (f"{value:g} {unit}".rstrip() for value in (limit, least))
            raise InputError(
                f"no network of the space satisfies {name} <= {most}: the lowest is {found}; "
                "raise the limit, or use a space with smaller blocks or images"
            )


def require_known(costs: Costs, name: str, what: str) -> None:
    """Refuse the name of an unknown cost.

    Raises:
        InputError: no cost has this name; the text starts with `what`.
    """
    if name not in costs:
        raise InputError(f"{what} on {name!r}, which is not a known cost; expected {' or '.join(costs) or 'none'}")
