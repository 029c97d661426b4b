"""What the search makes small: the cross-entropy, weighed against what networks cost.

A penalty trades accuracy for cost at a fixed rate; limits on costs are kept by multipliers that grow while they are
exceeded. Either may be used, or both.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.networks import Metric
from fbnet_zoo.spec import Name, Positive, Record


class ProductPenalty(Record):
    """CE * alpha * log(cost / unit)^beta: equation 2 of FBNet (Wu et al., arXiv:1812.03443).

    The power is of the logarithm, not inside it. The paper does not tell the unit, which matters: log(20) for 20 ms is
    3.0, log(20000) for the same in microseconds is 9.9.

    Attributes:
        form: names this one.
        metric: which cost.
        alpha: factor; 0.2 in the paper.
        beta: power of the logarithm; 0.6 in the paper.
        unit: what counts as 1 inside the logarithm, in the metric's own unit: 0.001 ms is a microsecond. Every
            network of the space must cost more.
    """

    form: Literal["product"] = "product"
    metric: Name = "latency"
    alpha: Positive = 0.2
    beta: Positive = 0.6
    unit: Positive = 1e-3

    def __call__(self, cross_entropy: Tensor, cost: Tensor) -> Tensor:
        return cross_entropy * self.alpha * (cost / self.unit).log() ** self.beta


class SumPenalty(Record):
    """CE + alpha * (cost / unit)^beta, the additive form of several public implementations.

    Attributes:
        form: names this one.
        metric: which cost.
        alpha: factor.
        beta: power.
        unit: what counts as 1, in the metric's own unit.
    """

    form: Literal["sum"] = "sum"
    metric: Name = "latency"
    alpha: Positive = 0.2
    beta: Positive = 0.6
    unit: Positive = 1.0

    def __call__(self, cross_entropy: Tensor, cost: Tensor) -> Tensor:
        return cross_entropy + self.alpha * (cost / self.unit) ** self.beta


Penalty = Annotated[ProductPenalty | SumPenalty, Field(discriminator="form")]


class Multipliers(Record):
    """How limits are kept: the augmented Lagrangian of inequalities (Rockafellar, 1973).

    With g = cost / limit - 1, each limit adds (max(0, lambda + damping g)^2 - lambda^2) / (2 damping) to the loss; its
    gradient is max(0, lambda + damping g) that of g. After each step lambda becomes max(0, lambda + rate g). A cost
    that stays under its limit is not punished. Limits come down step by step from what networks cost at first: one
    that were exceeded by far at once would drive theta to the cheapest candidates before it knows the good ones.

    Attributes:
        rate: how fast multipliers grow.
        damping: how hard an excess is punished at once; it keeps multiplier and cost from swinging.
        approach: share of theta's epochs in which limits come down; at 0 they hold from the beginning.
    """

    rate: Positive = 0.02
    damping: Positive = 5.0
    approach: Annotated[float, Field(ge=0, le=1)] = 0.5

    def eased(self, limit: float, start: float, done: float) -> float:
        """Return a limit after a share of theta's epochs, where networks cost `start` at first.

        >>> Multipliers(approach=0.5).eased(1.0, 3.0, 0.25)
        2.0
        """
        if done >= self.approach or start <= limit:
            return limit
        return limit + (start - limit) * (1 - done / self.approach)

    def __call__(self, excess: Tensor, multipliers: Tensor) -> Tensor:
        """Return what the limits add to the loss; both arguments have one value for each limit."""
        reached = (multipliers + self.damping * excess).clamp(min=0)
        return ((reached**2 - multipliers**2) / (2 * self.damping)).sum()

    def updated(self, excess: Tensor, multipliers: Tensor) -> Tensor:
        """Return the multipliers after a step."""
        return (multipliers + self.rate * excess.detach()).clamp(min=0)


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
        metrics: Sequence[Metric],
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
    metrics: Sequence[Metric], penalty: ProductPenalty | SumPenalty | None, limits: Mapping[str, float]
) -> None:
    """Refuse what no search can make small.

    Raises:
        InputError: a metric is not there, a limit cannot be kept, or a cost is too small for the unit of the penalty.
    """
    known = {metric.name: metric for metric in metrics}
    require_reachable(known, limits)
    if penalty is not None:
        _require_metric(known, penalty.metric, "the penalty is")
        _require_unit(penalty, known[penalty.metric])


def require_reachable(metrics: Mapping[str, Metric], limits: Mapping[str, float]) -> None:
    """Refuse a limit that no network of the space keeps, or that is on a metric that is not there.

    Raises:
        InputError: always then; the text tells the least that is reachable.
    """
    for name, limit in limits.items():
        _require_metric(metrics, name, "a limit is")
        unit, least = metrics[name].unit, metrics[name].base
        if not (limit > 0 and limit >= least):
            raise InputError(
                f"no network of the space keeps its {name} at {limit:g} {unit}: the least is {least:g} {unit}; "
                "raise the limit, or take a space with smaller blocks or images"
            )


def _require_metric(metrics: Mapping[str, Metric], name: str, what: str) -> None:
    if name not in metrics:
        raise InputError(f"{what} on {name!r}, which is not measured; expected {' or '.join(metrics) or 'no metric'}")


def _require_unit(penalty: ProductPenalty | SumPenalty, metric: Metric) -> None:
    if isinstance(penalty, ProductPenalty) and not metric.base > penalty.unit:
        raise InputError(
            f"the {metric.name} of the cheapest network is {metric.base:g} {metric.unit}, not above the penalty's unit "
            f"of {penalty.unit:g} {metric.unit}: its logarithm has no such power; choose a smaller unit"
        )
