"""The epochs of training that successive halving saved."""

from collections.abc import Sequence

from fbnet_zoo.search.config import Count
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.spec import Record


class Effort(Record):
    """The epochs of training that successive halving saved.

    Attributes:
        trained: number of epochs trained, over all networks whose training did not fail.
        full: number of epochs without it.
    """

    trained: Count
    full: Count

    @property
    def saved(self) -> float:
        """Share of the epochs that were not trained, percent."""
        return 100 * (1 - self.trained / self.full)

    @property
    def summary(self) -> str:
        """The saving in words."""
        return f"successive halving trained {self.trained:,} of {self.full:,} epochs and saved {self.saved:.0f} %"


def effort(networks: Sequence[EvaluatedNetwork], epochs: int) -> Effort:
    """Return the epochs that were saved, given the number of epochs of a whole training."""
    judged = [each for each in networks if each.failed is None]
    return Effort(trained=sum(each.epochs or epochs for each in judged), full=epochs * len(judged))
