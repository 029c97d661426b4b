"""What networks cost whose block, expansion, channels and image size are decisions, differentiable in the masks.

FBNetV2 propagates effective shapes (Wan et al., arXiv:2004.05565): a layer costs k^2 h w C_in C_out / groups with the
expected input and output channels and sizes. Decisions are drawn independently of one another, so the expected cost of
a layer is, exactly, its cost at each combination of size, input channels, block, expansion and output channels, weighed
with the product of the five masks. Where the cost is linear in each shape this is the paper's formula; it is right too
where it is not: in h w, of which the product has an expectation of its own, and in the middle channels, which are
rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fbnet_zoo.benchmarks.latency_table import LatencyTable
from fbnet_zoo.search.cost import check_additive
from fbnet_zoo.search.masked_points import SIZE, STEM, MaskedPoints
from fbnet_zoo.search.masked_tables import CostTable, cheapest, cost_tables
from fbnet_zoo.search.networks import Masks, Positions
from fbnet_zoo.search.prices import Counts, Prices, TableLatency
from fbnet_zoo.space import Space

_CHECKED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedMetric:
    """A cost that adds up over the layers of a space with ranges.

    Attributes:
        name: of the metric, such as `macs`.
        unit: of all figures.
        fastest: positions of the cheapest network of the space.
        points: the decisions.
        constant: what every network costs beside its parts.
        tables: of stem, layers and head, in order.
    """

    name: str
    unit: str
    fastest: Positions
    points: MaskedPoints
    constant: float
    tables: tuple[CostTable, ...]

    @property
    def base(self) -> float:
        """Cost of the cheapest network of the space."""
        return self.of(self.fastest)

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of the network at some positions."""
        full = self.points.full(positions, 0)
        return self.constant + sum(table.of(full) for table in self.tables)

    def expected(self, masks: Masks) -> Tensor:
        """Return the cost under masks, a number that is differentiable in them; of masks for each image, the mean.

        With the probabilities softmax(theta) as masks it is the expectation over networks drawn from them.
        """
        first = masks[0]
        fixed = torch.ones(1, dtype=torch.double, device=first.device)
        full = self.points.full([mask.double() for mask in masks], fixed)
        costs = [table.expected(full).mean() for table in self.tables]
        return (torch.stack(costs).sum() + self.constant).to(first.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveShape:
    """What a part of the network puts out in expectation.

    Attributes:
        name: `stem`, a layer's, or `head`.
        channels: of the output; of the head, features.
        size: of the output's side, px; of the head, 1.
    """

    name: str
    channels: float
    size: float


def masked_macs(space: Space, *, num_classes: int = 1000, in_channels: int = 3) -> MaskedMetric:
    """Return the multiply-accumulates of a space's networks, for one image.

    Args:
        space: whose layers are one block each.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.

    Raises:
        InputError: a layer is several blocks.

    >>> from fbnet_zoo.space import load_space
    >>> metric = masked_macs(load_space("digits_masking"), num_classes=10)
    >>> metric.of(metric.fastest) == metric.base
    True
    """
    return masked_metric(space, Counts(name="macs", in_channels=in_channels, num_classes=num_classes))


def masked_params(space: Space, *, num_classes: int = 1000, in_channels: int = 3) -> MaskedMetric:
    """Return the trainable values of a space's networks; arguments as of `masked_macs`."""
    return masked_metric(space, Counts(name="params", in_channels=in_channels, num_classes=num_classes))


def masked_latency(space: Space, table: LatencyTable, *, num_classes: int = 1000, in_channels: int = 3) -> MaskedMetric:
    """Return the latency of a space's networks, ms, by a table with its correction; the others as of `masked_macs`.

    Raises:
        InputError: a layer is several blocks, or the table lacks an operator of the space.
    """
    return masked_metric(space, TableLatency(table=table, in_channels=in_channels, num_classes=num_classes))


def masked_metric(space: Space, prices: Prices) -> MaskedMetric:
    """Return a cost of a space's networks by the prices of their parts.

    Raises:
        InputError: a layer is several blocks, a part has no price, or whole networks cost something else than parts.
    """
    points = MaskedPoints(space)
    tables = cost_tables(points, prices)
    pairs = zip(points.slots, cheapest(tables), strict=True)
    fastest = tuple(position for slot, position in pairs if slot.is_open)
    metric = MaskedMetric(
        name=prices.name, unit=prices.unit, fastest=fastest, points=points, constant=prices.constant, tables=tables
    )
    for positions in (fastest, *(points.positions(space.sample(seed)) for seed in range(_CHECKED))):
        check_additive(metric, positions, prices.whole(space.decode(points.choices(positions))))
    return metric


def effective_shapes(points: MaskedPoints, masks: Masks) -> tuple[EffectiveShape, ...]:
    """Return the expected shapes of what stem, layers and head put out, as the paper propagates them.

    Args:
        points: the decisions.
        masks: of each, (options,): probabilities, or a draw.
    """
    full = [mask.detach().double().cpu() for mask in points.full(list(masks), torch.ones(1))]
    sizes = full[SIZE] @ torch.tensor(points.sides, dtype=torch.double)  # of the image, then of the outputs
    slots = [STEM, *(place.axes[-1] for place in points.places), len(points.slots) - 1]
    channels = [float(full[slot] @ torch.tensor(points.slots[slot].values, dtype=torch.double)) for slot in slots]
    names = ["stem", *(place.name for place in points.places), "head"]
    rows = zip(names, channels, [*sizes[1:].tolist(), 1.0], strict=True)
    return tuple(EffectiveShape(name=name, channels=each, size=size) for name, each, size in rows)
