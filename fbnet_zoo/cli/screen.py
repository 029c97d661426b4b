"""Output of the command line: results on stdout; notes, progress and errors on stderr."""

import itertools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

import typer
from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fbnet_zoo import interruption, limits
from fbnet_zoo.cli.fitted_table import FittedTable
from fbnet_zoo.cli.literal import LiteralConsole, literal
from fbnet_zoo.errors import FbnetZooError, InputError

PIPED_WIDTH = 120
"""Width of output that goes into a file or a pipe, in columns, unless the variable COLUMNS is set."""

INTERRUPTED = 130
"""Exit code of a command that `KeyboardInterrupt` ended."""

_NARROW = 80
"""Width of a terminal below which progress is shown without a bar, in columns."""

_LEVEL_NAMES = {"DEBUG": ("debug", "dim"), "INFO": ("note", "cyan"), "WARNING": ("warning", "yellow")}

ItemT = TypeVar("ItemT")

log = logging.getLogger("fbnet_zoo")

_stderr: ContextVar[LiteralConsole] = ContextVar("_stderr")

_bars: ContextVar[Progress | None] = ContextVar("_bars", default=None)
"""The progress bars on the terminal, which has room for one group of them."""


def show(*renderables: RenderableType) -> None:
    """Print results on stdout, without colors if it is not a terminal."""
    console = _stdout()
    with results():
        for renderable in renderables:
            console.print(renderable, crop=False)


def table(*headers: str, gap: int = 2) -> Table:
    """Return an empty table with `gap` columns between its own; `>` before a header aligns to the right."""
    result = FittedTable(box=None, pad_edge=False, header_style="dim", padding=(0, gap, 0, 0))
    for header in headers:
        result.add_column(
            header.removeprefix(">"), justify="right" if header.startswith(">") else "left", overflow="fold"
        )
    return result


def columns() -> int:
    """Return the width of `show`, in columns."""
    return _stdout().width


def _stdout() -> LiteralConsole:
    console = LiteralConsole()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def show_json(data: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    with results():
        sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


class StdoutError(FbnetZooError):
    """Results cannot be written to stdout."""


@contextmanager
def results() -> Iterator[None]:
    """Write results to stdout inside.

    Raises:
        StdoutError: stdout cannot be written; what follows is discarded.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        discarded = os.open(os.devnull, os.O_WRONLY)
        os.dup2(discarded, sys.stdout.fileno())  # the interpreter flushes it again when it ends
        os.close(discarded)
        raise StdoutError(f"the results cannot be written to stdout ({error.strerror or error})") from error


def finish(code: int | None) -> int:
    """Write what is left of the results, such as help texts; return the exit code, not 0 if they cannot be written."""
    try:
        with results():
            return code or 0
    except StdoutError as error:
        return code or report(error, as_json=False)


def stderr() -> LiteralConsole:
    """Return the console for everything except results."""
    return _stderr.get()


@contextmanager
def opened() -> Iterator[None]:
    """Open a console on stderr that shows this library's log messages, even while other libraries are silenced."""
    stream, level = _unsilenced(sys.stderr), log.level
    token, handler = _stderr.set(LiteralConsole(file=stream)), _Notes()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        _stderr.reset(token)
        if stream is not sys.stderr:
            with suppress(OSError):  # nobody reads it, or its disk is full
                stream.close()


def _unsilenced(stream: TextIO) -> TextIO:
    """Return a stream to a copy of the descriptor: `fbnet_zoo._require.quiet` silences the original."""
    try:
        descriptor = os.dup(stream.fileno())
    except OSError:  # not a file: a caller captures the text
        return stream
    return os.fdopen(descriptor, "w", encoding=stream.encoding, errors="backslashreplace", buffering=1)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind, style = _LEVEL_NAMES.get(record.levelname, ("error", "bold red"))
        say(kind, record.getMessage(), style)


def say(kind: str, message: str, style: str) -> None:
    """Print `kind: message` as one line on stderr, however long, if stderr can be written."""
    with suppress(OSError):
        stderr().print(Text.assemble((f"{kind}: ", style), literal(message)), soft_wrap=True)


def set_verbose(value: bool) -> bool:
    """Show the debug messages of this library, and the tracebacks of errors."""
    if value:
        log.setLevel(logging.DEBUG)
    return value


@contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of a long job on stderr: a bar on a terminal, one line per step elsewhere.

    Yields:
        A function to call with the name of each of the `total` steps when it begins.
    """
    if not stderr().is_terminal:
        yield lambda step: say(title, step, "bold")
        return
    done = itertools.count()
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda step: bar.update(task, completed=next(done), description=literal(f"{title}: {step}"))


def track(items: Sequence[ItemT], title: str) -> Iterator[ItemT]:
    """Yield the items, with a progress bar on stderr if it is a terminal."""
    if not stderr().is_terminal:
        yield from items
        return
    with _bar() as bar:
        task = bar.add_task(literal(title), total=len(items))
        for item in items:
            yield item
            bar.advance(task)
        bar.remove_task(task)


@contextmanager
def _bar() -> Iterator[Progress]:
    """Yield the group of progress bars on the terminal; only the outermost call creates and removes it."""
    if (outer := _bars.get()) is not None:
        yield outer
        return
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), MofNCompleteColumn()]
    columns.append(TimeElapsedColumn())
    if stderr().width >= _NARROW:
        columns.insert(1, BarColumn(bar_width=20))
        columns += [TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=stderr(), transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        token = _bars.set(progress)
        try:
            yield progress
        finally:
            _bars.reset(token)


def report(error: Exception, *, as_json: bool) -> int:
    """Print an error as one line on stderr, and return the exit code.

    Args:
        error: the exception.
        as_json: whether to print it as a JSON object on stdout, too.
    """
    about = describe(error)
    unheard = isinstance(error.__cause__, BrokenPipeError)  # as when `head` has read enough
    if unheard or os.environ.get("RANK", "0") != "0":  # of processes launched together, only the first prints
        return about["exit_code"]
    if log.isEnabledFor(logging.DEBUG):
        stderr().print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True)
    if as_json and not isinstance(error, StdoutError):
        show_json({"error": about})
    say("error", about["message"], "bold red")
    return about["exit_code"]


def report_interruption(*, as_json: bool) -> None:
    """Print like `report` that a signal ended the program."""
    message, code = interruption.word(), interruption.received() or INTERRUPTED
    if as_json:
        show_json({"error": {"type": "Interrupted", "message": message, "exit_code": code}})
    say("error", message, "bold red")


def describe(error: Exception) -> dict[str, Any]:
    """Return type, message and exit code of an error: 2 for wrong input, 1 for a failure."""
    code = getattr(error, "exit_code", 2 if isinstance(error, InputError) else 1)  # typer's errors have one
    return {"type": type(error).__name__, "message": sentence(error), "exit_code": code}


def sentence(error: Exception) -> str:
    """Return the text of an error on one line."""
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        way_out = f"; see '{context.command_path} --help'" if context else ""
        message = error.format_message().replace("Value error, ", "")
        return " ".join(message.split()).removesuffix(".") + way_out
    if (memory := limits.memory_error(error)) is not None:
        return memory
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, FbnetZooError | OSError):
        return text
    return f"unexpected {type(error).__name__}: {text}; this is a bug; --verbose shows where"
