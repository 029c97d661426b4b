"""Base classes of the methods' configurations."""

from abc import abstractmethod
from typing import Annotated, Self

from pydantic import Field

from fbnet_zoo.spec import MAX_SEED, Name, Positive, Record

Count = Annotated[int, Field(ge=1)]


class MethodConfig(Record):
    """The configuration of a search method.

    Attributes:
        method: name of the method; each method has its own subclass.
        limits: cost name to the highest value allowed, in the cost's unit.
        seed: random seed; equal seeds give equal searches on the same machine.
    """

    method: str
    limits: dict[Name, Positive] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0

    @property
    @abstractmethod
    def total(self) -> int:
        """Number of history records of a complete search."""

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images: `digits`, `cifar` or `folder`."""
        return cls.model_validate({})


class EvaluatingConfig(MethodConfig):
    """The configuration of a method that evaluates networks one by one.

    Attributes:
        budget: number of networks to evaluate.
        train_epochs: training epochs of each network, if networks are trained (default: the recipe's).
    """

    budget: Count = 16
    train_epochs: Count | None = None

    @property
    def total(self) -> int:
        """Number of networks to evaluate."""
        return self.budget

    @property
    def initial(self) -> int:
        """Number of random networks evaluated first."""
        return self.budget
