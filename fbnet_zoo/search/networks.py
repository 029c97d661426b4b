"""Records of the networks that a search compares."""

import math
from collections.abc import Iterable
from typing import Annotated

from fbnet_zoo.search.config import Count
from fbnet_zoo.search.joint import JointEncoding
from fbnet_zoo.search.limits import Costs, Limits, excess
from fbnet_zoo.space import Choices
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.spec import LEFT_OUT, Name, Percent, Record

RecipeValue = int | float | bool | str | None


class NetworkRecord(Record):
    """A compared network.

    Attributes:
        name: name of the definition.
        choices: choices in the space.
        positions: position of the chosen option of each decision.
        costs: metric name to cost, in the metric's unit.
        within_limits: whether the network is within all limits.
        top1: accuracy as determined by the method, percent.
        log_probability: log-probability under P(theta), for methods with theta.
        projected: whether the drawn network was changed to satisfy the limits.
        proposed: whether the network was not drawn but proposed because it is near the limits.
        recalibrated_images: number of images for batch norm recalibration, with a supernet's weights.
        epochs: number of epochs after which its training was stopped early; `None` if it was not.
        recipe: values of the training recipe that were searched with the network; `None` if none were.
    """

    name: Name
    choices: Choices
    positions: tuple[int, ...]
    costs: dict[str, float]
    within_limits: bool
    top1: Percent
    log_probability: float | None = None
    projected: bool = False
    proposed: bool = False
    recalibrated_images: int | None = None
    epochs: Annotated[Count | None, LEFT_OUT] = None
    recipe: Annotated[dict[str, RecipeValue] | None, LEFT_OUT] = None


def network_record(
    encoding: Encoding, positions: Positions, costs: Costs, limits: Limits, *, top1: float, epochs: int | None = None
) -> NetworkRecord:
    """Return the record of a network whose accuracy is known, percent, after some epochs if it was stopped early."""
    return NetworkRecord(
        name=encoding.definition(positions).name,
        choices=encoding.choices(positions),
        positions=positions,
        costs={name: cost.of(positions) for name, cost in costs.items()},
        within_limits=not excess(positions, costs, limits),
        top1=top1,
        epochs=epochs,
        recipe=encoding.values(positions) if isinstance(encoding, JointEncoding) else None,
    )


def best_first(networks: Iterable[NetworkRecord]) -> tuple[NetworkRecord, ...]:
    """Return networks sorted: within the limits first, then those trained for more epochs, then by accuracy."""
    return tuple(sorted(networks, key=_rank))


def _rank(network: NetworkRecord) -> tuple[bool, float, float, float]:
    trained = -network.epochs if network.epochs is not None else -math.inf
    return (not network.within_limits, trained, -network.top1, -(network.log_probability or 0.0))
