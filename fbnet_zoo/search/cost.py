"""What networks of a space cost, as tensors: one figure for each layer and candidate, so that sums are differentiable.

LAT(a) = sum_l LAT(b_l), and for a supernet sum_l sum_i m_(l,i) LAT(b_(l,i)) with the masks m that also mix the
outputs (FBNet, Wu et al., arXiv:1812.03443).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fbnet_zoo import complexity, layers
from fbnet_zoo.benchmarks.latency_table import LatencyTable, network_ms
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.networks import Metric
from fbnet_zoo.search.points import candidates, definition_at, positions_of
from fbnet_zoo.space import Space
from fbnet_zoo.spec import ArchSpec

Measure = Callable[[ArchSpec], float]
"""Takes a network of the space and returns what it costs; the costs of its blocks must add up."""

_TOLERANCE, _CHECKED = 1e-6, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CostMetric:
    """A cost that adds up over layers.

    Attributes:
        name: of the metric, such as `latency`.
        unit: of all figures.
        base: cost of the cheapest network of the space.
        candidates: what each candidate of each layer costs beyond the cheapest one of that layer.
    """

    name: str
    unit: str
    base: float
    candidates: tuple[tuple[float, ...], ...]

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of the network at some positions."""
        pairs = zip(self.candidates, positions, strict=True)
        return self.base + sum(costs[position] for costs, position in pairs)

    @property
    def fastest(self) -> tuple[int, ...]:
        """The positions of the cheapest network: exact, because costs add up."""
        return tuple(costs.index(min(costs)) for costs in self.candidates)

    @property
    def slowest(self) -> tuple[int, ...]:
        """The positions of the dearest network."""
        return tuple(costs.index(max(costs)) for costs in self.candidates)

    def expected(self, masks: Sequence[Tensor]) -> Tensor:
        """Return the cost under masks, a number that is differentiable in them; of masks for each image, the mean.

        With the probabilities softmax(theta) as masks it is the expectation over networks drawn from them.
        """
        mask = torch.cat(tuple(masks), -1)  # (all candidates,) or (N, all candidates)
        costs = torch.tensor([cost for layer in self.candidates for cost in layer], dtype=mask.dtype)
        return (mask @ costs.to(mask.device)).mean() + self.base


def latency_cost(
    space: Space, table: LatencyTable, *, input_size: int | None = None, num_classes: int = 1000, in_channels: int = 3
) -> CostMetric:
    """Return the latency of a space's networks, ms, by a table with its correction.

    Args:
        space: of candidates.
        table: of a device; it must have every operator of the space at this size.
        input_size: of the image, px; the space's largest when not said.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.

    Raises:
        InputError: the space leaves more open than candidates, or the table lacks an operator.
    """

    def measure(arch: ArchSpec) -> float:
        plan = layers.plan(arch, in_channels=in_channels, num_classes=num_classes)
        return network_ms(table, plan, arch.input_size)

    return additive_cost(space, measure, name="latency", unit="ms", input_size=input_size)


def macs_cost(
    space: Space, *, input_size: int | None = None, num_classes: int = 1000, in_channels: int = 3
) -> CostMetric:
    """Return the multiply-accumulates of a space's networks, for one image; arguments as of `latency_cost`."""

    def measure(arch: ArchSpec) -> float:
        return complexity.cost(arch, in_channels=in_channels, num_classes=num_classes).macs

    return additive_cost(space, measure, name="macs", unit="MACs", input_size=input_size)


def params_cost(
    space: Space, *, input_size: int | None = None, num_classes: int = 1000, in_channels: int = 3
) -> CostMetric:
    """Return the trainable values of a space's networks; arguments as of `latency_cost`.

    >>> from fbnet_zoo.space import load_space
    >>> metric = params_cost(load_space("digits_tiny"), num_classes=10)
    >>> metric.of(metric.fastest) == metric.base
    True
    """

    def measure(arch: ArchSpec) -> float:
        return complexity.cost(arch, in_channels=in_channels, num_classes=num_classes).params

    return additive_cost(space, measure, name="params", unit="parameters", input_size=input_size)


def additive_cost(space: Space, measure: Measure, *, name: str, unit: str, input_size: int | None = None) -> CostMetric:
    """Return any cost that adds up, found from networks that differ from one another in one layer.

    Raises:
        InputError: the space leaves more open than candidates, or several layers changed at once do not cost the sum.
    """
    names, start = candidates(space), [0] * len(space.layers)
    first = measure(definition_at(space, start, input_size))
    beyond = []
    for layer, options in enumerate(names):
        others = [[*start[:layer], position, *start[layer + 1 :]] for position in range(1, len(options))]
        beyond.append([0.0, *(measure(definition_at(space, other, input_size)) - first for other in others)])
    cheapest = [min(costs) for costs in beyond]
    fastest = [costs.index(least) for costs, least in zip(beyond, cheapest, strict=True)]
    metric = CostMetric(
        name=name,
        unit=unit,
        base=measure(definition_at(space, fastest, input_size)),
        candidates=tuple(tuple(cost - least for cost in costs) for costs, least in zip(beyond, cheapest, strict=True)),
    )
    for positions in (metric.slowest, *(positions_of(space, space.sample(seed)) for seed in range(_CHECKED))):
        check_additive(metric, positions, measure(definition_at(space, positions, input_size)))
    return metric


def check_additive(metric: Metric, positions: Sequence[int], measured: float) -> None:
    """Refuse a cost of which a whole network has more or less than its parts.

    Raises:
        InputError: always then.
    """
    total = metric.of(positions)
    if abs(measured - total) > _TOLERANCE * max(abs(measured), abs(total)):
        raise InputError(
            f"the {metric.name} of the network at {tuple(positions)} is {measured:g} {metric.unit}, but its layers add "
            f"up to {total:g}; the search needs a cost that adds up over layers"
        )
