"""Workers that are processes of this machine, each of which lives from its first task to the end of the search."""

import pickle
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Event, Lock, Timer
from typing import IO, Any

from fbnet_zoo import programs
from fbnet_zoo.search.workers.answer import ENDED, Answer, TaskT

_MODULE = "fbnet_zoo.search.workers.child"
_LAST_LINES = 3


class LocalWorker:
    """A process of this machine; one that died or hung is replaced by another at the next task.

    Args:
        limit_s: longest time of a task, seconds (default: no limit).
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._lock, self._stopped = Lock(), False
        self._process: programs.Process | None = None
        self._until_end = ExitStack()
        self._messages: IO[bytes] | None = None

    def run(self, function: Callable[[TaskT], object], task: TaskT) -> Answer:
        """Return what becomes of a task."""
        content = pickle.dumps((function, task))
        process = self._running()
        if process is None:
            return Answer(failed=ENDED)
        late = Event()
        try:
            _send(process, content)
            _receive(process)  # it has begun
            return self._receive_in_time(process, late)
        except (EOFError, OSError, pickle.UnpicklingError):
            programs.kill(process)
            failed = f"not finished within {self.limit_s:g} s" if late.is_set() else self._ending(process)
            self.close()
            return Answer(failed=failed)

    def _receive_in_time(self, process: programs.Process, late: Event) -> Answer:
        if self.limit_s is None:
            return _receive(process)

        def kill() -> None:
            late.set()
            programs.kill(process)

        timer = Timer(self.limit_s, kill)
        timer.start()
        try:
            return _receive(process)
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Kill the process, from any thread; later tasks are not begun."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            programs.kill(process)

    def close(self) -> None:
        """Release what belongs to a process that was killed."""
        with self._lock:
            ended, self._until_end, self._process = self._until_end, ExitStack(), None
        with suppress(OSError):  # of a task that it did not read
            ended.close()

    def _running(self) -> programs.Process | None:
        """Return the process, started if necessary; `None` after the end of the search."""
        with self._lock:
            if self._stopped:
                return None
            if self._process is None:
                self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
                self._until_end.enter_context(self._messages)
                command, environment = programs.python_command(_MODULE), programs.python_environment()
                started = programs.started(command, environment, stderr=self._messages)
                self._process = self._until_end.enter_context(started)
            return self._process

    def _ending(self, process: programs.Process) -> str:
        """Return how a process ended, and the last lines of what it printed."""
        how = f"its process {programs.ending(process.wait())}"
        if self._messages is None:
            return how
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").split("\n")
        last = " | ".join([line for line in lines if line.strip()][-_LAST_LINES:])
        return f"{how}; its last lines: {last}" if last else how


def _send(process: programs.Process, content: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - `programs.started` opens it
    pickle.dump(content, process.stdin)
    process.stdin.flush()


def _receive(process: programs.Process) -> Any:
    assert process.stdout is not None  # noqa: S101 - `programs.started` opens it
    return pickle.load(process.stdout)  # noqa: S301 - sent by the process that we started
