"""The record of each epoch, and a warning when a search collapses."""

import logging
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import Count
from fbnet_zoo.search.gradient.networks import ExpectedCost
from fbnet_zoo.search.gradient.state import SearchState
from fbnet_zoo.search.history import HistoryRecord
from fbnet_zoo.spec import Percent, Positive

log = logging.getLogger(__name__)

_SURE, _MOST = 0.9, 0.5


class SearchEpoch(HistoryRecord):
    """One epoch of a search by gradients.

    Attributes:
        epoch: number of the epoch, from 1.
        step: steps since the beginning.
        temperature: temperature of the Gumbel-softmax.
        weight_loss: mean cross-entropy of the weight steps.
        theta_loss: mean loss of the theta steps; `None` in the warm-up.
        top1: accuracy on theta's images under the masks, percent; `None` in the warm-up.
        entropy: entropy of each decision's softmax(theta), nats: from log(options) down to 0.
        skip: probability of each decision to skip its layer; `None` if it cannot.
        probable: position of each decision's most probable option.
        shares: softmax(theta) of each decision: the probabilities of its options.
        expected: metric name to its expectation over P(theta).
        sampled: metric name to its mean over the masks drawn for theta; empty in the warm-up.
        multipliers: multipliers of the limits.
        seconds: time since the search was started or resumed.
    """

    epoch: Count
    temperature: Positive
    weight_loss: float
    theta_loss: float | None
    top1: Percent | None
    entropy: tuple[float, ...]
    skip: tuple[float | None, ...]
    probable: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]
    expected: dict[str, float]
    sampled: dict[str, float]
    multipliers: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("entropy", "skip", "probable"):
            if len(getattr(self, name)) != len(self.shares):
                raise InputError(f"expected one value for each of the {len(self.shares)} decisions", location=(name,))
        for index, (position, shares) in enumerate(zip(self.probable, self.shares, strict=True)):
            if not 0 <= position < len(shares):
                raise InputError(f"{position} is not an option of its decision", location=("probable", index))
        return self

    @property
    def number(self) -> int:
        """The epoch."""
        return self.epoch

    def summary(self) -> str:
        """Return loss, accuracy, the first cost and the mean entropy."""
        top1 = "" if self.top1 is None else f", top-1 {self.top1:.1f} %"
        cost = "".join(f", {name} {value:.4g}" for name, value in list(self.expected.items())[:1])
        return f"loss {self.weight_loss:.3f}{top1}{cost}, entropy {fmean(self.entropy):.2f}"

    def scalars(self, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield names and values for TensorBoard; `decisions` are the names of the decisions."""
        yield "loss/weights", self.weight_loss
        yield "temperature", self.temperature
        if self.theta_loss is not None and self.top1 is not None:
            yield "loss/theta", self.theta_loss
            yield "top1", self.top1
        for kind, costs in (("expected", self.expected), ("sampled", self.sampled)):
            yield from ((f"{name}/{kind}", value) for name, value in costs.items())
        yield from ((f"multiplier/{position}", value) for position, value in enumerate(self.multipliers))
        yield from ((f"entropy/{name}", value) for name, value in zip(decisions, self.entropy, strict=True))


@torch.no_grad()
def epoch_record(state: SearchState, epoch: int, costs: Sequence[ExpectedCost], seconds: float) -> SearchEpoch:
    """Return the record of an epoch (counted from 0) that just ended."""
    tally, shares = state.tally, [theta.double().softmax(0) for theta in state.supernet.theta]
    trained = tally.theta_steps > 0
    return SearchEpoch(
        epoch=epoch + 1,
        step=state.step,
        temperature=state.config.temperature.at(epoch),
        weight_loss=tally.weight_loss / max(1, tally.weight_steps),
        theta_loss=tally.theta_loss / tally.theta_steps if trained else None,
        top1=100 * tally.correct / tally.images if trained else None,
        entropy=tuple(float(torch.special.entr(share).sum()) for share in shares),
        skip=_skips(state, shares),
        probable=tuple(int(share.argmax()) for share in shares),
        shares=tuple(tuple(share.tolist()) for share in shares),
        expected={cost.metric.name: float(cost.expected(shares)) for cost in costs},
        sampled={name: total / tally.theta_steps for name, total in tally.costs.items()},
        multipliers=tuple(state.multipliers.tolist()),
        seconds=seconds,
    )


def warn_of_collapse(record: SearchEpoch) -> None:
    """Warn if most skippable layers are skipped almost surely, so that little of the network is still searched."""
    shares = [share for share in record.skip if share is not None]
    sure = sum(share > _SURE for share in shares)
    if shares and sure > _MOST * len(shares):
        log.warning(
            "epoch %d: %d of %d skippable layers are skipped with a probability above %g; lower the penalty's alpha, "
            "raise the limits, or lengthen the warm-up",
            record.epoch,
            sure,
            len(shares),
            _SURE,
        )


def _skips(state: SearchState, shares: Sequence[Tensor]) -> tuple[float | None, ...]:
    pairs = zip(shares, state.supernet.encoding.skips, strict=True)
    return tuple(None if position is None else float(share[position]) for share, position in pairs)
