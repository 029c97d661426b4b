"""Silence for one thread: what it prints, logs and warns of is kept apart, while all other threads are heard.

No descriptor is replaced here, except in `descriptor_2_to`. While any thread is silenced, `sys.stdout` and `sys.stderr`
are stand-ins that pass on what other threads write, and the filters for warnings and log records look at the thread.
They are removed when the last thread has finished, in whatever order threads begin and end.
"""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import StringIO
from types import TracebackType
from typing import IO, Any, TextIO

_NOISY_LOGGERS = frozenset(
    {
        "coreai_opt",
        "coreai_torch",
        "coremltools",
        "executorch",
        "onnx_ir",
        "onnxruntime",
        "onnxscript",
        "root",
        "torch",
        "torchao",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Where the output of a thread goes, instead of the streams of the process."""

    stdout: TextIO | None = None
    stderr: TextIO | None = None
    muted: bool = False


class _Thread(threading.local):
    state = _State()


_thread = _Thread()


class _Shared(AbstractContextManager[None]):
    """Something that is in place while at least one thread needs it."""

    def __init__(self, install: Callable[[], None], remove: Callable[[], None]) -> None:
        self.install, self.remove, self.lock, self.users = install, remove, threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            self.install()
            self.users += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self.remove()


class _StandIn:
    """Takes the place of `sys.stdout` or `sys.stderr`; a log handler may keep it for good."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name_in_sys, self.stream = name, stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target(), name)

    def target(self) -> Any:
        """Return the stream of the current thread."""
        if own := getattr(_thread.state, self.name_in_sys):
            return own
        return StringIO() if getattr(self.stream, "closed", False) else _unswapped(self.stream)


_latest: dict[str, _StandIn] = {}
"""The stand-ins are kept, and used again: before Python 3.14, `print` crashes if its stream is freed meanwhile."""


def _install_stand_ins() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, _StandIn):
            continue
        if name not in _latest or _latest[name].stream is not stream:
            _latest[name] = _StandIn(name, stream)
        setattr(sys, name, _latest[name])


def _remove_stand_ins() -> None:
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), _StandIn):
            setattr(sys, name, stream.stream)


class _Muted:
    """Stands for the regular expression of a warning filter, and matches in threads that are muted."""

    def match(self, _: str) -> bool:
        return _thread.state.muted


_IGNORED: Any = ("ignore", _Muted(), Warning, None, 0)


def _is_wanted(record: logging.LogRecord) -> bool:
    return not _thread.state.muted or not _is_noisy(record.name)


def _is_noisy(logger: str) -> bool:
    return logger.partition(".")[0] in _NOISY_LOGGERS


def _handlers() -> list[logging.Handler]:
    root = logging.getLogger()
    known = list(root.manager.loggerDict.items())
    noisy = [logger for name, logger in known if isinstance(logger, logging.Logger) and _is_noisy(name)]
    last = [logging.lastResort] if logging.lastResort else []
    return [*last, *(handler for logger in (root, *noisy) for handler in logger.handlers)]


def _add_to_root(handler: logging.Handler) -> None:
    """Add a handler, unless a muted thread asks: executorch's import calls `logging.basicConfig()`."""
    if not _thread.state.muted:
        logging.Logger.addHandler(logging.getLogger(), handler)


def _install_filters() -> None:
    filters: Any = warnings.filters
    if _IGNORED not in filters:
        filters.insert(0, _IGNORED)
    for handler in _handlers():
        handler.addFilter(_is_wanted)
    logging.getLogger().addHandler = _add_to_root  # type: ignore[method-assign,assignment]


def _remove_filters() -> None:
    filters: Any = warnings.filters
    if _IGNORED in filters:
        filters.remove(_IGNORED)
    for handler in _handlers():
        handler.removeFilter(_is_wanted)
    vars(logging.getLogger()).pop("addHandler", None)


_stand_ins = _Shared(_install_stand_ins, _remove_stand_ins)
_filters = _Shared(_install_filters, _remove_filters)


@contextmanager
def muted() -> Iterator[None]:
    """Ignore this thread's warnings, and its records of loggers of other libraries."""
    with _filters, _as(replace(_thread.state, muted=True)):
        yield


@contextmanager
def output_to(text: TextIO) -> Iterator[None]:
    """Write what this thread prints into `text`, which must not be closed: a log handler may keep it."""
    with _stand_ins, _as(replace(_thread.state, stdout=text, stderr=text)):
        yield


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Write what this thread prints on stdout to stderr."""
    with _stand_ins, _as(replace(_thread.state, stdout=sys.stderr)):
        yield


@contextmanager
def _as(state: _State) -> Iterator[None]:
    before, _thread.state = _thread.state, state
    try:
        yield
    finally:
        _thread.state = before


@dataclass(slots=True)
class _Swap:
    """The state of descriptor 2 while it is replaced: a stream to what it was before."""

    screen: TextIO | None = None


_swap = _Swap()
_swap_lock = threading.RLock()


@contextmanager
def descriptor_2_to(sink: IO[str]) -> Iterator[None]:
    """Write what compiled code prints on descriptor 2 into `sink`; one thread at a time.

    Other threads are still heard, except for what they write to the descriptor itself. Descriptor 1 is never replaced.
    """
    with _swap_lock, _stand_ins, _duplicate_of_2() as screen:
        outer, _swap.screen = _swap.screen, _swap.screen or screen
        try:
            if screen:
                os.dup2(sink.fileno(), 2)
            yield
        finally:
            if screen:
                os.dup2(screen.fileno(), 2)
            _swap.screen = outer


def _duplicate_of_2() -> AbstractContextManager[TextIO | None]:
    try:
        copy = os.dup(2)
    except OSError:  # the process has closed it, so there is nothing to silence
        return nullcontext()
    encoding = getattr(sys.stderr, "encoding", None)
    return os.fdopen(copy, "w", encoding=encoding, errors="backslashreplace", buffering=1)


def _unswapped(stream: TextIO) -> TextIO:
    if _swap.screen is None:
        return stream
    try:
        return _swap.screen if stream.fileno() == 2 else stream
    except (OSError, ValueError, AttributeError):  # not a file, or closed
        return stream
