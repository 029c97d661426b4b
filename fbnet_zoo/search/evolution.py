"""Regularized evolution (Real et al., arXiv:1802.01548): mutate the best of a sample, drop the oldest network."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import Count, EvaluatingConfig
from fbnet_zoo.search.random_search import RandomSearch

if TYPE_CHECKING:
    from fbnet_zoo.search.evaluator import Evaluations
    from fbnet_zoo.search.job import SearchJob


class EvolutionConfig(EvaluatingConfig):
    """The configuration of regularized evolution; the paper trains 20,000 networks for 25 epochs each.

    Attributes:
        population: number of networks that may be parents; 100 in the paper.
        sample: number of networks drawn from the population for each child, the best of which is its parent; 25 in the
            paper.
    """

    method: Literal["evolution"] = "evolution"
    budget: Count = 1000
    train_epochs: Count | None = 25
    population: Count = 100
    sample: Count = 25

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sample > self.population:
            raise InputError(f"a sample of {self.sample} exceeds the population of {self.population}; lower 'sample'")
        return self

    @property
    def initial(self) -> int:
        """Number of random networks evaluated first."""
        return min(self.population, self.budget)

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images; for `digits`, a search that takes minutes."""
        return cls(budget=16, population=6, sample=3, train_epochs=8) if kind == "digits" else cls()


class Evolution(RandomSearch):
    """Starts from random networks, then mutates one decision of a good network at a time."""

    def ask(self, evaluations: "Evaluations", job: "SearchJob") -> None:
        """Evaluate networks until the budget is spent."""
        from fbnet_zoo.search.mutation import evolve

        assert isinstance(job.config, EvolutionConfig)  # noqa: S101 - `METHODS` pairs method and config
        evolve(evaluations, job.config)
