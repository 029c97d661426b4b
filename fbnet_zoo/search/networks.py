"""Networks that a search compares at its end."""

from collections.abc import Iterable

from fbnet_zoo.search.limits import Costs, Limits, excess
from fbnet_zoo.space import Choices
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.spec import Name, Record


class NetworkRecord(Record):
    """A network that was compared.

    Attributes:
        name: of its definition.
        choices: in the space.
        positions: of each decision, which of its options it took.
        costs: of each metric, in its unit.
        within_limits: whether it keeps all limits.
        top1: its accuracy as the method judges it, percent.
        log_probability: under P(theta), of a method that has one.
        projected: whether it was drawn otherwise, and changed to keep the limits.
        recalibrated_images: on which batch norm was set anew before, with the weights of a supernet.
    """

    name: Name
    choices: Choices
    positions: tuple[int, ...]
    costs: dict[str, float]
    within_limits: bool
    top1: float
    log_probability: float | None = None
    projected: bool = False
    recalibrated_images: int | None = None


def network_record(
    encoding: Encoding, positions: Positions, costs: Costs, limits: Limits, *, top1: float
) -> NetworkRecord:
    """Return the record of a network with an accuracy, percent."""
    return NetworkRecord(
        name=encoding.definition(positions).name,
        choices=encoding.choices(positions),
        positions=positions,
        costs={name: cost.of(positions) for name, cost in costs.items()},
        within_limits=not excess(positions, costs, limits),
        top1=top1,
    )


def best_first(networks: Iterable[NetworkRecord]) -> tuple[NetworkRecord, ...]:
    """Return networks within the limits first, the most accurate of them first."""
    return tuple(
        sorted(networks, key=lambda each: (not each.within_limits, -each.top1, -(each.log_probability or 0.0)))
    )
