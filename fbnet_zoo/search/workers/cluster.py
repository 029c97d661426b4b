"""Workers on a Ray cluster, whose machines have this library, the images and the folder of the run."""

import pickle
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, current_thread, main_thread
from typing import Any

from fbnet_zoo._require import quiet, require
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.workers.answer import ENDED, Answer, TaskT, attempt_pickled

_PATIENCE_S = 10
"""How long a cluster may take to accept a connection, seconds."""

LOCAL = "local"
"""Address of a new cluster on this machine, which ends with the search."""


class Remote:
    """What runs in the process of a worker."""

    def ready(self) -> None:
        """Return when the process has started."""

    def run(self, content: bytes) -> Answer:
        """Return what becomes of a pickled pair of function and task."""
        return attempt_pickled(content)


class RayWorker:
    """An actor of a Ray cluster; one that died or hung is replaced by another at the next task.

    Args:
        limit_s: longest time of a task once its actor has a place in the cluster, seconds (default: no limit).
        threads: number of cores to reserve.
        gpu: whether to reserve a GPU.
    """

    def __init__(self, limit_s: float | None, *, threads: int, gpu: bool) -> None:
        self.limit_s, self._needs = limit_s, {"num_cpus": threads, "num_gpus": int(gpu)}
        self._lock, self._stopped = Lock(), False
        self._actor: Any = None

    def run(self, function: Callable[[TaskT], object], task: TaskT) -> Answer:
        """Return what becomes of a task."""
        ray, content = _ray(), pickle.dumps((function, task))
        actor = self._running()
        if actor is None:
            return Answer(failed=ENDED)
        try:
            ray.get(actor.ready.remote())
            return ray.get(actor.run.remote(content), timeout=self.limit_s)
        except ray.exceptions.GetTimeoutError:
            failed = f"not finished within {self.limit_s:g} s"
        except ray.exceptions.RayError as error:
            failed = f"its worker on Ray is lost ({' '.join(str(error).split())})"
        self.close()
        return Answer(failed=failed)

    def stop(self) -> None:
        """Kill the actor, from any thread; later tasks are not begun."""
        with self._lock:
            self._stopped = True
        self.close()

    def close(self) -> None:
        """Kill the actor, if there is one."""
        with self._lock:
            actor, self._actor = self._actor, None
        if actor is not None:
            with suppress(_ray().exceptions.RayError):
                _ray().kill(actor)

    def _running(self) -> Any:
        """Return the actor, started if necessary; `None` after the end of the search."""
        with self._lock:
            if self._stopped:
                return None
            if self._actor is None:
                self._actor = _ray().remote(Remote).options(**self._needs).remote()
            return self._actor


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Join a Ray cluster for the block, unless this process has joined one.

    Raises:
        InputError: there is no such cluster.
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    try:
        _reach(address)
        with _own_signals(), quiet():
            ray.init(address=address, configure_logging=False, log_to_driver=False, **_settings(address))
    except Exception as error:  # of many types, a plain one when its processes do not start in time
        ray.shutdown()
        reason = " ".join(str(error).split())
        raise InputError(
            f"the Ray cluster {address!r} cannot be joined ({reason}); start one with 'ray start --head', or use "
            f"{LOCAL!r} for one on this machine"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Connect to a cluster at host:port once: Ray itself waits for minutes if nothing answers there."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()


def room(*, threads: int, gpu: bool) -> int:
    """Return how many tasks the cluster has room for, at least one."""
    found = _ray().cluster_resources()
    return max(1, int(found.get("GPU", 0) if gpu else found.get("CPU", 0) // threads))


def _settings(address: str) -> dict[str, Any]:
    return {"include_dashboard": False} if address == LOCAL else {}


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ray() -> Any:
    return require("ray", extra="ray")
