"""Images for calibrating the ranges of activations, and others for evaluating the quantized network."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo import limits
from fbnet_zoo.data import digits, load_image, photographs
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

DIGITS = "digits"
LARGEST_FOLDER = 256
"""Maximum number of images read from a folder, evenly spread over it."""

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_CROPS = (48, 24)
_DIGITS = 128
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
) -> CalibrationImages:
    """Read the images that a network is quantized with.

    Args:
        source: `digits` for scikit-learn's handwritten digits, or a folder with subfolders: every second one of at
            most 256 images is for calibration. The default is seeded crops and flips of the sample photographs, 48 for
            calibration and 24 for evaluation, or seeded noise if the network has neither 1 nor 3 input channels.
        preprocess: preprocessing of the network.
        channels: input channels of the network; a single channel is the mean of RGB.
        num_classes: number of classes of the network. Classes of images are known for digits if it is ten, and for
            folders whose subfolders are all named after a class, by index or by label.
        labels: names of the classes.

    Raises:
        InputError: the folder does not exist, has fewer than two images, or the network has neither 1 nor 3 channels.
        MissingExtraError: `digits` needs scikit-learn, which is not installed.
    """
    if source is None:
        return _of_photographs(preprocess, channels)
    if source == DIGITS:
        return _of_digits(preprocess, channels, num_classes)
    if channels not in {1, 3}:
        raise InputError(f"calibration images have 1 or 3 channels, the network has {channels}; leave out calibration")
    return _of_folder(Path(source), preprocess, channels, _class_indices(num_classes, labels))


def _of_photographs(preprocess: PreprocessSpec, channels: int) -> CalibrationImages:
    generator = torch.Generator().manual_seed(0)
    calibrate, evaluate = (_crops(count, preprocess, channels, generator) for count in _CROPS)
    return CalibrationImages(calibrate=calibrate, evaluate=evaluate)


def _crops(count: int, preprocess: PreprocessSpec, channels: int, generator: torch.Generator) -> PreparedImages:
    if channels not in {1, 3}:
        noise = torch.randn(count, channels, preprocess.crop, preprocess.crop, generator=generator)
        return PreparedImages(
            images=noise.numpy(), source=f"{count} images of noise, since there are {channels} channels"
        )
    sources = [load_image(path) for path in photographs()]
    crops = [_crop(sources[index % len(sources)], generator) for index in range(count)]
    return PreparedImages(
        images=_prepare(crops, preprocess, channels),
        source=f"{count} crops and flips of {len(sources)} photographs that come with fbnet_zoo",
    )


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


def _of_digits(preprocess: PreprocessSpec, channels: int, num_classes: int | None) -> CalibrationImages:
    train, held_out = digits()
    known = num_classes == len(train.classes.unique())
    return CalibrationImages(
        calibrate=PreparedImages(
            images=train.images(preprocess, channels=channels, limit=_DIGITS).numpy(),
            classes=train.classes[:_DIGITS].numpy() if known else None,
            source=f"{_DIGITS} of scikit-learn's handwritten digits, from the training split",
        ),
        evaluate=PreparedImages(
            images=held_out.images(preprocess, channels=channels).numpy(),
            classes=held_out.classes.numpy() if known else None,
            source=f"{len(held_out.classes)} of scikit-learn's handwritten digits, from the held-out split",
        ),
    )


def _of_folder(folder: Path, preprocess: PreprocessSpec, channels: int, indices: dict[str, int]) -> CalibrationImages:
    files = _files(folder)
    classes = [indices.get(file.relative_to(folder).parts[0]) for file in files]
    known = None not in classes
    if not known and any(index is not None for index in classes):
        log.warning("%s: not every subfolder is named after a class; accuracy is not measured", folder)
    images = _prepare([load_image(file) for file in files], preprocess, channels)
    calibrate, evaluate = (
        PreparedImages(
            images=np.ascontiguousarray(images[start::2]),
            classes=np.array(classes[start::2]) if known else None,
            source=f"{len(images[start::2])} images of the folder {folder.resolve().name}",
        )
        for start in (0, 1)
    )
    return CalibrationImages(calibrate=calibrate, evaluate=evaluate)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        hint = did_you_mean(str(folder), [DIGITS])
        raise InputError(f"calibration cannot be {str(folder)!r}{hint or '; expected a folder of images, or digits'}")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    if len(files) < 2:
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in _SUFFIXES))
        raise InputError(f"{folder}: {len(files)} images are too few for calibration; expected two or more ({kinds})")
    count = min(len(files), LARGEST_FOLDER)
    return [files[index * len(files) // count] for index in range(count)]


def _class_indices(num_classes: int | None, labels: Sequence[str] | None) -> dict[str, int]:
    """Return the class index of each possible folder name."""
    numbers = {str(index): index for index in range(num_classes or 0)}
    return numbers | {label: index for index, label in enumerate(labels or ())}
