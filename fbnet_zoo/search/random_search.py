"""Random search: networks drawn evenly from those within the limits, each evaluated; the best one wins.

What every other method has to beat with the same number of evaluations.
"""

from typing import TYPE_CHECKING, Literal, Self

from fbnet_zoo.search.config import EvaluatingConfig

if TYPE_CHECKING:
    from fbnet_zoo.search.evaluator import Evaluations
    from fbnet_zoo.search.job import SearchJob
    from fbnet_zoo.search.limits import Costs
    from fbnet_zoo.search.method import Context, SearchResult
    from fbnet_zoo.space.encoding import Encoding


class RandomConfig(EvaluatingConfig):
    """The configuration of random search."""

    method: Literal["random"] = "random"

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return what suits a kind of images: of `digits`, what takes minutes."""
        return cls(budget=8) if kind == "digits" else cls()


class RandomSearch:
    """Draws networks, and keeps the best."""

    def encoding(self, job: "SearchJob") -> "Encoding":
        """Return all decisions of the space; of `Method`."""
        from fbnet_zoo.space.encoding import Encoding

        return Encoding(job.space, job.input_size)

    def check(self, job: "SearchJob", costs: "Costs") -> None:
        """Refuse limits that no network keeps; of `Method`."""
        from fbnet_zoo.search.limits import require_reachable

        require_reachable(costs, job.config.limits)

    def run(self, job: "SearchJob", context: "Context") -> "SearchResult":
        """Search; of `Method`."""
        from fbnet_zoo.search.evaluation import evaluated_result, evaluations

        asked = evaluations(job, context)
        self.ask(asked, job)
        return evaluated_result(asked, job.config.limits)

    def ask(self, asked: "Evaluations", job: "SearchJob") -> None:
        """Have networks evaluated, until the budget is spent."""
        from fbnet_zoo.search.drawing import draw_networks

        config = job.config
        assert isinstance(config, RandomConfig)  # noqa: S101 - `METHODS` keeps both together
        among = asked.evaluator.candidates
        drawn = draw_networks(
            asked.encoding, asked.costs, config.limits, count=config.budget, seed=config.seed, among=among
        )
        for positions in drawn:
            asked.top1(positions)
