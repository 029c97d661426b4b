"""The loss of theta: the cross-entropy, weighed against the costs of networks.

A penalty trades accuracy for cost at a fixed rate; limits are satisfied by multipliers that grow while they are
exceeded. Either or both may be used.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.gradient.config import Multipliers, ProductPenalty, SumPenalty
from fbnet_zoo.search.limits import NetworkCost, require_known, require_reachable


class Objective:
    """The loss of theta.

    Args:
        metrics: costs that penalty and limits may name.
        penalty: cost penalty, or `None`.
        limits: metric name to the highest value allowed, in the metric's unit.
        keeping: how limits are satisfied.

    Raises:
        InputError: a metric is unknown, a limit is out of reach, or a cost is too small for the penalty's unit.
    """

    def __init__(
        self,
        metrics: Sequence[NetworkCost],
        penalty: ProductPenalty | SumPenalty | None,
        limits: Mapping[str, float],
        keeping: Multipliers,
    ) -> None:
        check_objective(metrics, penalty, limits)
        self.penalty, self.limits, self.keeping = penalty, dict(limits), keeping

    def easing(self, starts: Mapping[str, float], done: float) -> Mapping[str, float]:
        """Return the limits after a share `done` of theta's epochs, with `starts` as the initial average costs."""
        return {name: self.keeping.eased(limit, starts[name], done) for name, limit in self.limits.items()}

    def __call__(
        self,
        cross_entropy: Tensor,
        costs: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
        multipliers: Tensor,
        limits: Mapping[str, float] | None = None,
    ) -> Tensor:
        """Return the loss of theta.

        Args:
            cross_entropy: cross-entropy of the supernet's output under the masks.
            costs: cost of each metric under the same masks, for the penalty.
            expected: expectation of each metric over P(theta), for the limits: at a high temperature, masks are nearly
                uniform, whatever theta prefers.
            multipliers: multipliers of the limits, (limits,).
            limits: current limits (default: the final ones).
        """
        loss = cross_entropy
        if self.penalty is not None:
            loss = self.penalty(loss, costs[self.penalty.metric])
        if self.limits:
            loss = loss + self.keeping(self.excess(expected, limits), multipliers)
        return loss

    def excess(self, costs: Mapping[str, Tensor], limits: Mapping[str, float] | None = None) -> Tensor:
        """Return the relative excess over each limit, (limits,); negative if a cost is below its limit."""
        return torch.stack([costs[name] / limit - 1 for name, limit in (limits or self.limits).items()])

    def updated(
        self, expected: Mapping[str, Tensor], multipliers: Tensor, limits: Mapping[str, float] | None = None
    ) -> Tensor:
        """Return the multipliers after a step."""
        return self.keeping.updated(self.excess(expected, limits), multipliers) if self.limits else multipliers


def check_objective(
    metrics: Sequence[NetworkCost], penalty: ProductPenalty | SumPenalty | None, limits: Mapping[str, float]
) -> None:
    """Refuse limits and penalties that no search can work with.

    Raises:
        InputError: a metric is unknown, a limit is out of reach, or a cost is too small for the penalty's unit.
    """
    known = {metric.name: metric for metric in metrics}
    require_reachable(known, limits)
    if penalty is not None:
        require_known(known, penalty.metric, "the penalty is")
        _require_unit(penalty, known[penalty.metric])


def _require_unit(penalty: ProductPenalty | SumPenalty, metric: NetworkCost) -> None:
    if isinstance(penalty, ProductPenalty) and not metric.least > penalty.unit:
        raise InputError(
            f"the lowest {metric.name} of any network is {metric.least:g} {metric.unit}, not above the penalty's "
            f"unit of {penalty.unit:g} {metric.unit}, so the power of its logarithm is undefined; use a smaller unit"
        )
