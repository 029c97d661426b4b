"""Programs of this project in forked processes, which real signals interrupt."""

import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fbnet_zoo import interruption
from fbnet_zoo.cli import main
from fbnet_zoo.interruption import SIGNALS

LONGEST_S = 300
"""Bound of every wait; none is that long unless something is broken, or the machine is very slow."""


@dataclass(slots=True)
class Program:
    """A program in a process of its own.

    It is forked, not started: libraries that take seconds to import are there already. Its temporary files are in
    `scratch`, its output is in `text`.
    """

    act: Callable[["Program"], None]
    folder: Path
    pid: int = 0
    pipe: tuple[int, int] = field(default_factory=os.pipe)

    def __post_init__(self) -> None:
        self.scratch.mkdir(exist_ok=True)
        self.pid = os.fork()
        if not self.pid:
            self._live()
        os.close(self.pipe[1])  # so that its end is noticed

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def text(self) -> str:
        return (self.folder / "output").read_text()

    def announce(self) -> None:
        """Tell the test, from inside, that the work has begun."""
        os.write(self.pipe[1], b"!")

    def wait_for_work(self) -> None:
        """Wait until the work has begun."""
        ready, _, _ = select.select([self.pipe[0]], [], [], LONGEST_S)
        if not ready or not os.read(self.pipe[0], 1):
            self.give_up()

    def wait_until(self, happened: Callable[[], Any]) -> None:
        """Wait until something outside shows that the work has begun."""
        deadline = time.monotonic() + LONGEST_S
        while not happened():
            if time.monotonic() > deadline or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self.give_up()
            time.sleep(0.01)

    def give_up(self) -> NoReturn:
        os.kill(self.pid, signal.SIGKILL)
        pytest.fail(f"it ends with {self.end()} after:\n{self.text}")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait for the end; return the exit code, or minus the number of the signal that killed it."""
        descriptor = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([descriptor], [], [], LONGEST_S)
        finally:
            os.close(descriptor)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert ready, self.text
        return code

    def _live(self) -> NoReturn:
        code: object = 0
        try:
            for number in SIGNALS:  # as in a terminal, whatever those who run the tests ignore
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            interruption.GRACE_S = LONGEST_S / 2  # however slow the machine is
            tempfile.tempdir = str(self.scratch)
            output = os.open(self.folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            self.act(self)
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 99
        finally:
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))


def command(folder: Path, *words: object, prepare: Callable[[Program], None] = lambda _: None) -> Program:
    """Run `fbnet-zoo` with these words.

    Args:
        folder: folder for its output and temporary files.
        words: command line.
        prepare: called in the process, before the command.
    """

    def act(program: Program) -> None:
        sys.argv = ["fbnet-zoo", *map(str, words)]
        prepare(program)
        main()

    return Program(act, folder)
