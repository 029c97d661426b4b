"""A folder of images, one subfolder per class."""

from pathlib import Path
from typing import Any

from fbnet_zoo import _require
from fbnet_zoo.datasets.records import Files, ImageDataset, labels_of
from fbnet_zoo.errors import InputError

HELD_OUT_OF = 5
"""One in this many images of each class is held out if the folder has no split."""

_LAYOUT = "expected train/ and val/ with one subfolder per class in each, or one subfolder per class"


def folder(path: Path) -> ImageDataset:
    """Return the images of a folder, which are read on demand.

    With `train/` and `val/`, the images of `val/` are held out. Otherwise there is one subfolder per class, and the
    first, sixth, eleventh … image of each class by name is held out.

    Args:
        path: the folder; classes are numbered in the order of their names.

    Raises:
        InputError: there is no such folder, it has another layout, or a class has no training or no held-out image.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; {_LAYOUT}")
    if (path / "train").is_dir() and (path / "val").is_dir():
        train, held_out = _tree(path / "train"), _tree(path / "val")
        _check_classes(path, train.classes, held_out.classes)
        samples, split = (train.samples, held_out.samples), "the images of val/"
    else:
        train = _tree(path)
        samples, split = _divided(path, train), f"every fifth image of each class, by name ({HELD_OUT_OF} in one kept)"
    return ImageDataset(
        name=path.resolve().name,
        kind="folder",
        classes=tuple(train.classes),
        channels=3,
        size=None,
        train=_files(samples[0]),
        held_out=_files(samples[1]),
        split=split,
    )


def _tree(path: Path) -> Any:
    try:
        return _require.torchvision("torchvision.datasets").ImageFolder(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; {_LAYOUT}") from error


def _check_classes(path: Path, train: list[str], held_out: list[str]) -> None:
    odd = sorted(set(train) ^ set(held_out))
    if odd:
        side, other = ("train", "val") if odd[0] in train else ("val", "train")
        raise InputError(f"{path}: {side}/ has the class {odd[0]!r}, {other}/ does not; expected the same classes")


def _divided(path: Path, tree: Any) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    train, held_out = [], []
    for index, name in enumerate(tree.classes):
        samples = sorted(sample for sample in tree.samples if sample[1] == index)
        if len(samples) < 2:
            raise InputError(f"{path}: the class {name!r} has one image; expected at least two, one of them held out")
        held_out += samples[::HELD_OUT_OF]
        train += [sample for at, sample in enumerate(samples) if at % HELD_OUT_OF]
    return train, held_out


def _files(samples: list[tuple[str, int]]) -> Files:
    return Files(
        paths=tuple(Path(path) for path, _ in samples),
        labels=labels_of([index for _, index in samples]),
    )
