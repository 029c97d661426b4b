"""The configurations of the methods that predict accuracy."""

from typing import Annotated, Literal, Self

from pydantic import Field

from fbnet_zoo.search.config import Count, EvaluatingConfig
from fbnet_zoo.spec import Positive

_FEWEST = 4


class PredictiveConfig(EvaluatingConfig):
    """The configuration of a method that predicts accuracy.

    Attributes:
        batch: number of networks that are evaluated before the predictor is fitted again (default: a tenth of the
            budget, at least 4). The last batch has the highest predicted accuracies.
        exploration: number of standard deviations that are added to a predicted accuracy when the networks of the other
            batches are chosen.
        target_error: mean absolute error, points, of predicting each evaluated network from the others, below which
            only one more batch is evaluated (default: the whole budget is spent).
    """

    batch: Count | None = None
    exploration: Annotated[float, Field(ge=0)] = 1.0
    target_error: Positive | None = None

    @property
    def initial(self) -> int:
        """Number of random networks evaluated first."""
        return min(self.batch_size, self.budget)

    @property
    def batch_size(self) -> int:
        """Number of networks in a batch."""
        return self.batch or max(_FEWEST, self.budget // 10)


class ChamnetConfig(PredictiveConfig):
    """The configuration of ChamNet's search; the paper trains 240 networks."""

    method: Literal["chamnet"] = "chamnet"
    budget: Count = 240

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images; for `digits`, a search that takes minutes."""
        return cls(budget=18, batch=6, train_epochs=5) if kind == "digits" else cls()


class NarsConfig(PredictiveConfig):
    """The configuration of NARS, FBNetV3's search; the paper trains 4 batches of 48 pairs from a pool of 20,000.

    Attributes:
        pool: number of quasi-random networks that all batches but the last are chosen from; the last comes from a
            genetic search.
    """

    method: Literal["nars"] = "nars"
    budget: Count = 240
    pool: Count = 20_000

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images; for `digits`, a search that takes minutes."""
        return cls(budget=18, batch=6, train_epochs=5, pool=2000) if kind == "digits" else cls()
