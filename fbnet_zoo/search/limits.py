"""Limits on what networks may cost."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.space.encoding import Population, Positions


class NetworkCost(Protocol):
    """A cost of the networks of a space.

    Attributes:
        name: such as `latency`.
        unit: of all figures.
        cheapest: positions of the network that costs the least.
        least: what that costs.
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
        """Return the costs of several networks, (networks,), given as (networks, decisions)."""


Costs = Mapping[str, NetworkCost]
"""The costs that are known, by name."""

Limits = Mapping[str, float]
"""The most that a cost may be, in its unit, by name."""


def excess(positions: Sequence[int], costs: Costs, limits: Limits) -> float:
    """Return by how much a network exceeds its limits in all, as shares of them; 0 where it keeps them."""
    return sum(max(0.0, costs[name].of(positions) / limit - 1) for name, limit in limits.items())


def population_excess(population: Population, costs: Costs, limits: Limits) -> NDArray[np.float64]:
    """Return the same of several networks, (networks,)."""
    total = np.zeros(len(population))
    for name, limit in limits.items():
        total += np.maximum(0.0, costs[name].population(population) / limit - 1)
    return total


def require_reachable(costs: Costs, limits: Limits) -> None:
    """Refuse a limit that no network of the space keeps, or that is on a cost that is not known.

    Raises:
        InputError: always then; the text says what the least is.
    """
    for name, limit in limits.items():
        require_known(costs, name, "a limit is")
        unit, least = costs[name].unit, costs[name].least
        if not (limit > 0 and limit >= least):
            most, found = (f"{value:g} {unit}".rstrip() for value in (limit, least))
            raise InputError(
                f"no network of the space keeps its {name} within {most}: the least is {found}; "
                "raise the limit, or take a space with smaller blocks or images"
            )


def require_known(costs: Costs, name: str, what: str) -> None:
    """Refuse a name that no cost has.

    Raises:
        InputError: always then; the text begins with `what`.
    """
    if name not in costs:
        raise InputError(f"{what} on {name!r}, which is not measured; expected {' or '.join(costs) or 'no cost'}")
