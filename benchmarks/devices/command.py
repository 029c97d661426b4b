"""Programs of this machine, started by one function that tests can replace."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a program on this machine left."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Both streams; programs divide their complaints between them."""
        return b"\n".join((self.stdout, self.stderr)).decode(errors="replace").strip()


Run = Callable[[Sequence[str], float], Output]
"""Runs a command line for at most so many seconds; raises `TimeoutError` or another `OSError`."""


def run_program(command: Sequence[str], timeout_s: float) -> Output:
    """Run a program of this machine and wait for it.

    Raises:
        TimeoutError: it did not end in time, and was stopped.
        OSError: it cannot be started.
    """
    try:
        done = subprocess.run(  # noqa: S603  the command lines are made by the modules of the devices
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"no end within {timeout_s:g} s") from error
    return Output(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)
