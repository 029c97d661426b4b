"""Regularized evolution (Real et al., arXiv:1802.01548): mutate the best of a sample, let the oldest of all go."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import Count, EvaluatingConfig
from fbnet_zoo.search.random_search import RandomSearch

if TYPE_CHECKING:
    from fbnet_zoo.search.evaluator import Evaluations
    from fbnet_zoo.search.job import SearchJob


class EvolutionConfig(EvaluatingConfig):
    """The configuration of regularized evolution; the paper evaluates 20,000 networks, each after 25 epochs.

    Attributes:
        population: networks that may be parents; 100 in the paper.
        sample: networks of it that are drawn for each child; the best of them is its parent; 25 in the paper.
    """

    method: Literal["evolution"] = "evolution"
    budget: Count = 1000
    train_epochs: Count | None = 25
    population: Count = 100
    sample: Count = 25

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sample > self.population:
            raise InputError(f"a sample of {self.sample} is larger than the population of {self.population}; lower it")
        return self

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return what suits a kind of images: of `digits`, what takes minutes."""
        return cls(budget=16, population=6, sample=3, train_epochs=8) if kind == "digits" else cls()


class Evolution(RandomSearch):
    """Begins with random networks, then changes one decision of a good one at a time."""

    def ask(self, asked: "Evaluations", job: "SearchJob") -> None:
        """Have networks evaluated, until the budget is spent."""
        from fbnet_zoo.search.mutation import evolve

        assert isinstance(job.config, EvolutionConfig)  # noqa: S101 - `METHODS` keeps both together
        evolve(asked, job.config)
