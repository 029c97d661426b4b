"""A process that works for a search on the same machine: `python -m fbnet_zoo.search.workers.child`.

It reads pickled tasks from stdin, and writes `BEGUN` and an `Answer` for each to stdout; what libraries print goes to
stderr. It ends as soon as stdin does, in the middle of a task, too: then the search has ended.
"""

import os
import pickle
import sys
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import IO

from fbnet_zoo.search.workers.answer import attempt_pickled

BEGUN = "begun"
"""Sent when a task has arrived, and its time begins."""


def serve() -> None:
    """Work on the tasks from stdin until it ends."""
    answers = _take_stdout()
    for content in _tasks():
        _send(answers, BEGUN)
        _send(answers, attempt_pickled(content))


def _take_stdout() -> IO[bytes]:
    """Return the real stdout, and redirect everything printed from now on to stderr."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _tasks() -> Iterator[bytes]:
    found: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(found,), daemon=True).start()
    while True:
        yield found.get()


def _listen(found: "SimpleQueue[bytes]") -> None:
    """Pass on what arrives; end the process when nothing more can."""
    try:
        while True:
            found.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - sent by the search that started this process
    except (EOFError, pickle.UnpicklingError):
        os._exit(0)


def _send(answers: IO[bytes], content: object) -> None:
    pickle.dump(content, answers)
    answers.flush()


if __name__ == "__main__":
    serve()
