"""The evaluator of a job, and the result of methods that evaluate networks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from fbnet_zoo.errors import InputError, TrainingError
from fbnet_zoo.search.config import EvaluatingConfig
from fbnet_zoo.search.effort import effort
from fbnet_zoo.search.evaluator import Evaluations, Evaluator
from fbnet_zoo.search.gradient.trained_supernet import trained_supernet
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Limits
from fbnet_zoo.search.method import Context, SearchResult
from fbnet_zoo.search.networks import best_first, network_record
from fbnet_zoo.search.short_training import CANDIDATES, ShortTraining
from fbnet_zoo.search.workers.pool import opened
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

    def top1(self, networks: Sequence[Positions]) -> Iterator[float]:
        """Yield the accuracy of each network, percent.

        Raises:
            InputError: an accuracy is not a percentage.
        """
        for network in networks:
            top1 = float(self.evaluate(self.encoding.definition(network)))
            if not 0 <= top1 <= 100:
                raise InputError(f"{self.about}: the accuracy of the network at {network} is {top1}; expected 0 to 100")
            yield top1


def own_name(evaluate: Callable[[ArchSpec], float]) -> str:
    """Return the name of a function of the user."""
    return getattr(evaluate, "__name__", type(evaluate).__name__)


@contextmanager
def evaluations(job: SearchJob, context: Context) -> Iterator[Evaluations]:
    """Yield the evaluations of a job, including those already in its run folder; its workers end with the block.

    Raises:
        InputError: there is nothing to evaluate networks with, or the Ray cluster cannot be joined.
        MissingExtraError: Ray is not installed.
    """
    judge = evaluator(job, context)
    with ExitStack() as stack:
        if isinstance(judge, ShortTraining):
            gpu, threads = not judge.device.startswith("cpu"), judge.recipe.threads or 1
            judge = replace(judge, pool=stack.enter_context(opened(job.workers, threads=threads, gpu=gpu)))
        yield Evaluations(
            encoding=context.encoding,
            costs=context.costs,
            evaluator=judge,
            folder=context.folder,
            progress=context.progress,
            together=isinstance(judge, ShortTraining) and judge.halving is not None,
        )


def evaluator(job: SearchJob, context: Context) -> Evaluator:
    """Return the evaluator of a job.

    Raises:
        InputError: there is nothing to evaluate networks with, several processes were started, or settings of trainings
            are given where nothing is trained.
        MissingExtraError: Ray is asked for, and not installed.
    """
    if context.processes.count > 1:
        raise InputError(f"the method {job.config.method} runs in a single process; start it without a launcher")
    assert isinstance(job.config, EvaluatingConfig)  # noqa: S101 - the config of every evaluating method
    known = _known(job, context)
    if known is not None:
        if job.config.halving or job.workers.apart:
            what = "successive halving" if job.config.halving else "workers"
            raise InputError(f"{what}: nothing is trained, as accuracies are {known.about}; omit the option")
        return known
    found = ShortTraining(
        job=job,
        dataset=job.searched,
        encoding=context.encoding,
        folder=context.path / CANDIDATES,
        epochs=job.config.train_epochs or job.recipe.epochs,
        device=context.processes.device,
        halving=job.config.halving,
    )
    found.check()
    return found


def _known(job: SearchJob, context: Context) -> Evaluator | None:
    """Return what replaces training, if anything."""
    if job.oracle is not None:
        return job.oracle
    if job.evaluate is not None:
        return OwnEvaluator(encoding=context.encoding, evaluate=job.evaluate)
    if job.supernet is not None:
        return trained_supernet(job.supernet, job, context.encoding, device=context.processes.device)
    return None


def evaluated_result(evaluated: Evaluations, limits: Limits) -> SearchResult:
    """Return a result with all evaluated networks, the best first, without those whose evaluation failed.

    Raises:
        TrainingError: all failed.
    """
    networks = [
        network_record(evaluated.encoding, each.positions, evaluated.costs, limits, top1=each.top1, epochs=each.epochs)
        for each in evaluated.done
        if each.top1 is not None
    ]
    if not networks:
        raise TrainingError(
            f"the evaluation of all {len(evaluated.done)} networks failed, of the first one with: "
            f"{evaluated.done[0].failed}"
        )
    judge = evaluated.evaluator
    return SearchResult(
        networks=best_first(networks),
        history=tuple(evaluated.done),
        judged=judge.about,
        effort=effort(evaluated.done, judge.epochs) if isinstance(judge, ShortTraining) and judge.halving else None,
    )
