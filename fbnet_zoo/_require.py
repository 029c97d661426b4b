"""Imports of optional and noisy libraries.

These imports take seconds, may fail, and some print. Code does them inside the function that needs them:
`onnx = require("onnx", extra="onnx")`. What the importing thread prints is suppressed unless the logger `fbnet_zoo` is
at DEBUG, which `-v` sets; other threads are not affected.
"""

import importlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import metadata
from io import StringIO
from types import ModuleType

from fbnet_zoo import _silence
from fbnet_zoo.errors import MissingExtraError

PURPOSES = {
    "onnx": "ONNX export",
    "coreml": "Core ML export",
    "executorch": "ExecuTorch export",
    "coreai": "Core AI export",
    "ethosu": "Ethos-U estimation",
    "ray": "Training on a Ray cluster",
    "train": "Training",
}
"""Purpose of each extra of the distribution, for errors."""

_PRINT_ON_IMPORT = frozenset({"coreai_opt", "coreai_torch", "coremltools", "ethosu", "executorch", "torchao"})
_COMPILED_CODE_PRINTS = {"onnxruntime": r"\[[VIWEF]:onnxruntime:"}
"""Libraries whose compiled code prints on import, and the form of the lines: onnxruntime cannot always find a GPU."""

_NOTE_LENGTH = 2000
_keep_alive: list[object] = []
_importing = threading.RLock()

CONVERTING = threading.RLock()
"""Held while PyTorch exports a network, or a library converts or compiles one: they keep global state, so they work in
one thread at a time. Never acquired by an import."""

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
    try:
        return _imported(module)
    except ImportError as error:
        raise MissingExtraError(_cure(module, extra, error)) from error


def _imported(module: str) -> ModuleType:
    """Import a module; never return one that another thread is still importing."""
    if module in sys.modules:
        return importlib.import_module(module)
    with _importing, _silence_of(module.partition(".")[0]):
        return importlib.import_module(module)


def _silence_of(library: str) -> AbstractContextManager[None]:
    if noise := _COMPILED_CODE_PRINTS.get(library):
        return quiet_with_compiled_code(noise)
    return quiet() if library in _PRINT_ON_IMPORT else _silence.muted()


def _cure(module: str, extra: str, error: ImportError) -> str:
    library = module.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return f"{PURPOSES[extra]} needs {library}: pip install 'fbnet-zoo[{extra}]'"
    return f"{PURPOSES[extra]} cannot import {module} ({error}){_versions(library)}: {_upgrade(extra)}"


def wrong_version(name: str, extra: str) -> str:
    """Return the text of an error for an installed library that does not have what is needed of it.

    Args:
        name: full name of the module or function that is missing.
        extra: extra of `fbnet-zoo` that installs the library, a key of `PURPOSES`.
    """
    library = name.partition(".")[0]
    return f"{PURPOSES[extra]} needs {name}, which is missing{_versions(library)}: {_upgrade(extra)}"


def _upgrade(extra: str) -> str:
    return f"pip install --upgrade 'fbnet-zoo[{extra}]'"


def _versions(library: str) -> str:
    """Return which version of a library is installed and which are expected, if that is known."""
    names = metadata.packages_distributions().get(library, [])
    lines = [line.partition(";")[0].strip() for line in metadata.requires("fbnet-zoo") or ()]
    known = [(name, line) for name in names for line in lines if re.fullmatch(rf"{re.escape(name)}\b[^\w-].*", line)]
    return "".join(f"; {name} {metadata.version(name)} is installed, expected {line}" for name, line in known[:1])


def torchvision(module: str = "torchvision") -> ModuleType:
    """Return torchvision, or one of its modules such as `torchvision.transforms.v2`, imported.

    torchvision's wheels are often built for CUDA. With a CPU build of torch their compiled operators do not load, and
    the import fails at the first one that it describes, although all of the Python code would work. Only in that case
    the two required operators are declared without an implementation: `torchvision.ops.nms` raises, everything else
    works.

    Raises:
        ImportError: torchvision is not installed.
    """
    with _importing:
        try:
            _imported("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            _declare_box_operators()
        return _imported(module)


def _declare_box_operators() -> None:
    from torch.library import Library

    library = Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _keep_alive.append(library)  # the declarations end with the object


@contextmanager
def quiet(*, verbose: bool | None = None) -> Iterator[None]:
    """Suppress what other libraries print, log and warn of in this thread; other threads are not affected.

    An exception passes through, with the end of the output as its note.

    Args:
        verbose: send the output to stderr instead (default: whether the logger `fbnet_zoo` is at DEBUG).

    >>> with quiet():
    ...     print("a banner")
    """
    if log.isEnabledFor(logging.DEBUG) if verbose is None else verbose:
        with _silence.stdout_to_stderr():
            yield
        return
    text = StringIO()
    try:
        with _silence.output_to(text), _silence.muted():
            yield
    except BaseException as error:
        _note(error, text.getvalue())
        raise


@contextmanager
def quiet_with_compiled_code(noise: str = "") -> Iterator[None]:
    """Suppress like `quiet`, and what compiled code of the process writes to descriptor 2 meanwhile.

    Only for what is known to print there, and as short as possible: other threads may write to the descriptor, too.

    Args:
        noise: regular expression of the lines to suppress (default: all); others come when the block ends.
    """
    if log.isEnabledFor(logging.DEBUG):
        with quiet():
            yield
        return
    with tempfile.TemporaryFile("w+", errors="replace") as sink:
        try:
            with quiet(), _silence.descriptor_2_to(sink):
                yield
        except BaseException as error:
            sink.seek(0)
            _note(error, sink.read())
            raise
        sink.seek(0)
        others = "".join(line for line in sink if not re.search(noise, line))
        with suppress(OSError):
            os.write(2, others.encode())


def _note(error: BaseException, output: str) -> None:
    if output.strip():
        error.add_note(f"output before this error:\n{output.strip()[-_NOTE_LENGTH:]}")
