"""The costs of the parts of a space with ranges, one for each combination of the decisions that they depend on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from fbnet_zoo import layers
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.search.masked_points import SIZE, STEM, MaskedPlace, MaskedPoints
from fbnet_zoo.search.prices import Prices
from fbnet_zoo.space import Space
from fbnet_zoo.walk import block_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """What one part of a network costs.

    Attributes:
        axes: of which decisions' slots its dimensions are.
        values: one for each combination of options, in double precision.
    """

    axes: tuple[int, ...]
    values: Tensor

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost at positions of all slots."""
        return float(self.values.numpy()[tuple(positions[axis] for axis in self.axes)])

    def expected(self, masks: Sequence[Tensor]) -> Tensor:
        """Return the expectation, (1,) or (N,), under masks of all slots, (options,) or (N, options)."""
        own = [masks[axis] if masks[axis].dim() > 1 else masks[axis][None] for axis in self.axes]
        total = self.values.to(own[-1].device) @ own[-1].T  # (..., 1) or (..., N)
        for mask in reversed(own[:-1]):
            total = (total * mask.T).sum(-2)
        return total


def cost_tables(points: MaskedPoints, prices: Prices) -> tuple[CostTable, ...]:
    """Return the tables of stem, layers and head, in order.

    Raises:
        InputError: a part has no price.
    """
    return (_stem_table(points, prices), *_layer_tables(points, prices), _head_table(points, prices))


def cheapest(tables: Sequence[CostTable]) -> tuple[int, ...]:
    """Return the positions, one for each slot, of the network whose parts cost the least in all.

    Exact: layer by layer it keeps the best way to each image size and number of channels (dynamic programming).
    """
    stem, *between, head = tables
    best, ways = stem.values, []  # best: (sizes, channels)
    for table in between:
        inner = table.values.permute(0, 1, 4, 2, 3)  # (sizes, input channels, output channels, blocks, expansions)
        least, inside = inner.flatten(3).min(-1)
        best, before = (best[:, :, None] + least).min(1)
        ways.append((before, inside, inner.shape[-1]))
    whole = best[:, :, None] + head.values
    size, channels, features = (int(index) for index in torch.unravel_index(whole.argmin(), whole.shape))
    found = [features]
    for before, inside, expansions in reversed(ways):
        after, channels = channels, int(before[size, channels])
        found += [after, *reversed(divmod(int(inside[size, channels, after]), expansions))]
    return (size, channels, *reversed(found))


def _stem_table(points: MaskedPoints, prices: Prices) -> CostTable:
    frame = layers.plan(points.space.frame, in_channels=prices.in_channels, num_classes=prices.num_classes)
    stems = [replace(frame.stem, out_channels=channels) for channels in points.slots[STEM].values]
    values = [[prices.block(stem, sides[0]) for stem in stems] for sides in points.sides]
    return CostTable(axes=(SIZE, STEM), values=torch.tensor(values, dtype=torch.double))


def _layer_tables(points: MaskedPoints, prices: Prices) -> list[CostTable]:
    """Return the tables of the layers; equal layers share their values."""
    known: dict[object, Tensor] = {}
    tables = []
    for index, place in enumerate(points.places):
        sides = tuple(own[index + 1] for own in points.sides)
        key = (tuple(place.branches.values()), place.before, place.expansions, place.after, sides)
        if key not in known:
            known[key] = _layer_values(points.space, place, sides if prices.sized else sides[:1], prices).expand(
                len(sides), -1, -1, -1, -1
            )
        tables.append(CostTable(axes=(SIZE, *place.axes), values=known[key]))
    return tables


def _layer_values(space: Space, place: MaskedPlace, sides: Sequence[int], prices: Prices) -> Tensor:
    """Return what a layer costs, (sizes, input channels, blocks, expansions, output channels)."""
    shape = (len(place.before), len(place.branches), len(place.expansions), len(place.after))
    costs: list[list[float]] = []
    for before, branch, expansion, after in product(
        place.before, place.branches.values(), place.expansions, place.after
    ):
        plan = space.plan(place.block(branch, before, expansion, after))
        costs.append([prices.block(plan, side) for side in sides])
    return torch.tensor(costs, dtype=torch.double).T.reshape(len(sides), *shape)


def _head_table(points: MaskedPoints, prices: Prices) -> CostTable:
    """Return what head, pooling and classifier cost, (sizes, input channels, features)."""
    frame = layers.plan(points.space.frame, in_channels=prices.in_channels, num_classes=prices.num_classes)
    networks = [[replace(frame, head=head) for head in row] for row in points.heads()]
    values = [[[_head_cost(network, side[-1], prices) for network in row] for row in networks] for side in points.sides]
    return CostTable(
        axes=(SIZE, points.places[-1].axes[-1], len(points.slots) - 1), values=torch.tensor(values, dtype=torch.double)
    )


def _head_cost(network: NetworkPlan, side: int, prices: Prices) -> float:
    *_, last = block_layers("head", network.head, side)
    return prices.block(network.head, side) + prices.end(network, last.size_out)
