"""Workers on a real Ray cluster, which is started on this machine."""

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.runs import run_search
from fbnet_zoo.search.workers.cluster import LOCAL, joined
from fbnet_zoo.search.workers.pool import opened
from fbnet_zoo.search.workers.settings import Workers
from tests.helpers.worker_tasks import Task, square, tries
from tests.search.test_candidates import PLAIN, job_of, lines

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs Ray: pip install 'fbnet-zoo[ray]'"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
STARTS = 5
ON_RAY = Workers(count=2, ray_address=LOCAL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A cluster that all tests of this file join; yields the handler of SIGTERM before that.

    Ray gives its processes half a minute to start, which is not always enough on a busy machine.
    """
    before = signal.getsignal(signal.SIGTERM)
    with ExitStack() as stack:
        for left in reversed(range(STARTS)):
            try:
                stack.enter_context(joined(LOCAL))
                break
            except InputError as error:
                if not left or "timed out during startup" not in str(error):
                    raise
        yield before


def test_signals_are_handled_as_before(cluster: object) -> None:
    assert signal.getsignal(signal.SIGTERM) == cluster


def test_workers_that_die_hang_and_fail(cluster: object, tmp_path: Path) -> None:
    tasks = [
        Task(number=1, folder=tmp_path, trouble="die", times=1),
        Task(number=2, folder=tmp_path),
        Task(number=3, folder=tmp_path, trouble="nan", times=99),
        Task(number=4, folder=tmp_path, trouble="hang", times=1),
        Task(number=5, folder=tmp_path, trouble="die", times=99),
    ]
    with opened(Workers(count=2, ray_address=LOCAL, limit_s=20), threads=1, gpu=False) as pool:
        found = [(each.value, each.failed) for each in pool.answers(square, tasks)]
    lost = found[4][1]
    assert found[:4] == [(1, None), (4, None), (None, "the loss is nan at step 3"), (16, None)]
    assert lost is not None
    assert lost.startswith("its worker on Ray is lost")
    assert [len(tries(each)) for each in tasks] == [2, 1, 3, 2, 3]
    assert os.getpid() not in {process for each in tasks for process in tries(each)}


def test_error_of_the_users_input_ends_everything(cluster: object, tmp_path: Path) -> None:
    refused = Task(number=1, folder=tmp_path, trouble="refuse", times=99)
    hanging = Task(number=2, folder=tmp_path, trouble="hang", times=99)
    with (
        pytest.raises(InputError, match=r"^image\.png cannot be read$"),
        opened(ON_RAY, threads=1, gpu=False) as pool,
    ):
        list(pool.answers(square, [refused, hanging]))


def test_search_whose_worker_is_killed(cluster: object, few_digits: ImageDataset, tmp_path: Path) -> None:
    """In the middle of a training: the result is that of a search in one process."""
    killed: list[int] = []

    def kill() -> None:
        while not [*tmp_path.glob("ray/candidates/*/training/checkpoint.pt")]:
            time.sleep(0.01)
        killed.append(_workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = Thread(target=kill, daemon=True)
    killer.start()
    run = run_search(job_of(few_digits, PLAIN, ON_RAY), tmp_path / "ray")
    killer.join()
    assert killed
    plain = run_search(job_of(few_digits, PLAIN), tmp_path / "plain")
    assert lines(run.folder) == lines(plain.folder)
    assert run.record.networks == plain.record.networks


def _workers() -> list[int]:
    """Return the processes of actors that train."""
    titles = {path.parent.name: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
    return sorted(int(name) for name, title in titles.items() if title.startswith(b"ray::Remote"))


def test_no_such_cluster() -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()
    told = (
        r"^the Ray cluster '127\.0\.0\.1:1' cannot be joined \(.*\); start one with 'ray start --head', or use 'local'"
    )
    with pytest.raises(InputError, match=told), joined("127.0.0.1:1"):
        pass
