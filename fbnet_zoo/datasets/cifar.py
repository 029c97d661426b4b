"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from a local folder."""

from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from fbnet_zoo import _http, _require, folders
from fbnet_zoo.datasets.records import ImageDataset, Pixels, labels_of
from fbnet_zoo.errors import InputError

READERS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""Name of each data set to torchvision's class."""


def cifar(name: str, folder: Path, *, download: bool = False) -> ImageDataset:
    """Return CIFAR, color images of 32 x 32 px: 50,000 for training; the 10,000 test images are held out.

    Args:
        name: `cifar10` or `cifar100`.
        folder: folder with the archive or its unpacked files, in torchvision's layout.
        download: download the archive to the folder if it is missing.

    Raises:
        InputError: files are missing from the folder, or cannot be downloaded.
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
        try:
            return reader(folder, train=train)
        except RuntimeError:
            if not download:
                raise
        _download(reader, folder)
        return reader(folder, train=train, download=True)  # which unpacks the archive
    except (RuntimeError, OSError, HTTPException) as error:
        remedy = "check the network" if download else f"give the folder of {reader.base_folder}, or allow the download"
        raise InputError(f"{folder}: {name} is incomplete ({' '.join(str(error).split())}); {remedy}") from error


def _download(reader: Any, folder: Path) -> None:
    """Download the archive of a data set unless it is there: torchvision's own download may wait forever."""
    intact = _require.torchvision("torchvision.datasets.utils").check_integrity
    archive = folder / reader.filename
    if intact(archive, reader.tgz_md5):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with folders.temporary(folder) as partial:
        _http.download(reader.url, partial / reader.filename)
        if not intact(partial / reader.filename, reader.tgz_md5):
            raise OSError(f"{reader.url} sent a damaged or another file")
        (partial / reader.filename).replace(archive)


def _pixels(part: Any) -> Pixels:
    return Pixels(pixels=torch.from_numpy(part.data).permute(0, 3, 1, 2), labels=labels_of(part.targets))
