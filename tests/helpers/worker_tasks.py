"""Tasks for workers that die, hang or fail as they are told, and notes of how often each was tried."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.errors import InputError, TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A number to be squared.

    Attributes:
        number: the number.
        folder: folder of the notes.
        trouble: what happens first: `die`, `hang`, `nan`, `bug`, `refuse`, or nothing.
        times: how often that happens.
    """

    number: int
    folder: Path
    trouble: str = ""
    times: int = 0

    def __str__(self) -> str:
        return f"task {self.number}"


def square(task: Task) -> int:
    """Return the square of the number, after the trouble."""
    notes = task.folder / f"{task.number}.txt"
    with notes.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(tries(task)) <= task.times:
        _trouble(task.trouble)
    return task.number**2


def tries(task: Task) -> list[int]:
    """Return the processes that tried a task."""
    notes = task.folder / f"{task.number}.txt"
    return [int(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def _trouble(kind: str) -> None:
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        time.sleep(3600)
    elif kind == "nan":
        raise TrainingError("the loss is nan at step 3")
    elif kind == "bug":
        raise RuntimeError("out of\n  memory")
    elif kind == "refuse":
        raise InputError("image.png cannot be read")


def wait_for(task: Task) -> int:
    """Return the square of the number once the task before it has begun."""
    (task.folder / f"{task.number}.txt").write_text(f"{os.getpid()}\n")
    while task.number and not (task.folder / f"{task.number - 1}.txt").exists():
        time.sleep(0.01)
    return task.number**2
