"""Costs of networks whose block, expansion, channels and image size are decisions, differentiable in the masks.

FBNetV2 propagates effective shapes (Wan et al., arXiv:2004.05565): a layer costs k^2 h w C_in C_out / groups with the
expected input and output channels and sizes. Decisions are drawn independently of one another, so the expected cost of
a layer is, exactly, its cost at each combination of size, input channels, block, expansion and output channels, weighed
with the product of the five masks. Where the cost is linear in each shape this is the paper's formula; it is right too
where it is not: in h w, of which the product has an expectation of its own, and in the middle channels, which are
rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.gradient.networks import Masks
from fbnet_zoo.space.encoding import SIZE, STEM, Encoding


@dataclass(frozen=True, kw_only=True)
class MaskedCost:
    """The expectation of a cost over independent decisions.

    Attributes:
        metric: the cost of one network.
    """

    metric: CostMetric

    @cached_property
    def _tables(self) -> tuple[Tensor, ...]:
        """What each term costs, (*options)."""
        return tuple(torch.from_numpy(self.metric.slope * term.values.sum(-1)) for term in self.metric.terms)

    def expected(self, masks: Masks) -> Tensor:
        """Return the expected cost of networks drawn from masks; of masks for each image, the mean."""
        first = masks[0]
        fixed = torch.ones(1, dtype=torch.double, device=first.device)
        full = self.metric.encoding.full([mask.double() for mask in masks], fixed)
        pairs = zip(self.metric.terms, self._tables, strict=True)
        costs = [_expected(table, [full[axis] for axis in term.axes]).mean() for term, table in pairs]
        constant = self.metric.slope * self.metric.constant + self.metric.intercept
        return (torch.stack(costs).sum() + constant).to(first.dtype)


def _expected(table: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Return the expectation, (1,) or (N,), of a table under the masks of its axes, (options,) or (N, options)."""
    own = [mask if mask.dim() > 1 else mask[None] for mask in masks]
    total = table.to(own[-1].device) @ own[-1].T  # (..., 1) or (..., N)
    for mask in reversed(own[:-1]):
        total = (total * mask.T).sum(-2)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveShape:
    """The expected shape of the output of a part of the network.

    Attributes:
        name: `stem`, a layer's, or `head`.
        channels: of the output; of the head, features.
        size: side of the output, px; of the head, 1.
    """

    name: str
    channels: float
    size: float


def effective_shapes(encoding: Encoding, masks: Masks) -> tuple[EffectiveShape, ...]:
    """Return the expected shapes of the outputs of stem, layers and head, as the paper propagates them.

    Args:
        encoding: the decisions.
        masks: of each, (options,): probabilities, or a draw.
    """
    full = [mask.detach().double().cpu() for mask in encoding.full(list(masks), torch.ones(1))]
    sizes = full[SIZE] @ torch.tensor(encoding.sides, dtype=torch.double)  # of the image, then of the outputs
    slots = [STEM, *(layer.axes[-1] for layer in encoding.layers), len(encoding.slots) - 1]
    channels = [float(full[slot] @ torch.tensor(encoding.slots[slot].values, dtype=torch.double)) for slot in slots]
    names = ["stem", *(layer.name for layer in encoding.layers), "head"]
    rows = zip(names, channels, [*sizes[1:].tolist(), 1.0], strict=True)
    return tuple(EffectiveShape(name=name, channels=each, size=size) for name, each, size in rows)
