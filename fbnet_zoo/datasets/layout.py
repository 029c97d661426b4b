"""What the subfolders of a folder of images are: the parts of a split, or classes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.datasets.walker import SUFFIXES, subfolders
from fbnet_zoo.errors import InputError

LAYOUT = "expected train/ and val/ with one subfolder per class in each, or one subfolder per class"

_TRAIN = frozenset({"train", "training"})
_VALIDATION = frozenset({"val", "valid", "validation", "dev"})
_TEST = frozenset({"test", "testing"})
_PARTS = _TRAIN | _VALIDATION | _TEST

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The parts of a split data set.

    Attributes:
        train: folder of the training images.
        held_out: folder of the held-out images: for validation if there is one, else for testing.
        unused: names of further parts.
    """

    train: Path
    held_out: Path
    unused: tuple[str, ...] = ()


def find_split(folder: Path) -> Split | None:
    """Return the split of a folder with `train/` and `val/`, `valid/`, `validation/` or `test/`, in any case.

    Raises:
        InputError: the folder cannot be read, or two subfolders could be the same part.
    """
    names = subfolders(folder)
    train, validation, test = (_named(names, part) for part in (_TRAIN, _VALIDATION, _TEST))
    held_out = validation or test
    if not train or not held_out:
        return None
    for part in (train, held_out):
        if len(part) > 1:
            raise InputError(f"{folder}: {_shown(part)} could be the same part of a split; keep one of them")
    return Split(train=folder / train[0], held_out=folder / held_out[0], unused=tuple(test if validation else ()))


def check_classes(folder: Path, names: Sequence[str]) -> None:
    """Refuse subfolders that are parts of a split rather than classes.

    Args:
        folder: a folder.
        names: names of its subfolders.

    Raises:
        InputError: a subfolder is a part of a split, or contains a split.
    """
    parts = _named(names, _PARTS)
    if parts and (len(parts) == len(names) or any(_has_only_folders(folder / name) for name in parts)):
        raise InputError(f"{folder}: found only a part of a split, {_shown(parts)}; {LAYOUT}")
    for name in names:
        inside = subfolders(folder / name)
        inner = _named(inside, _PARTS)
        if find_split(folder / name) or (inner == inside and _has_only_folders(folder / name)):
            raise InputError(
                f"{folder}: found a part of a split inside {name}/, {_shown(inner)}; {LAYOUT}: give the path of that "
                "folder, or move its images"
            )
    for name in parts:
        log.warning("%s: %s/ is taken for a class, since there is no other part of a split", folder, name)


def _named(names: Sequence[str], part: frozenset[str]) -> list[str]:
    return [name for name in names if name.lower() in part]


def _has_only_folders(folder: Path) -> bool:
    """Return whether a folder has subfolders but no images, as a class rarely does."""
    images = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return bool(subfolders(folder)) and not any(images)


def _shown(names: Sequence[str]) -> str:
    return " and ".join(f"{name}/" for name in names)
