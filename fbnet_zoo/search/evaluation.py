"""Which evaluator a job asks for, and the result of methods that evaluate networks one by one."""

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
    """Return what evaluates the networks of a job, with those that its run folder has already.

    Raises:
        InputError: there is nothing to evaluate them with, or several processes search.
    """
    if context.processes.count > 1:
        raise InputError(f"the method {job.config.method} searches in one process; launch it alone")
    return Evaluations(
        encoding=context.encoding,
        costs=context.costs,
        evaluator=_evaluator(job, context),
        folder=context.folder,
        progress=context.progress,
    )


def _evaluator(job: SearchJob, context: Context) -> Evaluator:
    if job.oracle is not None:
        return job.oracle
    if job.supernet is not None:
        return trained_supernet(job.supernet, job, context.encoding, device=context.processes.device)
    assert isinstance(job.config, EvaluatingConfig)  # noqa: S101 - what methods that evaluate have
    return ShortTraining(
        job=job,
        encoding=context.encoding,
        folder=context.path / CANDIDATES,
        epochs=job.config.train_epochs or job.recipe.epochs,
        device=context.processes.device,
    )


def evaluated_result(asked: Evaluations, limits: Limits) -> SearchResult:
    """Return all networks that were evaluated, the best first."""
    networks = [
        network_record(asked.encoding, each.positions, asked.costs, limits, top1=each.top1) for each in asked.done
    ]
    return SearchResult(networks=best_first(networks), history=tuple(asked.done), judged=asked.evaluator.about)
