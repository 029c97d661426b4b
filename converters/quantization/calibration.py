"""The images that quantization takes the ranges of activations from, and those on which its loss is measured."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo.data import digits, load_image, photographs
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

DIGITS = "digits"
LARGEST_FOLDER = 256
"""Images taken of a folder; of a larger one, evenly spread over it."""

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_CROPS = (48, 24)
_DIGITS = 128
_SMALLEST_CROP = 0.35
"""Side of a crop, as a share of the photograph's shorter side."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Prepared images.

    Attributes:
        images: float32 `(N, C, S, S)`, normalised.
        classes: their classes, `(N,)`, where they are known.
        source: where they are from, in words.
    """

    images: np.ndarray
    classes: np.ndarray | None = None
    source: str

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield the images in batches of one size; the last one is filled up with the first images."""
        for start in range(0, len(self.images), size):
            yield self.images.take(range(start, start + size), axis=0, mode="wrap")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Images that shape a quantized file, and others that judge it."""

    calibrate: Samples
    evaluate: Samples


def load(
    source: str | None,
    preprocess: PreprocessSpec,
    channels: int,
    *,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
) -> Calibration:
    """Read the images that a network is quantized with.

    Args:
        source: `None` takes seeded crops and flips of the shipped photographs, 48 to calibrate and 24 to evaluate;
            `digits` takes scikit-learn's handwritten digits; everything else is a folder, with sub-folders. Of its
            images, at most 256, every second one calibrates. Where the network takes neither grey nor colour, `None`
            is seeded noise.
        preprocess: how an image becomes the input.
        channels: of the network's input; one is the mean of the colours.
        num_classes: of the network. Classes are known of digits, where there are ten, and of a folder whose
            sub-folders are all named after a class, by its index or its label.
        labels: names of these classes.

    Raises:
        InputError: there is no such folder, it has fewer than two images, or the network takes neither grey nor colour.
        MissingExtraError: scikit-learn is needed for digits, and is not installed.
    """
    if source is None:
        return _of_photographs(preprocess, channels)
    if source == DIGITS:
        return _of_digits(preprocess, channels, num_classes)
    if channels not in {1, 3}:
        raise InputError(f"image files have 1 or 3 channels, the network takes {channels}; leave out calibration")
    return _of_folder(Path(source), preprocess, channels, _indices(num_classes, labels))


def _of_photographs(preprocess: PreprocessSpec, channels: int) -> Calibration:
    generator = torch.Generator().manual_seed(0)
    calibrate, evaluate = (_crops(count, preprocess, channels, generator) for count in _CROPS)
    return Calibration(calibrate=calibrate, evaluate=evaluate)


def _crops(count: int, preprocess: PreprocessSpec, channels: int, generator: torch.Generator) -> Samples:
    if channels not in {1, 3}:
        noise = torch.randn(count, channels, preprocess.crop, preprocess.crop, generator=generator)
        return Samples(images=noise.numpy(), source=f"{count} images of noise, since there are {channels} channels")
    pictures = [load_image(path) for path in photographs()]
    crops = [_crop(pictures[index % len(pictures)], generator) for index in range(count)]
    return Samples(
        images=_prepared(crops, preprocess, channels),
        source=f"{count} crops and flips of {len(pictures)} photographs that come with fbnet_zoo",
    )


def _crop(picture: Image.Image, generator: torch.Generator) -> Image.Image:
    """Return a random square of a photograph, or its mirror image."""
    scale, x, y, flip = torch.rand(4, generator=generator).tolist()
    side = round(min(picture.size) * (_SMALLEST_CROP + (1 - _SMALLEST_CROP) * scale))
    left, top = round(x * (picture.width - side)), round(y * (picture.height - side))
    square = picture.crop((left, top, left + side, top + side))
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip < 1 / 2 else square


def _prepared(pictures: Sequence[Image.Image], preprocess: PreprocessSpec, channels: int) -> np.ndarray:
    transform = eval_transform(preprocess)
    images: Tensor = torch.stack([transform(picture) for picture in pictures])
    return (images if channels == 3 else images.mean(1, keepdim=True)).numpy()


def _of_digits(preprocess: PreprocessSpec, channels: int, num_classes: int | None) -> Calibration:
    train, held_out = digits()
    known = num_classes == len(train.classes.unique())
    return Calibration(
        calibrate=Samples(
            images=train.images(preprocess, channels=channels, limit=_DIGITS).numpy(),
            classes=train.classes[:_DIGITS].numpy() if known else None,
            source=f"{_DIGITS} of scikit-learn's handwritten digits, from those to train on",
        ),
        evaluate=Samples(
            images=held_out.images(preprocess, channels=channels).numpy(),
            classes=held_out.classes.numpy() if known else None,
            source=f"{len(held_out.classes)} of scikit-learn's handwritten digits, held out",
        ),
    )


def _of_folder(folder: Path, preprocess: PreprocessSpec, channels: int, indices: dict[str, int]) -> Calibration:
    files = _files(folder)
    classes = [indices.get(file.relative_to(folder).parts[0]) for file in files]
    known = None not in classes
    if not known and any(index is not None for index in classes):
        log.warning("%s: not every sub-folder is named after a class, so that no accuracy is measured", folder)
    images = _prepared([load_image(file) for file in files], preprocess, channels)
    calibrate, evaluate = (
        Samples(
            images=np.ascontiguousarray(images[start::2]),
            classes=np.array(classes[start::2]) if known else None,
            source=f"{len(images[start::2])} images of the folder {folder.resolve().name}",
        )
        for start in (0, 1)
    )
    return Calibration(calibrate=calibrate, evaluate=evaluate)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        hint = did_you_mean(str(folder), [DIGITS])
        raise InputError(f"calibration cannot be {str(folder)!r}{hint or '; expected a folder of images, or digits'}")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    if len(files) < 2:
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in _SUFFIXES))
        raise InputError(f"{folder}: {len(files)} images are too few to quantize with; expected two or more ({kinds})")
    count = min(len(files), LARGEST_FOLDER)
    return [files[index * len(files) // count] for index in range(count)]


def _indices(num_classes: int | None, labels: Sequence[str] | None) -> dict[str, int]:
    """Return which class a folder of each name stands for."""
    numbers = {str(index): index for index in range(num_classes or 0)}
    return numbers | {label: index for index, label in enumerate(labels or ())}
