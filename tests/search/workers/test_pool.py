"""Workers: results in order, and what becomes of tasks whose worker dies, hangs or fails."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.workers.pool import ATTEMPTS, opened
from fbnet_zoo.search.workers.settings import HERE, Workers
from tests.helpers.paths import ROOT
from tests.helpers.worker_tasks import Task, square, tries, wait_for

EVERYWHERE = pytest.mark.parametrize("workers", [HERE, Workers(count=2)], ids=["here", "processes"])


SEARCH = """
import sys
from pathlib import Path
from fbnet_zoo.search.workers.pool import opened
from fbnet_zoo.search.workers.settings import Workers
from tests.helpers.paths import ROOT
from tests.helpers.worker_tasks import Task, square
task = Task(number=1, folder=Path(sys.argv[1]), trouble="hang", times=99)
with opened(Workers(count=1), threads=1, gpu=False) as pool:
    print(*pool.answers(square, [task]))
"""


def answers(
    workers: Workers, tasks: list[Task], function: Callable[[Task], int] = square
) -> list[tuple[object, str | None]]:
    with opened(workers, threads=1, gpu=False) as pool:
        return [(answer.value, answer.failed) for answer in pool.answers(function, tasks)]


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@EVERYWHERE
def test_answers_are_in_order_whatever_fails(
    tmp_path: Path, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [
        Task(number=1, folder=tmp_path),
        Task(number=2, folder=tmp_path, trouble="nan", times=1),
        Task(number=3, folder=tmp_path, trouble="bug", times=99),
        Task(number=4, folder=tmp_path),
    ]
    with caplog.at_level(logging.WARNING):
        found = answers(workers, tasks)
    assert found == [(1, None), (4, None), (None, "RuntimeError: out of memory"), (16, None)]
    assert [len(tries(task)) for task in tasks] == [1, 2, ATTEMPTS, 1]
    assert "task 2 failed: the loss is nan at step 3; it is tried again" in caplog.messages
    assert "task 3 failed: RuntimeError: out of memory; it is given up" in caplog.messages


def test_tasks_run_in_other_processes_which_end_with_the_block(tmp_path: Path) -> None:
    tasks = [Task(number=number, folder=tmp_path) for number in range(5)]
    answers(Workers(count=2), tasks)
    processes = {process for task in tasks for process in tries(task)}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2
    assert not any(map(is_running, processes))


def test_tasks_run_at_the_same_time(tmp_path: Path) -> None:
    """The first waits for the second to begin."""
    second, first = Task(number=0, folder=tmp_path), Task(number=1, folder=tmp_path)
    with opened(Workers(count=2), threads=1, gpu=False) as pool:
        assert [answer.value for answer in pool.answers(wait_for, [first, second])] == [1, 0]


def test_worker_that_is_killed(tmp_path: Path) -> None:
    """Once, and every time: the other tasks are not affected."""
    once = Task(number=1, folder=tmp_path, trouble="die", times=1)
    always = Task(number=2, folder=tmp_path, trouble="die", times=99)
    others = [Task(number=number, folder=tmp_path) for number in (3, 4)]
    found = answers(Workers(count=2), [once, always, *others])
    killed = "its process was killed by SIGKILL, usually because memory ran out"
    assert found == [(1, None), (None, killed), (9, None), (16, None)]
    assert len(set(tries(once))) == 2
    assert len(set(tries(always))) == ATTEMPTS


def test_worker_that_hangs(tmp_path: Path) -> None:
    once = Task(number=1, folder=tmp_path, trouble="hang", times=1)
    found = answers(Workers(limit_s=5), [once, Task(number=2, folder=tmp_path)])
    assert found == [(1, None), (4, None)]
    hung, again = tries(once)
    assert hung != again
    assert not is_running(hung)


@EVERYWHERE
def test_error_of_the_users_input_ends_everything(tmp_path: Path, workers: Workers) -> None:
    refused = Task(number=1, folder=tmp_path, trouble="refuse", times=99)
    hanging = Task(number=2, folder=tmp_path, trouble="hang", times=99)
    with pytest.raises(InputError, match=r"^image\.png cannot be read$"):
        answers(workers, [refused, hanging])
    assert len(tries(refused)) == 1
    assert not any(map(is_running, tries(hanging)))


def test_workers_end_when_their_search_is_killed(tmp_path: Path) -> None:
    """In the middle of a task."""
    task = Task(number=1, folder=tmp_path, trouble="hang", times=99)
    search = subprocess.Popen([sys.executable, "-c", SEARCH, tmp_path], cwd=ROOT)
    while not tries(task):
        time.sleep(0.01)
    (worker,) = tries(task)
    search.kill()
    search.wait()
    while is_running(worker):
        time.sleep(0.01)


def test_two_searches_at_once(tmp_path: Path) -> None:
    """Each has workers of its own: one of one search dies, and the other does not notice."""
    found: dict[str, list[tuple[object, str | None]]] = {}

    def search(name: str, trouble: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        tasks = [Task(number=number, folder=folder, trouble=trouble, times=1) for number in range(3)]
        found[name] = answers(Workers(count=2), tasks)
        assert all(len(tries(task)) == (2 if trouble else 1) for task in tasks)

    searches = [Thread(target=search, args=each) for each in (("first", "die"), ("second", ""))]
    for each in searches:
        each.start()
    for each in searches:
        each.join()
    assert found == {name: [(0, None), (1, None), (4, None)] for name in ("first", "second")}


def test_search_that_ends_early(tmp_path: Path) -> None:
    """What runs is killed, and what was not begun is not begun any more."""
    hanging = [Task(number=number, folder=tmp_path, trouble="hang", times=9) for number in (1, 2)]
    with opened(Workers(count=1), threads=1, gpu=False) as pool:
        found = pool.answers(square, [Task(number=0, folder=tmp_path), *hanging])
        assert next(found).value == 0
        while not tries(hanging[0]):
            time.sleep(0.01)
    assert not is_running(*tries(hanging[0]))
    assert [len(tries(each)) for each in hanging] == [1, 0]
