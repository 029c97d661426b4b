"""Running programs on this machine, through one function that tests can replace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbnet_zoo import programs
from fbnet_zoo.benchmarks.measure import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Exit code and output of a program."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Both streams, as programs print errors to either."""
        return b"\n".join((self.stdout, self.stderr)).decode(errors="replace").strip()


Run = Callable[[Sequence[str], float], Output]
"""Runs a command line with a time limit in seconds; raises `TimeoutError` or another `OSError`."""


def run_program(command: Sequence[str], timeout_s: float) -> Output:
    """Run a program on this machine and wait for it.

    Raises:
        TimeoutError: the program did not finish in time and was killed.
        OSError: the program cannot be started.
    """
    done = programs.run(command, timeout_s=timeout_s)
    return Output(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def save_inputs(inputs: Inputs, folder: Path) -> tuple[str, ...]:
    """Write input tensors as `.npy` files for another process; return their paths."""
    paths = [folder / f"input{number}.npy" for number in range(len(inputs))]
    for path, tensor in zip(paths, inputs, strict=True):
        np.save(path, np.asarray(tensor))
    return tuple(map(str, paths))
