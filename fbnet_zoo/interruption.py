"""Ending a program that is interrupted: by Ctrl-C, SIGTERM, or a closed terminal.

The first of these signals raises `Interrupted` in the main thread, so that every `with` and `finally` block tidies up:
programs that were started are killed, phones cleared, temporary folders removed. Further signals do not disturb this. A
process that has not ended after `GRACE_S`, because it is inside a library or a device does not respond, kills the
processes that it started, and exits; what it leaves is removed by the next run.

Only programs do this, in their `main`: a library leaves the signals of the process alone.
"""

import functools
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from fbnet_zoo import programs

GRACE_S = 4.5
"""Time to tidy up, seconds."""

SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)

_ENDED = 128
"""Exit code of a program that a signal ended, minus the number of the signal (POSIX shells)."""

_received: list[int] = []
_blocked = threading.local()


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end."""


def received() -> int | None:
    """Return the exit code that the first signal asks for, if there was one."""
    return _ENDED + _received[0] if _received else None


def word() -> str:
    """Return what the first signal, or a plain `KeyboardInterrupt`, did to the program."""
    return "terminated" if _received and _received[0] != signal.SIGINT else "interrupted"


@contextmanager
def handled() -> Iterator[None]:
    """Handle the signals for a whole program, which exits with 128 plus the number of the signal (130 for Ctrl-C).

    To be entered in the main thread.
    """
    with raised(), _watched():
        try:
            yield
        except BaseException as error:  # whatever was made of the interruption on its way
            if not _received:
                raise
            if not isinstance(error, SystemExit):
                _say(word())
        if _received:
            raise SystemExit(received())


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Interrupted` at the first of the signals, and disregard further ones; ignored signals stay ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _raise)
    try:
        yield
    finally:
        if not _received:  # else the process is ending
            for number, handler in before.items():
                signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    if not _received:
        _received.append(number)
        programs.after_start(_interrupt)


def _interrupt() -> None:
    raise Interrupted


@contextmanager
def _watched() -> Iterator[None]:
    """Let a thread see the signals as they arrive, while the main thread may be inside a library."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    _register_at_fork()
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        if not _received:
            signal.set_wakeup_fd(before)
            writer.close()


def _watch(reader: socket.socket) -> None:
    with reader:
        while numbers := reader.recv(64):
            for number in numbers:
                if number in SIGNALS:  # not, for example, the end of a child process
                    end = time.monotonic() + GRACE_S
                    _wake(number, end)
                    time.sleep(max(0.0, end - time.monotonic()))
                    _leave(number)


def _wake(number: int, end: float) -> None:
    """Repeat a signal until the main thread notices it.

    A wait for a lock ends with a signal only if the waiting thread itself receives it, and not just before the wait.
    """
    main = threading.main_thread().ident
    while main and hasattr(signal, "pthread_kill") and not _received and time.monotonic() < end:
        time.sleep(0.05)
        signal.pthread_kill(main, number)


def _leave(number: int) -> None:
    """End the process, and those that it started, without tidying up."""
    if not _received:  # the main thread has not noticed
        _received.append(number)
    _say(f"{word()}; cleanup took too long, so the next run has to do it")
    programs.kill_all()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(_ENDED + number)


@functools.cache
def _register_at_fork() -> None:
    """Leave the decision to the parent process in forked ones, such as those that read images.

    Signals wait while a process is forked: until its handlers are reset, the child would wake the watch of its parent.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_reset)


def _block() -> None:
    _blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _blocked.before)


def _reset() -> None:
    active = [number for number in SIGNALS if signal.getsignal(number) is _raise]
    if active:
        signal.set_wakeup_fd(-1)
    for number in active:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    _unblock()


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"error: {text}\n".encode())
