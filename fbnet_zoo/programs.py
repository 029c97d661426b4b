"""Running other programs, so that none of them outlives its use: not after a time limit, an error or an interruption.

Each program is started in a session of its own and killed together with the programs that it started.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Event, Lock, current_thread, main_thread
from typing import IO, Self

Process = subprocess.Popen[bytes]

_lock = Lock()
_running: set[Process] = set()


class _Start:
    """The start of a program by the main thread: a signal handler that raised then would lose the program."""

    def __init__(self) -> None:
        self._in_progress = False
        self._next: Callable[[], None] | None = None

    def __enter__(self) -> None:
        if current_thread() is main_thread():
            self._in_progress = True

    def __exit__(self, *_: object) -> None:
        if current_thread() is main_thread():
            self._in_progress = False
            act, self._next = self._next, None
            if act is not None:
                act()

    def then(self, act: Callable[[], None]) -> None:
        """Call a function: at once or, while the main thread starts a program, when that can be killed.

        For signal handlers that raise an exception.
        """
        if self._in_progress:
            self._next = act
        else:
            act()


_start = _Start()
after_start = _start.then


class Canceller:
    """Interrupts the work of one thread, since Ctrl-C reaches only the main one.

    After `cancel`, which another thread calls, the program or pause in progress in the `with` block, or else the next
    one, ends with a `KeyboardInterrupt`. This happens once, so that programs can still be used for cleanup.
    """

    def __init__(self) -> None:
        self._asked, self._raised = Event(), False
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._token = _canceller.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _canceller.reset(self._token)

    def cancel(self) -> None:
        """Interrupt the thread."""
        self._asked.set()
        with _lock:
            process = self._process
        if process is not None:
            kill(process)

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if the thread is to be interrupted and has not been yet."""
        if self._asked.is_set() and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def pause(self, seconds: float) -> None:
        """Wait; after the interruption, do not."""
        self._asked.wait(seconds)
        self.check()

    @contextmanager
    def watching(self, process: Process) -> Iterator[None]:
        """Kill a program if the thread is interrupted meanwhile."""
        with _lock:
            self._process = process
        if self._asked.is_set() and not self._raised:
            kill(process)
        try:
            yield
        finally:
            with _lock:
                self._process = None
        self.check()


_canceller: ContextVar[Canceller | None] = ContextVar("_canceller", default=None)


def run(
    command: Sequence[str], *, timeout_s: float, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return its exit code and output.

    Args:
        command: program and arguments.
        timeout_s: time limit, seconds.
        stdin: input of the program.
        environment: environment variables (default: those of this process).

    Raises:
        TimeoutError: the program did not finish in time and was killed.
        OSError: the program cannot be started.
        KeyboardInterrupt: the user or a `Canceller` interrupted it; it was killed.
    """
    canceller = _canceller.get() or Canceller()
    canceller.check()
    with started(command, environment) as process, canceller.watching(process):
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"not finished within {timeout_s:g} s") from error
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def pause(seconds: float) -> None:
    """Wait; a `Canceller` ends the wait with a `KeyboardInterrupt`."""
    canceller = _canceller.get()
    if canceller is None:
        time.sleep(seconds)
    else:
        canceller.pause(seconds)


def kill_all() -> None:
    """Kill every program that is running, from any thread, as the last act of a process."""
    with _lock:
        running = tuple(_running)
    for process in running:
        kill(process)


def python_command(module: str) -> list[str]:
    """Return the command that runs a module in a process of its own, with the environment of `python_environment`.

    -P, lest a file torch.py in the working folder be imported as PyTorch.
    """
    return [sys.executable, "-P", "-m", module]


def python_environment() -> dict[str, str]:
    """Return the environment of this process, with its import path."""
    places = os.pathsep.join(dict.fromkeys(path or str(Path.cwd()) for path in sys.path))
    return {**os.environ, "PYTHONPATH": places}


def ending(code: int) -> str:
    """Return how a program without a result ended, as words that follow its name.

    >>> ending(-11), ending(3)
    ('was killed by SIGSEGV', 'exited with code 3 and no result')
    """
    if code >= 0:
        return f"exited with code {code} and no result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (", usually because memory ran out" if name == "SIGKILL" else "")


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, stderr: IO[bytes] | None = None
) -> Iterator[Process]:
    """Start a program that `kill_all` knows; wait for its end, or kill it on an error.

    Args:
        command: program and arguments.
        environment: environment variables (default: those of this process).
        stderr: file for its messages (default: a pipe).
    """
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        with _start:
            process = subprocess.Popen(  # noqa: S603  our own command lines
                list(command), stdin=pipe, stdout=pipe, stderr=stderr or pipe, env=environment, start_new_session=True
            )
            stack.enter_context(process)
            stack.enter_context(_known(process))
        yield process


@contextmanager
def _known(process: Process) -> Iterator[None]:
    """Make a program known to `kill_all`, and kill it on an error."""
    with _lock:
        _running.add(process)
    try:
        yield
    except BaseException:
        kill(process)
        process.wait()  # after Ctrl-C, `Popen` itself would not
        raise
    finally:
        with _lock:
            _running.discard(process)


def kill(process: Process) -> None:
    """Kill a program, and those that it started, unless it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
