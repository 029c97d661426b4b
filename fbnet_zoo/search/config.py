"""Base classes of the methods' configurations."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field

from fbnet_zoo.spec import LEFT_OUT, MAX_SEED, Name, Positive, Record

LATENCY = "latency"
"""Name of the latency on the target device."""

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class MethodConfig(Record):
    """The configuration of a search method.

    Attributes:
        method: name of the method; each method has its own subclass.
        limits: cost name to the highest value allowed, in the cost's unit.
        seed: random seed; equal seeds give equal searches on the same machine.
        split_seed: random seed of the images that select networks.
    """

    method: str
    limits: dict[Name, Positive] = Field(default_factory=dict)
    seed: Seed = 0
    split_seed: Seed = 0

    @property
    @abstractmethod
    def total(self) -> int:
        """Number of history records of a complete search."""

    def identity(self) -> dict[str, Any]:
        """Return, as plain values, what a resumed search must have in common with the one in its folder."""
        return self.model_dump(mode="json", exclude={"method", "checkpoint_steps"})

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images: `digits`, `cifar` or `folder`."""
        return cls.model_validate({})


class Halving(Record):
    """Successive halving: networks of a batch that are poor after a few epochs are not trained for all of them.

    Attributes:
        epochs: number of epochs after which the networks are compared first.
        factor: one in this many goes on, for this many times as many epochs in total; and so on.
    """

    epochs: Count
    factor: Annotated[int, Field(ge=2)] = 2


class EvaluatingConfig(MethodConfig):
    """The configuration of a method that evaluates networks.

    Attributes:
        budget: number of networks to evaluate.
        train_epochs: training epochs of each network, if networks are trained (default: the recipe's).
        halving: when the poorer networks of a batch are stopped early (default: never).
    """

    budget: Count = 16
    train_epochs: Count | None = None
    halving: Annotated[Halving | None, LEFT_OUT] = None

    @property
    def total(self) -> int:
        """Number of networks to evaluate."""
        return self.budget

    @property
    def initial(self) -> int:
        """Number of random networks evaluated first."""
        return self.budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Limits on one cost, evenly apart.

    Attributes:
        metric: name of the cost.
        lowest: lowest limit, in the unit of the cost.
        highest: highest limit.
        points: number of limits, at least two.
    """

    metric: str
    lowest: float
    highest: float
    points: int

    @property
    def limits(self) -> list[float]:
        """The limits, the lowest first."""
        step = (self.highest - self.lowest) / (self.points - 1)
        return [self.lowest + number * step for number in range(self.points)]
