"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from a folder of this machine."""

from pathlib import Path
from typing import Any

import torch

from fbnet_zoo import _require
from fbnet_zoo.datasets.records import ImageDataset, Pixels, labels_of
from fbnet_zoo.errors import InputError

READERS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""Torchvision's class for each name."""


def cifar(name: str, folder: Path, *, download: bool = False) -> ImageDataset:
    """Read CIFAR, 32 x 32 px in colour: 50,000 images to train on, its 10,000 test images held out.

    Args:
        name: `cifar10` or `cifar100`.
        folder: that holds its archive or what was unpacked of it, as torchvision lays it out.
        download: fetch the archive into the folder where it is missing.

    Raises:
        InputError: the folder does not hold it whole, or it cannot be downloaded.
    """
    train, held_out = (_part(name, folder, train=train, download=download) for train in (True, False))
    return ImageDataset(
        name=name,
        kind="cifar",
        classes=tuple(train.classes),
        channels=3,
        size=32,
        train=_pixels(train),
        held_out=_pixels(held_out),
        split="the test images of CIFAR",
    )


def _part(name: str, folder: Path, *, train: bool, download: bool) -> Any:
    reader = getattr(_require.torchvision("torchvision.datasets"), READERS[name])
    try:
        return reader(folder, train=train, download=download)
    except (RuntimeError, OSError) as error:
        cure = "check the network" if download else f"give the folder of {reader.base_folder}, or allow the download"
        raise InputError(f"{folder}: {name} is not there whole ({' '.join(str(error).split())}); {cure}") from error


def _pixels(part: Any) -> Pixels:
    return Pixels(pixels=torch.from_numpy(part.data).permute(0, 3, 1, 2), labels=labels_of(part.targets))
