"""The evaluator of a job, and the result of methods that evaluate networks one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import EvaluatingConfig
from fbnet_zoo.search.evaluator import Evaluations, Evaluator
from fbnet_zoo.search.gradient.trained_supernet import trained_supernet
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Limits
from fbnet_zoo.search.method import Context, SearchResult
from fbnet_zoo.search.networks import best_first, network_record
from fbnet_zoo.search.short_training import CANDIDATES, ShortTraining
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.spec import ArchSpec


@dataclass(frozen=True, kw_only=True)
class OwnEvaluator:
    """An evaluator that calls a function of the user.

    Attributes:
        encoding: encoding of the space.
        evaluate: returns the accuracy of a network, percent.
    """

    encoding: Encoding
    evaluate: Callable[[ArchSpec], float]
    candidates: None = None

    @property
    def about(self) -> str:
        """How accuracy is determined, in words."""
        return f"by {own_name(self.evaluate)}"

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Return the accuracy of each network, percent.

        Raises:
            InputError: an accuracy is not a percentage.
        """
        found = [float(self.evaluate(self.encoding.definition(each))) for each in networks]
        for network, top1 in zip(networks, found, strict=True):
            if not 0 <= top1 <= 100:
                raise InputError(f"{self.about}: the accuracy of the network at {network} is {top1}; expected 0 to 100")
        return found


def own_name(evaluate: Callable[[ArchSpec], float]) -> str:
    """Return the name of a function of the user."""
    return getattr(evaluate, "__name__", type(evaluate).__name__)


def evaluations(job: SearchJob, context: Context) -> Evaluations:
    """Return the evaluations of a job, including those already in its run folder."""
    return Evaluations(
        encoding=context.encoding,
        costs=context.costs,
        evaluator=evaluator(job, context),
        folder=context.folder,
        progress=context.progress,
    )


def evaluator(job: SearchJob, context: Context) -> Evaluator:
    """Return the evaluator of a job.

    Raises:
        InputError: there is nothing to evaluate networks with, or several processes were started.
    """
    if context.processes.count > 1:
        raise InputError(f"the method {job.config.method} runs in a single process; start it without a launcher")
    if job.oracle is not None:
        return job.oracle
    if job.evaluate is not None:
        return OwnEvaluator(encoding=context.encoding, evaluate=job.evaluate)
    if job.supernet is not None:
        return trained_supernet(job.supernet, job, context.encoding, device=context.processes.device)
    assert isinstance(job.config, EvaluatingConfig)  # noqa: S101 - the config of every evaluating method
    return ShortTraining(
        job=job,
        dataset=job.searched,
        encoding=context.encoding,
        folder=context.path / CANDIDATES,
        epochs=job.config.train_epochs or job.recipe.epochs,
        device=context.processes.device,
    )


def evaluated_result(evaluated: Evaluations, limits: Limits) -> SearchResult:
    """Return a result with all evaluated networks, the best first."""
    networks = [
        network_record(evaluated.encoding, each.positions, evaluated.costs, limits, top1=each.top1)
        for each in evaluated.done
    ]
    return SearchResult(networks=best_first(networks), history=tuple(evaluated.done), judged=evaluated.evaluator.about)
