"""The evaluator of a job, and the result of methods that evaluate networks one by one."""

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import EvaluatingConfig
from fbnet_zoo.search.evaluator import Evaluations, Evaluator
from fbnet_zoo.search.gradient.trained_supernet import trained_supernet
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Limits
from fbnet_zoo.search.method import Context, SearchResult
from fbnet_zoo.search.networks import best_first, network_record
from fbnet_zoo.search.short_training import CANDIDATES, ShortTraining


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
    if job.supernet is not None:
        return trained_supernet(job.supernet, job, context.encoding, device=context.processes.device)
    assert isinstance(job.config, EvaluatingConfig)  # noqa: S101 - the config of every evaluating method
    return ShortTraining(
        job=job,
        dataset=job.required_dataset,
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
