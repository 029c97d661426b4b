"""The executor of a search: tasks run at once in workers, and the results come in the order of the tasks.

A worker that dies or exceeds its time limit, and a task that fails, such as a training whose loss is NaN, are tried
again; after `ATTEMPTS` the task is given up, and all others go on.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Protocol

from fbnet_zoo.search.workers.answer import ENDED, Answer, TaskT, attempt
from fbnet_zoo.search.workers.cluster import RayWorker, joined, room
from fbnet_zoo.search.workers.local import LocalWorker
from fbnet_zoo.search.workers.settings import Workers

ATTEMPTS = 3
"""Number of times that a task is tried."""

log = logging.getLogger(__name__)


class Worker(Protocol):
    """Something that runs one task at a time."""

    def run(self, function: Callable[[TaskT], object], task: TaskT) -> Answer:
        """Return what becomes of a task: also if the worker dies, which is replaced at the next task."""

    def stop(self) -> None:
        """End the task in progress, from any thread; later ones are not begun."""

    def close(self) -> None:
        """Release what belongs to a worker that was stopped."""


class Pool(Protocol):
    """Runs tasks."""

    def answers(self, function: Callable[[TaskT], object], tasks: Sequence[TaskT]) -> Iterator[Answer]:
        """Yield what became of each task, in order, as soon as it and those before have ended.

        Args:
            function: function of a module.
            tasks: arguments of the function; the text of each names it in messages.

        Raises:
            FbnetZooError: a task has an error that every try would have, such as an image that cannot be read.
        """


class Here:
    """Runs tasks in this process and thread, each when its answer is asked for."""

    def answers(self, function: Callable[[TaskT], object], tasks: Sequence[TaskT]) -> Iterator[Answer]:
        """Yield what became of each task."""
        for task in tasks:
            yield _persistently(partial(attempt, function, task), task)


class Several:
    """Runs tasks in several workers at once.

    Args:
        workers: the workers.
        threads: as many threads.
    """

    def __init__(self, workers: Sequence[Worker], threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for each in workers:
            self._idle.put(each)

    def answers(self, function: Callable[[TaskT], object], tasks: Sequence[TaskT]) -> Iterator[Answer]:
        """Yield what became of each task."""
        futures = [self._threads.submit(copy_context().run, self._run, function, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def _run(self, function: Callable[[TaskT], object], task: TaskT) -> Answer:
        worker = self._idle.get()
        try:
            return _persistently(partial(worker.run, function, task), task)
        finally:
            self._idle.put(worker)


def _persistently(run: Callable[[], Answer], task: object) -> Answer:
    answer = Answer(failed=ENDED)
    for left in reversed(range(ATTEMPTS)):
        answer = run()
        if answer.refused is not None:
            raise answer.refused
        if answer.failed in {None, ENDED}:
            break
        log.warning("%s failed: %s; %s", task, answer.failed, "it is tried again" if left else "it is given up")
    return answer


@contextmanager
def opened(settings: Workers, *, threads: int, gpu: bool) -> Iterator[Pool]:
    """Yield the workers of a search; none outlives the block.

    Args:
        settings: where tasks run.
        threads: number of threads of a task, for a cluster to reserve cores.
        gpu: whether a task needs a GPU, for a cluster to reserve one.

    Raises:
        InputError: the Ray cluster cannot be joined.
        MissingExtraError: Ray is not installed.
    """
    if not settings.apart:
        yield Here()
        return
    with ExitStack() as stack:
        workers: list[Worker]
        if settings.ray_address is None:
            workers = [LocalWorker(settings.limit_s) for _ in range(settings.count or 1)]
        else:
            stack.enter_context(joined(settings.ray_address))
            count = settings.count or room(threads=threads, gpu=gpu)
            workers = [RayWorker(settings.limit_s, threads=threads, gpu=gpu) for _ in range(count)]
        pool = ThreadPoolExecutor(len(workers))
        try:
            yield Several(workers, pool)
        finally:
            for worker in workers:
                worker.stop()
            pool.shutdown(cancel_futures=True)
            for worker in workers:
                worker.close()
