"""What the configurations of all methods of search have in common."""

from abc import abstractmethod
from typing import Annotated, Self

from pydantic import Field

from fbnet_zoo.spec import Name, Positive, Record

Count = Annotated[int, Field(ge=1)]


class MethodConfig(Record):
    """The configuration of a method of search.

    Attributes:
        method: name of the method; each has a class of its own, whose `method` is that name.
        limits: the most that a cost may be, in the unit of its metric, by its name.
        seed: of everything that is drawn at random; equal seeds give equal searches on the same machine.
    """

    method: str
    limits: dict[Name, Positive] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0

    @property
    @abstractmethod
    def total(self) -> int:
        """How many records the history of a whole search has."""

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return what suits a kind of images: `digits`, `cifar` or `folder`."""
        return cls.model_validate({})


class EvaluatingConfig(MethodConfig):
    """The configuration of a method that evaluates networks one by one.

    Attributes:
        budget: networks to evaluate.
        train_epochs: of the training of each, where they are trained (default: the recipe's).
    """

    budget: Count = 16
    train_epochs: Count | None = None

    @property
    def total(self) -> int:
        """The networks to evaluate."""
        return self.budget
