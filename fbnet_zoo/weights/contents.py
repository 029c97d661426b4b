"""What is in a checkpoint file, read without executing anything, and the state dicts in it.

Training programs write them below keys such as `model_ema`, and with prefixes such as `module.`.
"""

import argparse
import functools
import pathlib
import re
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.weights.sources import SAFETENSORS

_WRAPPERS = (
    "model_ema",  # torchvision
    "state_dict_ema",  # timm
    "ema_state_dict",  # MMEngine
    "state_dict",  # timm, Lightning, MMEngine
    "model_state_dict",  # PyTorch's tutorials
    "model",  # torchvision, Detectron2
    "module",  # DeepSpeed
)
"""Keys of the state dict in files of training programs; averaged weights, which are what is published, come first."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""Prefixes of a network inside another module, which may have further values: `DataParallel` and `AveragedModel`,
`torch.compile`, and attributes of a `LightningModule`."""

_DEEPEST = 4
"""Number of prefixes that are removed one after the other."""

_SHOWN_KEYS = 5
_lock = threading.Lock()  # PyTorch's list of allowed classes belongs to the process


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """Return the content of a file, and the metadata of a safetensors file.

    Raises:
        InputError: there is no such file.
        WeightsError: the file is not one of plain values, or is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected the path of a checkpoint, a tag or an address")
    try:
        if path.suffix == SAFETENSORS:
            return _safetensors(path)
        with _plain_values_allowed():
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # readers of damaged files raise almost anything
        if limits.memory_error(error):
            raise
        raise WeightsError(f"{path} is not a checkpoint of plain tensors: {_found(path, error)}") from error


def state_dicts(path: Path, content: Any) -> list[dict[str, Any]]:
    """Return the state dict in the content of a file: as it is, then without prefixes.

    Raises:
        WeightsError: there is none.
    """
    state = _unwrapped(content)
    if not _is_state_dict(state):
        raise WeightsError(
            f"{path} contains no state dict but {_described(content)}; expected tensors by name, at the top or under "
            f"{', '.join(_WRAPPERS)}"
        )
    return list(_without_prefixes(state, _DEEPEST))


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    # Read, not mapped: overwriting the file of a network in use must not change its values or crash the process.
    with safe_open(path, framework="pt", backend="pread") as file:
        return file.get_tensors(), file.metadata() or {}


@contextmanager
def _plain_values_allowed() -> Iterator[None]:
    """Allow what training programs save beside the weights: settings, paths, and numbers and arrays of NumPy."""
    with _lock:
        known = torch.serialization.get_safe_globals()
        with torch.serialization.safe_globals([each for each in _plain_values() if each not in known]):
            yield


@functools.cache
def _plain_values() -> tuple[Any, ...]:
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?SU"}
    numpy_core = ("numpy.core.multiarray", "numpy._core.multiarray")  # before NumPy 2, and since
    local = ("pathlib", "pathlib._local")  # before Python 3.13, and since
    return (
        argparse.Namespace,
        types.SimpleNamespace,
        *((pathlib.PurePosixPath, f"{module}.PosixPath") for module in local),
        *((pathlib.PureWindowsPath, f"{module}.WindowsPath") for module in local),
        *((scalar, f"{module}.scalar") for module in numpy_core),
        *((array, f"{module}._reconstruct") for module in numpy_core),
        np.ndarray,
        np.dtype,
        *dtypes,
    )


def _found(path: Path, error: Exception) -> str:
    """Describe a file that cannot be read, and what to do."""
    if name := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it has a {name[1]!r}, and would run code, which is never allowed; save only the state dict"
    if "TorchScript" in str(error):
        return "it is a TorchScript program; save only the state dict of the network"
    with path.open("rb") as file:
        start = file.read(64)
    is_safetensors = path.suffix == SAFETENSORS
    forms = {
        "it is empty; download or save it again": not start,
        "it is a web page; download the file itself": start.lstrip()[:1] == b"<",
        "it is a pointer of Git LFS; download the file itself": start.startswith(b"version https://git-lfs"),
        f"it is a safetensors file; give it a name ending in {SAFETENSORS}": (
            not is_safetensors and start[8:9] == b"{"
        ),
        "it was written by torch.save; give it a name ending in .pth": is_safetensors and start[:1] in {b"P", b"\x80"},
    }
    unknown = (
        f"it is damaged, has another format or would run code, which is never allowed ({type(error).__name__}); "
        "download it again, or save only the state dict"
    )
    return next((form for form, applies in forms.items() if applies), unknown)


def _unwrapped(content: Any) -> Any:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if _is_filled(content.get(key))), None)
        if inner is None:
            break
        content = inner
    return content


def _is_filled(content: Any) -> bool:
    """Return whether a wrapper has what may be a state dict, or another wrapper."""
    if not isinstance(content, Mapping):
        return False
    return any(isinstance(value, Tensor) for value in content.values()) or any(
        isinstance(content.get(key), Mapping) for key in _WRAPPERS
    )


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        return False
    return any(isinstance(value, Tensor) for value in content.values())


def _described(content: Any) -> str:
    if not isinstance(content, Mapping):
        return "one tensor" if isinstance(content, Tensor) else f"one object of the type {type(content).__name__}"
    if not content:
        return "an empty dictionary"
    keys = ", ".join(f"{str(key)[:40]!r}" for key in list(content)[:_SHOWN_KEYS])
    more = f" and {len(content) - _SHOWN_KEYS} more" if len(content) > _SHOWN_KEYS else ""
    return f"a dictionary with the keys {keys}{more}"


def _without_prefixes(state: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Yield a state dict, and its parts below a known prefix or one that all names share."""
    yield state
    if depth:
        for prefix in _prefixes(state):
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            yield from _without_prefixes(part, depth - 1)


def _prefixes(state: Mapping[str, Any]) -> list[str]:
    first = {f"{name.partition('.')[0]}." for name in state}
    return list(first) if len(first) == 1 else [prefix for prefix in _PREFIXES if prefix in first]
