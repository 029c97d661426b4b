"""Images for calibrating the ranges of activations, and others for evaluating the quantized network."""

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo import limits
from fbnet_zoo.data import Digits, digits, load_image, photographs
from fbnet_zoo.datasets import SUFFIXES, find_images, find_split, read_each
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

DIGITS = "digits"
LARGEST_FOLDER = 256
"""Maximum number of images read from a folder, evenly spread over it."""

_CROPS = (48, 24)
_DIGITS = 128
_TIMED = 2
_SMALLEST_CROP = 0.35
"""Side of a crop, relative to the photograph's shorter side."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedImages:
    """Preprocessed images.

    Attributes:
        images: float32 `(N, C, S, S)`, normalized.
        classes: class indices, `(N,)`, if known.
        source: origin of the images, in words.
    """

    images: np.ndarray
    classes: np.ndarray | None = None
    source: str

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield the images in batches of equal size; the last one is filled with the first images."""
        for start in range(0, len(self.images), size):
            yield self.images.take(range(start, start + size), axis=0, mode="wrap")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationImages:
    """Images for calibrating a quantized file, and others for evaluating it."""

    calibrate: PreparedImages
    evaluate: PreparedImages


def load(
    source: str | None,
    preprocess: PreprocessSpec,
    channels: int,
    *,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> CalibrationImages:
    """Read the images that a network is quantized with.

    Args:
        source: `digits` for scikit-learn's handwritten digits, or a folder with subfolders: every second one of at
            most 256 images is for calibration; of a folder with `train/` and `val/`, up to 128 images of the former
            are, and as many of the latter are for evaluation. The default is seeded crops and flips of the sample
            photographs, 48 for calibration and 24 for evaluation, or seeded noise if the network has neither 1 nor 3
            input channels.
        preprocess: preprocessing of the network.
        channels: input channels of the network; a single channel is the mean of RGB.
        num_classes: number of classes of the network. Classes of images are known for digits if it is ten and the
            names are digits or unknown, and for folders whose subfolders are all named after a class, by name, label
            or index.
        labels: labels of the classes.
        class_names: names of the classes in the weights.

    Raises:
        InputError: the folder does not exist, has fewer than two images, or the network has neither 1 nor 3 channels.
        MissingExtraError: `digits` needs scikit-learn, which is not installed.
    """
    if source is None:
        return _of_photographs(preprocess, channels)
    if source == DIGITS:
        return _of_digits(preprocess, channels, num_classes, class_names)
    if channels not in {1, 3}:
        raise InputError(f"calibration images have 1 or 3 channels, the network has {channels}; leave out calibration")
    names = [each for each in (class_names, labels) if each is not None]
    return _of_folder(Path(source), preprocess, channels, names or [_numbers(num_classes or 0)])


def noise(channels: int, size: int) -> CalibrationImages:
    """Return seeded noise of `size` px, for files whose values do not matter, only their latency."""
    generator = torch.Generator().manual_seed(0)
    calibrate, evaluate = (_noise(_TIMED, channels, size, generator, "to be timed") for _ in range(2))
    return CalibrationImages(calibrate=calibrate, evaluate=evaluate)


def _of_photographs(preprocess: PreprocessSpec, channels: int) -> CalibrationImages:
    generator = torch.Generator().manual_seed(0)
    calibrate, evaluate = (_crops(count, preprocess, channels, generator) for count in _CROPS)
    return CalibrationImages(calibrate=calibrate, evaluate=evaluate)


def _crops(count: int, preprocess: PreprocessSpec, channels: int, generator: torch.Generator) -> PreparedImages:
    if channels not in {1, 3}:
        reason = f"since there are {channels} channels"
        return _noise(count, channels, preprocess.crop, generator, reason)
    sources = [load_image(path) for path in photographs()]
    crops = [_crop(sources[index % len(sources)], generator) for index in range(count)]
    return PreparedImages(
        images=_prepare(crops, preprocess, channels),
        source=f"{count} crops and flips of {len(sources)} photographs that come with fbnet_zoo",
    )


def _noise(count: int, channels: int, size: int, generator: torch.Generator, reason: str) -> PreparedImages:
    noise = torch.randn(count, channels, size, size, generator=generator)
    return PreparedImages(images=noise.numpy(), source=f"{count} images of noise, {reason}")


def _crop(image: Image.Image, generator: torch.Generator) -> Image.Image:
    """Return a random square of an image, or its mirror image."""
    scale, x, y, flip = torch.rand(4, generator=generator).tolist()
    side = round(min(image.size) * (_SMALLEST_CROP + (1 - _SMALLEST_CROP) * scale))
    left, top = round(x * (image.width - side)), round(y * (image.height - side))
    square = image.crop((left, top, left + side, top + side))
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip < 1 / 2 else square


def _prepare(sources: Sequence[Image.Image], preprocess: PreprocessSpec, channels: int) -> np.ndarray:
    values = len(sources) * channels * preprocess.crop**2
    limits.check("activations", values, f"{len(sources)} calibration images of {preprocess.crop} px have")
    transform = eval_transform(preprocess)
    images: Tensor = torch.stack([transform(image) for image in sources])
    return (images if channels == 3 else images.mean(1, keepdim=True)).numpy()


def _of_digits(
    preprocess: PreprocessSpec, channels: int, num_classes: int | None, names: Sequence[str] | None
) -> CalibrationImages:
    (train, held_out), ten = digits(), _numbers(10)
    names = ten if names is None and num_classes == len(ten) else names
    known = names is not None and sorted(names) == ten

    def prepared(part: Digits, limit: int, split: str) -> PreparedImages:
        classes = part.classes[:limit].tolist()
        return PreparedImages(
            images=part.images(preprocess, channels=channels, limit=limit).numpy(),
            classes=_indices([ten[digit] for digit in classes], [names]) if names and known else None,
            source=f"{len(classes)} of scikit-learn's handwritten digits, from the {split} split",
        )

    return CalibrationImages(
        calibrate=prepared(train, _DIGITS, "training"),
        evaluate=prepared(held_out, len(held_out.classes), "held-out"),
    )


def _of_folder(
    folder: Path, preprocess: PreprocessSpec, channels: int, names: Sequence[Sequence[str]]
) -> CalibrationImages:
    if not folder.is_dir():
        hint = did_you_mean(str(folder), [DIGITS])
        raise InputError(f"calibration cannot be {str(folder)!r}{hint or '; expected a folder of images, or digits'}")
    split = find_split(folder)
    if split:
        half = LARGEST_FOLDER // 2
        parts = [(part, _evenly(find_images(part).files, half)) for part in (split.train, split.held_out)]
    else:
        files = _evenly(find_images(folder).files, LARGEST_FOLDER)
        parts = [(folder, files[start::2]) for start in (0, 1)]
    count = sum(len(files) for _, files in parts)
    if not all(files for _, files in parts):
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
        raise InputError(f"{folder}: {count} images are too few for calibration; expected two or more ({kinds})")
    classes = _indices([file.relative_to(part).parts[0] for part, files in parts for file in files], names)
    paths = [file for _, files in parts for file in files]
    images = _prepare(read_each(lambda index: load_image(paths[index]), count), preprocess, channels)
    first = len(parts[0][1])
    halves = [
        PreparedImages(
            images=images[chosen],
            classes=None if classes is None else classes[chosen],
            source=f"{len(images[chosen])} images of the folder {_shown(folder, part)}",
        )
        for (part, _), chosen in zip(parts, (slice(first), slice(first, None)), strict=True)
    ]
    return CalibrationImages(calibrate=halves[0], evaluate=halves[1])


def _shown(folder: Path, part: Path) -> str:
    name = folder.resolve().name
    return name if part == folder else f"{name}/{part.name}"


def _evenly(files: Sequence[Path], largest: int) -> list[Path]:
    count = min(len(files), largest)
    return [files[index * len(files) // count] for index in range(count)]


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _indices(named: Sequence[str], names: Sequence[Sequence[str]]) -> np.ndarray | None:
    """Return the classes of images that are named after them; `None` unless all are.

    Args:
        named: class of each image, in words.
        names: possible lists of names of the classes, in order of preference; their indices are the last resort.
    """
    numbers = _numbers(len(names[0]))
    given = [*names, *([] if any(set(numbers) & set(each) for each in names) else [numbers])]
    places = [{_normal(name): index for index, name in enumerate(each)} for each in given]
    found = [_normal(name) for name in named]
    for place in places:
        if place.keys() >= set(found):
            return np.array([place[name] for name in found])
    if any(place.keys() & set(found) for place in places):
        log.warning("calibration images: not every subfolder is named after a class; accuracy is not measured")
    return None


def _normal(name: str) -> str:
    """Return a name in the form that does not depend on the file system."""
    return unicodedata.normalize("NFC", name)
