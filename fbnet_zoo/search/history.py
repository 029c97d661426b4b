"""The history of a search: one line of `metrics.jsonl` for each epoch or evaluated network."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import Count
from fbnet_zoo.spec import LEFT_OUT, Percent, Record


class HistoryRecord(Record):
    """One line of the history.

    Attributes:
        step: step of the search; identifies lines written after a checkpoint.
        seconds: time since the search was started or resumed.
    """

    step: Count
    seconds: Annotated[float, Field(ge=0)]

    @property
    @abstractmethod
    def number(self) -> int:
        """Number of the line, from 1."""

    @abstractmethod
    def summary(self) -> str:
        """Return the record in a few words."""

    @abstractmethod
    def scalars(self, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield names and values for TensorBoard; `decisions` are the names of the decisions."""


class PredictedTop1(Record):
    """The accuracy that was predicted of a network before it was evaluated.

    Attributes:
        mean: predicted accuracy, percent.
        deviation: standard deviation with which an evaluation was expected to differ from it, points.
    """

    mean: float
    deviation: Annotated[float, Field(ge=0)]


class EvaluatedNetwork(HistoryRecord):
    """An evaluated network.

    Attributes:
        positions: position of the chosen option of each decision.
        top1: accuracy, percent; `None` if the evaluation failed.
        best: highest accuracy so far, percent, of networks whose training was not stopped early; `None` without one.
        costs: metric name to cost, in the metric's unit.
        epochs: number of epochs after which its training was stopped early; `None` for all others.
        failed: reason of a failure.
        predicted: what was predicted of it; `None` if nothing was.
    """

    positions: tuple[int, ...]
    top1: Percent | None
    best: Percent | None
    costs: dict[str, float]
    epochs: Annotated[Count | None, LEFT_OUT] = None
    failed: Annotated[str | None, LEFT_OUT] = None
    predicted: Annotated[PredictedTop1 | None, LEFT_OUT] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.top1 is None) != (self.failed is not None):
            raise InputError("a network has either an accuracy or the reason of a failure", location=("top1",))
        return self

    @property
    def number(self) -> int:
        """Number of the network, from 1."""
        return self.step

    @property
    def whole(self) -> float | None:
        """Accuracy, percent; `None` if the training was stopped early, or failed."""
        return self.top1 if self.epochs is None else None

    def summary(self) -> str:
        """Return accuracy, best accuracy and the first cost."""
        best = "" if self.best is None else f", best {self.best:.1f} %"
        cost = "".join(f", {name} {value:.4g}" for name, value in list(self.costs.items())[:1])
        return f"{self._accuracy()}{best}{cost}"

    def _accuracy(self) -> str:
        if self.top1 is None:
            return f"failed ({self.failed})"
        stopped = "" if self.epochs is None else f" after {self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return f"top-1 {self.top1:.1f} %{stopped}"

    def scalars(self, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield accuracy and costs."""
        yield from ((name, value) for name, value in (("top1", self.top1), ("best", self.best)) if value is not None)
        yield from self.costs.items()
