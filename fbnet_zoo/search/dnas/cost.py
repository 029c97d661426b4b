"""Costs that are differentiable in the masks of candidates: sum_l sum_i m_(l,i) LAT(b_(l,i)).

The masks m are those that also mix the outputs (FBNet, Wu et al., arXiv:1812.03443).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.gradient.networks import Masks


@dataclass(frozen=True, kw_only=True)
class CandidateCost:
    """The expectation of a cost over independent choices of candidates.

    Attributes:
        metric: the same cost for one network; no term may depend on two decisions.
    """

    metric: CostMetric

    @cached_property
    def beyond(self) -> tuple[tuple[float, ...], ...]:
        """Cost of each candidate above the lowest one of its layer."""
        found = []
        for slot in self.metric.encoding.decided:
            term = next(each for each in self.metric.terms if slot in each.axes)
            costs = self.metric.slope * term.values.sum(-1).reshape(-1)
            found.append(tuple((costs - costs.min()).tolist()))
        return tuple(found)

    def expected(self, masks: Masks) -> Tensor:
        """Return the expected cost of networks drawn from masks; with masks per image, the mean."""
        mask = torch.cat(tuple(masks), -1)  # (all candidates,) or (N, all candidates)
        costs = torch.tensor([cost for layer in self.beyond for cost in layer], dtype=mask.dtype)
        return (mask @ costs.to(mask.device)).mean() + self.metric.least
