"""Costs that are differentiable in the masks of blocks, expansions, channels and image size.

FBNetV2 propagates effective shapes (Wan et al., arXiv:2004.05565): a layer costs k^2 h w C_in C_out / groups with the
expected input and output channels and sizes. As decisions are drawn independently, the exact expected cost of a layer
is its cost at each combination of size, input channels, block, expansion and output channels, weighted with the
product of the five masks. Where the cost is linear in each shape, this is the paper's formula; it is also correct
where it is not: for h w, whose expectation is not the product of expectations, and for the rounded middle channels.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.gradient.expectation import expectation
from fbnet_zoo.search.gradient.networks import Masks
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.slots import SIZE, STEM


@dataclass(frozen=True, kw_only=True)
class MaskedCost:
    """The expectation of a cost over independent decisions.

    Attributes:
        metric: the same cost for one network.
    """

    metric: CostMetric

    @cached_property
    def _tables(self) -> tuple[Tensor, ...]:
        """The cost table of each term, (*options)."""
        return tuple(torch.from_numpy(self.metric.slope * term.values.sum(-1)) for term in self.metric.terms)

    def expected(self, masks: Masks) -> Tensor:
        """Return the expected cost of networks drawn from masks; with masks per image, the mean."""
        first = masks[0]
        fixed = torch.ones(1, dtype=torch.double, device=first.device)
        full = self.metric.encoding.full([mask.double() for mask in masks], fixed)
        pairs = zip(self.metric.terms, self._tables, strict=True)
        costs = [expectation(table, [full[axis] for axis in term.axes]).mean() for term, table in pairs]
        constant = self.metric.slope * self.metric.constant + self.metric.intercept
        return (torch.stack(costs).sum() + constant).to(first.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveShape:
    """The expected output shape of a part of the network.

    Attributes:
        name: `stem`, the name of a layer, or `head`.
        channels: number of output channels; for the head, of features.
        size: side of the output, px; 1 for the head.
    """

    name: str
    channels: float
    size: float


def effective_shapes(encoding: Encoding, masks: Masks) -> tuple[EffectiveShape, ...]:
    """Return the expected output shapes of stem, layers and head, as propagated in the paper.

    Args:
        encoding: encoding of the space.
        masks: mask of each decision, (options,): probabilities, or a draw.
    """
    full = [mask.detach().double().cpu() for mask in encoding.full(list(masks), torch.ones(1))]
    sizes = full[SIZE] @ torch.tensor(encoding.sides, dtype=torch.double)  # image, then outputs
    slots = [STEM, *(layer.axes[-1] for layer in encoding.layers), len(encoding.slots) - 1]
    channels = [float(full[slot] @ torch.tensor(encoding.slots[slot].values, dtype=torch.double)) for slot in slots]
    names = ["stem", *(layer.name for layer in encoding.layers), "head"]
    rows = zip(names, channels, [*sizes[1:].tolist(), 1.0], strict=True)
    return tuple(EffectiveShape(name=name, channels=each, size=size) for name, each, size in rows)
