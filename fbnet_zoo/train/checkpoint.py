"""Restoring the state of a run from a checkpoint, whose every part is checked: keys, shapes and finite numbers."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from fbnet_zoo.errors import InputError

if TYPE_CHECKING:
    from fbnet_zoo.train.run_loop import LoopState

_OF_TORCH = frozenset({"optimizer", "schedule", "weights", "theta", "scaler"})
"""Parts in a format of PyTorch, whose keys differ between its versions."""

_IDENTITY = "identity"


def restore(state: "LoopState", saved: Any, origin: str) -> None:
    """Restore a state from the content of a checkpoint.

    Args:
        state: state of the same run, at any step.
        saved: content of the checkpoint.
        origin: path of the checkpoint.

    Raises:
        InputError: the checkpoint is damaged or from another run; the text gives file and key.
    """
    if not isinstance(saved, Mapping):
        _refuse(origin, (), "is no mapping")
    content, expected = saved.get("state", saved), state.state_dict()  # nested in checkpoints of earlier versions
    try:
        state.load_state_dict(content)
    except InputError:
        raise
    except Exception as error:  # what PyTorch raises for damaged states has no common base
        check_parts(expected, content, origin)
        _refuse(origin, (), f"does not fit this run ({type(error).__name__}: {' '.join(str(error).split())})")
    check_parts(expected, content, origin)
    if not 0 <= state.step <= state.total:
        _refuse(origin, ("step",), f"{state.step} is not a step of this run, which has {state.total}")


def check_parts(expected: Mapping[str, Any], found: Any, origin: str) -> None:
    """Check that a state has the parts, keys and shapes of another, and only finite numbers.

    Args:
        expected: state of the same kind.
        found: state to check.
        origin: path of its file.

    Raises:
        InputError: the states differ, or a number is NaN or infinite; the text gives file and key.
    """
    _check_keys(expected, found, origin, ())
    for name, part in found.items():
        if name in _OF_TORCH:
            _check_values(part, origin, (name,))
        elif name != _IDENTITY:
            _check_like(expected[name], part, origin, (name,))


def _check_keys(expected: Mapping[str, Any], found: Any, origin: str, place: Sequence[Any]) -> None:
    if not isinstance(found, Mapping):
        _refuse(origin, place, "is no mapping")
    for key in (*expected, *found):
        if key not in found:
            _refuse(origin, (*place, key), "is missing")
        if key not in expected:
            _refuse(origin, (*place, key), "is not part of this run")


def _check_like(expected: Any, found: Any, origin: str, place: Sequence[Any]) -> None:
    if isinstance(expected, Mapping) and expected:  # an empty one is filled later
        _check_keys(expected, found, origin, place)
        for key, part in found.items():
            _check_like(expected[key], part, origin, (*place, key))
        return
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor) or found.shape != expected.shape:
            _refuse(origin, place, f"expected a tensor of shape {tuple(expected.shape)}")
    elif isinstance(expected, Real) and not isinstance(found, Real):
        _refuse(origin, place, "expected a number")
    _check_values(found, origin, place)


def _check_values(found: Any, origin: str, place: Sequence[Any]) -> None:
    """Refuse numbers that are not finite, at any depth."""
    finite = True
    if isinstance(found, Tensor):
        finite = bool(found.isfinite().all())
    elif isinstance(found, Real):
        finite = math.isfinite(found)
    if not finite:
        _refuse(origin, place, "has NaN or infinite values")
    parts = found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, list | tuple) else ()
    for key, part in parts:
        _check_values(part, origin, (*place, key))


def _refuse(origin: str, place: Sequence[Any], problem: str) -> NoReturn:
    where = ": ".join([f"{origin} is damaged", *filter(None, [".".join(map(str, place))])])
    raise InputError(f"{where}: {problem}; start again in another folder")
