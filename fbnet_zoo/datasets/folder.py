"""A folder of images, one subfolder per class."""

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.class_names import in_order
from fbnet_zoo.datasets.layout import LAYOUT, check_classes, find_split
from fbnet_zoo.datasets.records import Files, ImageDataset, labels_of
from fbnet_zoo.datasets.walker import find_images, subfolders
from fbnet_zoo.errors import InputError

HELD_OUT_OF = 5
"""One in this many images of each class is held out if the folder has no split."""

log = logging.getLogger(__name__)

_Sample = tuple[Path, int]


def folder(path: Path) -> ImageDataset:
    """Return the images of a folder, which are read on demand.

    With `train/` and `val/` (or `valid/`, `validation/`, `test/`, in any case), the images of the latter are held out.
    Otherwise there is one subfolder per class, and the first, sixth, eleventh … image of each class by name is held
    out.

    Args:
        path: the folder; classes are numbered in alphabetical order, or by value if all are whole numbers.

    Raises:
        InputError: there is no such folder, it has another layout, or a class has no training or no held-out image.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; {LAYOUT}")
    split = find_split(path)
    train = _Tree.of(split.train if split else path)
    if split:
        held_out = _Tree.of(split.held_out)
        _check_classes(path, train, held_out)
        samples, about = (train.samples, held_out.samples), f"the images of {split.held_out.name}/"
        unused = f"; not used: {', '.join(f'{name}/' for name in split.unused)}" if split.unused else ""
        log.info("%s: held out are %s%s", path, about, unused)
    if len(train.classes) == 1:
        raise InputError(f"{train.path}: found a single class, {train.classes[0]!r}; {LAYOUT}")
    if not split:
        samples, about = _divided(train), f"every fifth image of each class, by name ({HELD_OUT_OF} in one kept)"
    return ImageDataset(
        name=path.resolve().name,
        kind="folder",
        classes=train.classes,
        channels=3,
        size=None,
        train=_files(samples[0]),
        held_out=_files(samples[1]),
        split=about,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """Images in one subfolder per class."""

    path: Path
    classes: tuple[str, ...]
    samples: list[_Sample]

    @classmethod
    def of(cls, path: Path) -> "_Tree":
        found = find_images(path)
        names = [name for name in subfolders(path) if path / name not in found.repeated]
        check_classes(path, names)
        files: dict[str, list[Path]] = {name: [] for name in names}
        for file in found.files:
            inner = file.relative_to(path).parts
            if len(inner) > 1:
                files[inner[0]].append(file)
        _check_counts(path, files, loose=len(found.files))
        by_class = {_class_name(path, name): files[name] for name in names}
        if len(by_class) < len(names):
            raise InputError(f"{path}: two folder names differ only in how accents are stored; rename one")
        classes = in_order(by_class)
        samples = [(file, index) for index, name in enumerate(classes) for file in by_class[name]]
        return cls(path=path, classes=tuple(classes), samples=samples)


def _check_counts(path: Path, files: dict[str, list[Path]], *, loose: int) -> None:
    """Refuse a folder without subfolders, and classes without images."""
    if not files:
        found = f"{loose} images but no subfolders" if loose else "neither subfolders nor images"
        raise InputError(f"{path}: found {found}; {LAYOUT}")
    if empty := [name for name, inside in files.items() if not inside]:
        raise InputError(f"{path}: the class {empty[0]!r} has no images; add some, or remove its folder")


def _class_name(path: Path, name: str) -> str:
    """Return the name of a class from that of its folder, in the form that does not depend on the file system."""
    if any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in name):
        raise InputError(f"{path}: the folder name {name!r} has a line break or is not UTF-8 text; rename the folder")
    return unicodedata.normalize("NFC", name)


def _check_classes(path: Path, train: _Tree, held_out: _Tree) -> None:
    odd = sorted(set(train.classes) ^ set(held_out.classes))
    if odd:
        sides = (train.path.name, held_out.path.name)
        side, other = sides if odd[0] in train.classes else reversed(sides)
        raise InputError(f"{path}: {side}/ has the class {odd[0]!r}, {other}/ does not; expected the same classes")


def _divided(tree: _Tree) -> tuple[list[_Sample], list[_Sample]]:
    train, held_out = [], []
    for index, name in enumerate(tree.classes):
        samples = sorted((sample for sample in tree.samples if sample[1] == index), key=lambda sample: str(sample[0]))
        if len(samples) < 2:
            raise InputError(
                f"{tree.path}: the class {name!r} has one image; expected at least two, one of them held out"
            )
        held_out += samples[::HELD_OUT_OF]
        train += [sample for at, sample in enumerate(samples) if at % HELD_OUT_OF]
    return train, held_out


def _files(samples: Sequence[_Sample]) -> Files:
    return Files(
        paths=tuple(path for path, _ in samples),
        labels=labels_of([index for _, index in samples]),
    )
