"""What the search makes small: the cross-entropy, weighed against what networks cost.

A penalty trades accuracy for cost at a fixed rate; limits on costs are kept by multipliers that grow while they are
exceeded. Either may be used, or both.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.gradient.config import Multipliers, ProductPenalty, SumPenalty
from fbnet_zoo.search.limits import require_known, require_reachable


class Objective:
    """The loss of theta.

    Args:
        metrics: the costs that penalty and limits may name.
        penalty: `None` for none.
        limits: the most that a metric may be, in its unit, by its name.
        keeping: how limits are kept.

    Raises:
        InputError: a metric is not there, a limit cannot be kept, or a cost is too small for the unit of the penalty.
    """

    def __init__(
        self,
        metrics: Sequence[CostMetric],
        penalty: ProductPenalty | SumPenalty | None,
        limits: Mapping[str, float],
        keeping: Multipliers,
    ) -> None:
        check_objective(metrics, penalty, limits)
        self.penalty, self.limits, self.keeping = penalty, dict(limits), keeping

    def easing(self, starts: Mapping[str, float], done: float) -> Mapping[str, float]:
        """Return the limits after a share of theta's epochs, where networks cost `starts` at first."""
        return {name: self.keeping.eased(limit, starts[name], done) for name, limit in self.limits.items()}

    def __call__(
        self,
        cross_entropy: Tensor,
        costs: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
        multipliers: Tensor,
        limits: Mapping[str, float] | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            cross_entropy: of the supernet's output under the masks.
            costs: of each metric, under the same masks: what is penalised.
            expected: of each metric, the expectation over P(theta): what limits hold. Masks of a high temperature are
                nearly even, whatever theta prefers.
            multipliers: (limits,).
            limits: of the moment; the final ones if not said.
        """
        loss = cross_entropy
        if self.penalty is not None:
            loss = self.penalty(loss, costs[self.penalty.metric])
        if self.limits:
            loss = loss + self.keeping(self.excess(expected, limits), multipliers)
        return loss

    def excess(self, costs: Mapping[str, Tensor], limits: Mapping[str, float] | None = None) -> Tensor:
        """Return by how much each limit is exceeded, as a share of it, (limits,); negative where it is not."""
        return torch.stack([costs[name] / limit - 1 for name, limit in (limits or self.limits).items()])

    def updated(
        self, expected: Mapping[str, Tensor], multipliers: Tensor, limits: Mapping[str, float] | None = None
    ) -> Tensor:
        """Return the multipliers after a step."""
        return self.keeping.updated(self.excess(expected, limits), multipliers) if self.limits else multipliers


def check_objective(
    metrics: Sequence[CostMetric], penalty: ProductPenalty | SumPenalty | None, limits: Mapping[str, float]
) -> None:
    """Refuse what no search can make small.

    Raises:
        InputError: a metric is not there, a limit cannot be kept, or a cost is too small for the unit of the penalty.
    """
    known = {metric.name: metric for metric in metrics}
    require_reachable(known, limits)
    if penalty is not None:
        require_known(known, penalty.metric, "the penalty is")
        _require_unit(penalty, known[penalty.metric])


def _require_unit(penalty: ProductPenalty | SumPenalty, metric: CostMetric) -> None:
    if isinstance(penalty, ProductPenalty) and not metric.least > penalty.unit:
        raise InputError(
            f"the {metric.name} of the cheapest network is {metric.least:g} {metric.unit}, not above the penalty's "
            f"unit of {penalty.unit:g} {metric.unit}: its logarithm has no such power; choose a smaller unit"
        )
