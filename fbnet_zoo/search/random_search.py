"""Random search: networks are drawn evenly from those within the limits and evaluated; the best one is returned.

The baseline for every other method with the same number of evaluations.
"""

from typing import TYPE_CHECKING, Literal, Self

from fbnet_zoo.search.config import EvaluatingConfig

if TYPE_CHECKING:
    from fbnet_zoo.search.evaluator import Evaluations
    from fbnet_zoo.search.job import SearchJob
    from fbnet_zoo.search.method import Context, SearchResult
    from fbnet_zoo.space.encoding import Encoding


class RandomConfig(EvaluatingConfig):
    """The configuration of random search."""

    method: Literal["random"] = "random"

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images; for `digits`, a search that takes minutes."""
        return cls(budget=8) if kind == "digits" else cls()


class RandomSearch:
    """Evaluates random networks and returns the best."""

    def encoding(self, job: "SearchJob") -> "Encoding":
        """Return an encoding with all decisions of the space, or of a table of accuracies."""
        from fbnet_zoo.space.encoding import Encoding

        return job.oracle.encoding if job.oracle else Encoding(job.space, job.input_size)

    def check(self, job: "SearchJob", context: "Context") -> None:
        """Refuse limits that too few networks satisfy, and a job whose networks cannot be evaluated."""
        from fbnet_zoo.search.drawing import draw_networks
        from fbnet_zoo.search.evaluation import evaluator
        from fbnet_zoo.search.limits import require_reachable

        config = job.config
        assert isinstance(config, EvaluatingConfig)  # noqa: S101 - `METHODS` pairs method and config
        require_reachable(context.costs, config.limits)
        among = evaluator(job, context).candidates
        draw_networks(
            context.encoding, context.costs, config.limits, count=config.initial, seed=config.seed, among=among
        )

    def run(self, job: "SearchJob", context: "Context") -> "SearchResult":
        """Search the space."""
        from fbnet_zoo.search.evaluation import evaluated_result, evaluations

        with evaluations(job, context) as evaluated:
            self.ask(evaluated, job)
        return evaluated_result(evaluated, job.config.limits)

    def ask(self, evaluations: "Evaluations", job: "SearchJob") -> None:
        """Evaluate networks until the budget is spent."""
        from fbnet_zoo.search.drawing import draw_networks

        config = job.config
        assert isinstance(config, RandomConfig)  # noqa: S101 - `METHODS` pairs method and config
        among = evaluations.evaluator.candidates
        drawn = draw_networks(
            evaluations.encoding, evaluations.costs, config.limits, count=config.initial, seed=config.seed, among=among
        )
        evaluations.top1_of(drawn)
