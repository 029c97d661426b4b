"""Data sets by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

from fbnet_zoo.datasets.cifar import READERS, cifar
from fbnet_zoo.datasets.digits import cluttered_digits, plain_digits
from fbnet_zoo.datasets.folder import folder
from fbnet_zoo.datasets.records import Files, ImageDataset, ImageSet, Pixels
from fbnet_zoo.errors import InputError, did_you_mean

_EMBEDDED: dict[str, Callable[[], ImageDataset]] = {"digits": plain_digits, "digits_cluttered": cluttered_digits}

NAMES = (*_EMBEDDED, *READERS)
"""Names of data sets; every other data set is a folder."""


class Opened(NamedTuple):
    """How a set of images was opened.

    Attributes:
        name: name of the data set, or the absolute path of its folder.
        root: folder of CIFAR.
        part: which of the two sets of the data set it is.
    """

    name: str | Path
    root: Path | None
    part: Literal["train", "held_out"]


_opened: WeakKeyDictionary[ImageSet, Opened] = WeakKeyDictionary()


def open_dataset(name: str | Path, *, root: Path | None = None, download: bool = False) -> ImageDataset:
    """Return a data set.

    Args:
        name: `digits`, `digits_cluttered`, `cifar10`, `cifar100`, or the path of a folder with `train/` and `val/`
            (or `valid/`, `validation/`, `test/`), or one subfolder per class.
        root: folder of CIFAR.
        download: download CIFAR to `root` if it is missing; otherwise nothing is downloaded.

    Raises:
        InputError: there is no such data set, or it is incomplete.
        MissingExtraError: the data set is one of digits, and scikit-learn is not installed.

    >>> open_dataset("digits").held_out.labels.shape
    torch.Size([360])
    """
    dataset = _open(name, root, download=download)
    known = name if name in NAMES else Path(name).resolve()
    _opened[dataset.train] = Opened(known, root and root.resolve(), "train")
    _opened[dataset.held_out] = Opened(known, root and root.resolve(), "held_out")
    return dataset


def opened_as(images: object) -> Opened | None:
    """Return how a set of images was opened; `None` for any other object."""
    return _opened.get(images) if isinstance(images, Pixels | Files) else None


def _open(name: str | Path, root: Path | None, *, download: bool) -> ImageDataset:
    if name not in READERS and (root is not None or download):
        raise InputError(f"root and download are only for {' and '.join(READERS)}; omit them for {name}")
    if isinstance(name, Path) or name not in NAMES:
        return _folder(name)
    if name in _EMBEDDED:
        return _EMBEDDED[name]()
    if root is None:
        raise InputError(f"{name} requires its folder; pass `root`, or --data-root")
    return cifar(name, root, download=download)


def _folder(name: str | Path) -> ImageDataset:
    if isinstance(name, str) and not Path(name).exists():
        hint = did_you_mean(name, NAMES) or f"; expected {', '.join(NAMES)} or a folder"
        raise InputError(f"no data set is named {name!r}{hint}")
    return folder(Path(name))
