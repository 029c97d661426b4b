"""What the command line writes where: results on stdout; notes, progress and errors on stderr."""

import itertools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from fbnet_zoo.errors import FbnetZooError, InputError

PIPED_WIDTH = 120
"""Columns of a table that goes into a file or a pipe, unless the variable COLUMNS says otherwise."""

_LEVEL_NAMES = {"DEBUG": ("debug", "dim"), "INFO": ("note", "cyan"), "WARNING": ("warning", "yellow")}

ItemT = TypeVar("ItemT")

log = logging.getLogger("fbnet_zoo")

_stderr: ContextVar[Console] = ContextVar("_stderr")


def show(*renderables: RenderableType) -> None:
    """Print results on stdout, without colours when that is no terminal."""
    console = _stdout()
    for renderable in renderables:
        console.print(renderable, crop=False)


def columns() -> int:
    """Return the width that `show` has."""
    return _stdout().width


def _stdout() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def show_json(data: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


def stderr() -> Console:
    """Return the console for everything but results."""
    return _stderr.get()


@contextmanager
def opened() -> Iterator[None]:
    """Have a console on stderr, which stays visible while libraries are silenced, with this library's log messages."""
    stream, level = _unsilenced(sys.stderr), log.level
    token, handler = _stderr.set(Console(file=stream, highlight=False)), _Notes()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        _stderr.reset(token)
        if stream is not sys.stderr:
            stream.close()


def _unsilenced(stream: TextIO) -> TextIO:
    """Return a stream to a copy of the descriptor: `fbnet_zoo._require.quiet` silences the original."""
    try:
        descriptor = os.dup(stream.fileno())
    except OSError:  # no file: a caller catches the text
        return stream
    return os.fdopen(descriptor, "w", encoding=stream.encoding, errors="backslashreplace", buffering=1)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind, style = _LEVEL_NAMES.get(record.levelname, ("error", "bold red"))
        say(kind, record.getMessage(), style)


def say(kind: str, message: str, style: str) -> None:
    """Print `kind: message` as one line on stderr, however long."""
    stderr().print(Text.assemble((f"{kind}: ", style), message), soft_wrap=True)


def set_verbose(value: bool) -> bool:
    """Let everything through that libraries and this one say, and the tracebacks of errors."""
    if value:
        log.setLevel(logging.DEBUG)
    return value


@contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show how a long job goes on, on stderr: as a bar on a terminal, elsewhere as one line per step.

    Yields:
        What to call with the name of each of `total` steps when it begins.
    """
    if not stderr().is_terminal:
        yield lambda step: say(title, step, "bold")
        return
    done = itertools.count()
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda step: bar.update(task, completed=next(done), description=f"{title}: {step}")


def track(items: Sequence[ItemT], title: str) -> Iterator[ItemT]:
    """Yield the items, with a bar on stderr where that is a terminal."""
    if not stderr().is_terminal:
        yield from items
        return
    with _bar() as bar:
        yield from bar.track(items, description=title)


def _bar() -> Progress:
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), *times)
    return Progress(*columns, console=stderr(), transient=True, redirect_stdout=False, redirect_stderr=False)


def report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong in one line on stderr, and return the exit code.

    Args:
        error: what went wrong.
        as_json: also print it as the object on stdout.
    """
    about = describe(error)
    if os.environ.get("RANK", "0") != "0":  # of processes that were launched together, the first speaks for all
        return about["exit_code"]
    if log.isEnabledFor(logging.DEBUG):
        stderr().print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True)
    if as_json:
        show_json({"error": about})
    say("error", about["message"], "bold red")
    return about["exit_code"]


def describe(error: Exception) -> dict[str, Any]:
    """Return kind, sentence and exit code of an error: 2 for what the user asked, 1 for what then failed."""
    code = getattr(error, "exit_code", 2 if isinstance(error, InputError) else 1)  # typer's errors have one
    return {"type": type(error).__name__, "message": sentence(error), "exit_code": code}


def sentence(error: Exception) -> str:
    """Return the text of an error on one line."""
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        way_out = f"; see '{context.command_path} --help'" if context else ""
        message = error.format_message().replace("Value error, ", "")
        return " ".join(message.split()).removesuffix(".") + way_out
    text = " ".join(str(error).split())
    if isinstance(error, FbnetZooError | OSError):
        return text
    return f"unexpected {type(error).__name__}: {text}; this is a defect, --verbose shows where"
