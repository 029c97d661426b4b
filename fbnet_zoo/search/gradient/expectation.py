"""Expectations over independent decisions, differentiable in their masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fbnet_zoo.search.gradient.networks import Masks
from fbnet_zoo.search.predicted import PredictedMetric


def expectation(table: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Return the expectation of a table under the masks of its last axes.

    Args:
        table: (..., *options), one axis of options for each mask.
        masks: (options,) or (N, options) each.

    Returns:
        (..., 1) or (..., N).
    """
    own = [mask if mask.dim() > 1 else mask[None] for mask in masks]
    total = table.to(own[-1].device) @ own[-1].T
    for mask in reversed(own[:-1]):
        total = (total * mask.T).sum(-2)
    return total


@dataclass(frozen=True, kw_only=True)
class PredictedCost:
    """The cost that a predictor gives for the expected values of networks drawn from masks.

    The values that the predictor adds up over operators are linear in the masks, as in `MaskedCost`; the predictor
    itself is not, so that this is the cost of an average network. Of a single network, it is exact.

    Attributes:
        metric: the same cost for one network.
    """

    metric: PredictedMetric

    @cached_property
    def _tables(self) -> tuple[Tensor, ...]:
        """The values of each term, (values, *options)."""
        size = self.metric.size
        folded = (each.values.reshape(*each.values.shape[:-1], -1, size).sum(-2) for each in self.metric.values.terms)
        return tuple(torch.from_numpy(np.ascontiguousarray(np.moveaxis(each, -1, 0))) for each in folded)

    def expected(self, masks: Masks) -> Tensor:
        """Return the cost for networks drawn from masks; with masks per image, for the mean of all."""
        first = masks[0]
        fixed = torch.ones(1, dtype=torch.double, device=first.device)
        full = self.metric.encoding.full([mask.double() for mask in masks], fixed)
        pairs = zip(self.metric.values.terms, self._tables, strict=True)
        sums = [expectation(table, [full[axis] for axis in term.axes]).mean(-1) for term, table in pairs]
        return self.metric.log(torch.stack(sums).sum(0)[None]).exp()[0].to(first.dtype)
