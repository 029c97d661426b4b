"""The history of a search: one line of `metrics.jsonl` for each epoch or evaluated network."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field

from fbnet_zoo.search.config import Count
from fbnet_zoo.spec import Percent, Record


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


class EvaluatedNetwork(HistoryRecord):
    """An evaluated network.

    Attributes:
        positions: position of the chosen option of each decision.
        top1: accuracy, percent.
        best: highest accuracy so far, percent.
        costs: metric name to cost, in the metric's unit.
    """

    positions: tuple[int, ...]
    top1: Percent
    best: Percent
    costs: dict[str, float]

    @property
    def number(self) -> int:
        """Number of the network, from 1."""
        return self.step

    def summary(self) -> str:
        """Return accuracy, best accuracy and the first cost."""
        cost = "".join(f", {name} {value:.4g}" for name, value in list(self.costs.items())[:1])
        return f"top-1 {self.top1:.1f} %, best {self.best:.1f} %{cost}"

    def scalars(self, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield accuracy and costs."""
        yield "top1", self.top1
        yield "best", self.best
        yield from self.costs.items()
