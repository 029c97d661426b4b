"""Private parts of other libraries that have no public counterpart, with the versions that they were seen in.

Nothing else in this package uses a name of another library that begins with an underscore. A version that lacks one of
them is told by an error that names the installed version; what is known to break is excluded in `pyproject.toml`.
"""

import importlib
from types import ModuleType
from typing import Any

import numpy as np

# No public way to see every operator as it runs: torch 2.13.0 to 2.14.1.
from torch.utils._python_dispatch import TorchDispatchMode

# The public torch.utils.pytree is not in every version yet: torch 2.13.0 to 2.14.1.
from torch.utils._pytree import tree_leaves

from fbnet_zoo._require import require, wrong_version
from fbnet_zoo.errors import MissingExtraError

__all__ = [
    "TorchDispatchMode",
    "executorch_runtime",
    "kmeans_table",
    "load_bundle",
    "load_program",
    "set_threads",
    "tree_leaves",
]

_PYBINDINGS = "executorch.extension.pybindings"
_RUNTIMES = ("_C", "_portable_lib")
"""Names of ExecuTorch's compiled runtime: from executorch 1.5.1, and in 1.4.1."""


def executorch_runtime() -> ModuleType:
    """Return ExecuTorch's compiled runtime; torch must have been imported.

    The public `portable_lib` has the same functions, but imports the whole exporter, 150 MB that no application loads.

    Raises:
        MissingExtraError: ExecuTorch is not installed, or has it under another name.
    """
    require("executorch.extension", extra="executorch")
    for name in _RUNTIMES:
        module = f"{_PYBINDINGS}.{name}"
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise MissingExtraError(wrong_version(f"{_PYBINDINGS}.{_RUNTIMES[0]}", "executorch"))


def set_threads(runtime: ModuleType, count: int) -> None:
    """Set the number of threads of ExecuTorch's runtime: executorch 1.4.1 to 1.5.1."""
    runtime._unsafe_reset_threadpool(count)  # noqa: SLF001


def load_program(runtime: ModuleType, path: str) -> Any:
    """Return a program of ExecuTorch's runtime: executorch 1.4.1 to 1.5.1."""
    return runtime._load_program(path)  # noqa: SLF001


def load_bundle(content: bytes) -> Any:
    """Return a bundled program, which has no other reader: executorch 1.4.1 to 1.5.1."""
    library = require(f"{_PYBINDINGS}.portable_lib", extra="executorch")
    return library._load_bundled_program_from_buffer(content)  # noqa: SLF001


def kmeans_table(bits: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coremltools' table `(2**bits,)` with the least squared error, and places in it: coremltools 9.0."""
    utils = require("coremltools.models.neural_network.quantization_utils", extra="coreml")
    return utils._get_kmeans_lookup_table_and_weight(bits, weights, force_kmeans1d=True)  # noqa: SLF001
