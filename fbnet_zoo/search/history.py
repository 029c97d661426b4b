"""What a search writes down while it runs: one line of `metrics.jsonl` for each epoch or network."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from fbnet_zoo.spec import Record


class HistoryRecord(Record):
    """One line.

    Attributes:
        step: of the search; lines written after a checkpoint are recognised by it.
        seconds: since the search was started or resumed.
    """

    step: int
    seconds: float

    @property
    @abstractmethod
    def number(self) -> int:
        """Which line it is, from 1."""

    @abstractmethod
    def summary(self) -> str:
        """Return it in a few words."""

    @abstractmethod
    def scalars(self, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield its values by name, for TensorBoard; `decisions` are the names of the decisions."""


class EvaluatedNetwork(HistoryRecord):
    """A network that was evaluated.

    Attributes:
        positions: of each decision, which option it takes.
        top1: its accuracy, percent.
        best: the highest accuracy so far.
        costs: of each metric, in its unit.
    """

    positions: tuple[int, ...]
    top1: float
    best: float
    costs: dict[str, float]

    @property
    def number(self) -> int:
        """Which network it is, from 1."""
        return self.step

    def summary(self) -> str:
        """Return its accuracy, the best one, and its first cost."""
        cost = "".join(f", {name} {value:.4g}" for name, value in list(self.costs.items())[:1])
        return f"top-1 {self.top1:.1f} %, best {self.best:.1f} %{cost}"

    def scalars(self, decisions: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield accuracy and costs."""
        yield "top1", self.top1
        yield "best", self.best
        yield from self.costs.items()
