"""What becomes of a task: a result, a failure that may be tried again, or an error of the user's input."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fbnet_zoo.errors import FbnetZooError, TrainingError

TaskT = TypeVar("TaskT")

ENDED = "the search ended"
"""Failure of tasks that are not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a task.

    Attributes:
        value: what the function returned.
        failed: reason of a failure that another try may not have.
        refused: error that every try would have.
    """

    value: Any = None
    failed: str | None = None
    refused: FbnetZooError | None = None


def attempt(function: Callable[[TaskT], object], task: TaskT) -> Answer:
    """Return what becomes of a task."""
    try:
        return Answer(value=function(task))
    except TrainingError as error:
        return Answer(failed=str(error))
    except FbnetZooError as error:
        return Answer(refused=error)
    except Exception as error:  # memory that ran out, a driver that failed: of any library, with any type
        return Answer(failed=f"{type(error).__name__}: {' '.join(str(error).split())}")


def attempt_pickled(content: bytes) -> Answer:
    """Return what becomes of a pickled pair of function and task."""
    try:
        function, task = pickle.loads(content)  # noqa: S301 - sent by the search that started this process
    except FbnetZooError as error:
        return Answer(refused=error)
    return attempt(function, task)
