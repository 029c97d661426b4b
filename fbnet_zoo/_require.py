"""Imports of optional and noisy libraries.

These imports take seconds, may fail, and print. Code does them inside the function that needs them:
`onnx = require("onnx", extra="onnx")`. Their output is suppressed unless the logger `fbnet_zoo` is at DEBUG, which `-v`
sets.
"""

import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from types import ModuleType
from typing import IO

from fbnet_zoo.errors import MissingExtraError

PURPOSES = {
    "onnx": "ONNX export",
    "coreml": "Core ML export",
    "executorch": "ExecuTorch export",
    "coreai": "Core AI export",
    "ethosu": "Ethos-U estimation",
    "train": "Training",
}
"""Purpose of each extra of the distribution, for errors."""

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
_NOTE_LENGTH = 2000
_keep_alive: list[object] = []

log = logging.getLogger("fbnet_zoo")


def require(module: str, *, extra: str) -> ModuleType:
    """Return an optional library, imported; the error gives the command that installs it.

    Args:
        module: full name of the module, such as `executorch.exir`.
        extra: extra of `fbnet-zoo` that installs it, a key of `PURPOSES`.

    Raises:
        MissingExtraError: the library is not installed or cannot be imported.

    >>> require("onnx_of_the_future", extra="onnx")
    Traceback (most recent call last):
    ...
    fbnet_zoo.errors.MissingExtraError: ONNX export needs onnx_of_the_future: pip install 'fbnet-zoo[onnx]'
    """
    if loaded := sys.modules.get(module):
        return loaded
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(_cure(module, extra, error)) from error


def _cure(module: str, extra: str, error: ImportError) -> str:
    library = module.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return f"{PURPOSES[extra]} needs {library}: pip install 'fbnet-zoo[{extra}]'"
    return f"{PURPOSES[extra]} cannot import {module} ({error}): pip install --upgrade 'fbnet-zoo[{extra}]'"


def torchvision(module: str = "torchvision") -> ModuleType:
    """Return torchvision, or one of its modules such as `torchvision.transforms.v2`, imported.

    torchvision's wheels are often built for CUDA. With a CPU build of torch their compiled operators do not load, and
    the import fails at the first one that it describes, although all of the Python code would work. Only in that case
    the two required operators are declared without an implementation: `torchvision.ops.nms` raises, everything else
    works.

    Raises:
        ImportError: torchvision is not installed.
    """
    if loaded := sys.modules.get(module):
        return loaded
    with quiet():
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            _declare_box_operators()
        return importlib.import_module(module)


def _declare_box_operators() -> None:
    from torch.library import Library

    library = Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _keep_alive.append(library)  # the declarations end with the object


@contextmanager
def quiet(*, verbose: bool | None = None) -> Iterator[None]:
    """Suppress output of other libraries: file descriptors 1 and 2, Python's streams, warnings and log records.

    An exception passes through, with the end of the output as its note. The whole process is silent: a progress bar
    that must remain visible writes to a duplicate of descriptor 2, made before.

    Args:
        verbose: send all output to stderr instead (default: whether the logger `fbnet_zoo` is at DEBUG).

    >>> with quiet():
    ...     print("a banner")
    """
    if log.isEnabledFor(logging.DEBUG) if verbose is None else verbose:
        with redirect_stdout(sys.stderr):
            yield
        return
    # Handlers that a library adds inside may write to `text` later, so it is never closed.
    text = StringIO()
    with tempfile.TemporaryFile("w+", errors="replace") as sink:
        try:
            with ExitStack() as silence:
                silence.enter_context(_descriptors_to(sink))
                silence.enter_context(redirect_stdout(text))
                silence.enter_context(redirect_stderr(text))
                silence.enter_context(_loggers_muted())
                silence.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                yield
        except BaseException as error:
            sink.seek(0)
            _note(error, sink.read() + text.getvalue())
            raise


@contextmanager
def _descriptors_to(sink: IO[str]) -> Iterator[None]:
    _flush()
    screen = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in screen:
            os.dup2(sink.fileno(), descriptor)
        yield
    finally:
        _flush()
        for descriptor, copy in screen.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


@contextmanager
def _loggers_muted() -> Iterator[None]:
    def wanted(record: logging.LogRecord) -> bool:  # a new object in every call, so that nested calls do not remove it
        return record.name.partition(".")[0] not in _NOISY_LOGGERS

    root = logging.getLogger()
    before = list(root.handlers)
    for handler in before:
        handler.addFilter(wanted)
    try:
        yield
    finally:
        for handler in before:
            handler.removeFilter(wanted)
        # executorch calls logging.basicConfig() on import; its handler would hide all other warnings.
        for handler in [handler for handler in root.handlers if handler not in before]:
            root.removeHandler(handler)


def _note(error: BaseException, output: str) -> None:
    if output.strip():
        error.add_note(f"output before this error:\n{output.strip()[-_NOTE_LENGTH:]}")
