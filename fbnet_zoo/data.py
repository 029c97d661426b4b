"""Images to run networks on, and the names of ImageNet's classes."""

import atexit
import stat
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fbnet_zoo import _require
from fbnet_zoo.errors import InputError
from fbnet_zoo.preprocess import eval_transform, rgb
from fbnet_zoo.spec import PreprocessSpec

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")
"""Formats of image files, by Pillow's names."""

_HELD_OUT = 360


@cache
def photographs() -> tuple[Path, ...]:
    """Return the photographs in the package, sorted by name; NOTICE lists their authors.

    They are color JPEG files of 600 x 400 pixels; those of a zipped package are unpacked until the process ends.

    >>> [photograph.name for photograph in photographs()]
    ['coffee.jpg', 'rocket.jpg']
    """
    unpacked = ExitStack()
    atexit.register(unpacked.close)
    folder = (files("fbnet_zoo") / "photos").iterdir()
    entries = sorted((entry for entry in folder if entry.name.endswith(".jpg")), key=lambda entry: entry.name)
    return tuple(unpacked.enter_context(as_file(entry)) for entry in entries)


def load_image(path: str | Path) -> Image.Image:
    """Return the image in a file, upright and in RGB with 8 bits per channel; see `preprocess.rgb` for the conversion.

    This is the only place of the project that opens images. Only the formats of `FORMATS` are tried, whatever the name
    of the file: others would start programs, such as Ghostscript. Of several frames, the first one is used.

    Raises:
        InputError: there is no such file, it is not an image in one of the formats, or it is damaged.

    >>> load_image(photographs()[0]).size
    (600, 400)
    """
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise InputError(f"{path}: cannot be read, since it is {kind}; expected the path of an image")
        return _decode(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the path of an image") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected the path of an image") from error
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image in a supported format; expected {', '.join(FORMATS)}") from None
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise almost anything
        raise InputError(f"{path}: the image is damaged or far too large ({error}); use another file") from error


def _decode(path: str | Path) -> Image.Image:
    with Image.open(path, formats=FORMATS) as image:
        upright = ImageOps.exif_transpose(image)
    try:
        return rgb(upright)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def load_batch(paths: Iterable[str | Path], preprocess: PreprocessSpec) -> Tensor:
    """Return the images in files, prepared for a network.

    Returns:
        The normalized images, float32 of shape (N, 3, crop, crop).

    Raises:
        InputError: `paths` is empty, or one of them is not a readable image.

    >>> load_batch(photographs(), PreprocessSpec(resize=256, crop=224)).shape
    torch.Size([2, 3, 224, 224])
    """
    transform = eval_transform(preprocess)
    images = [transform(load_image(path)) for path in paths]
    if not images:
        raise InputError("there are no images to load; expected at least one path")
    return torch.stack(images)


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet-1k classes by index, as in torchvision.

    >>> imagenet_labels()[967]
    'espresso'
    """
    weights = _require.torchvision().models.MobileNet_V2_Weights.IMAGENET1K_V1
    return tuple(weights.meta["categories"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Digits:
    """Handwritten digits.

    Attributes:
        pixels: gray levels, float32 `(N, 8, 8)` from 0 (paper) to 1 (ink).
        classes: the digits, int64 `(N,)`.
    """

    pixels: Tensor
    classes: Tensor

    def images(self, preprocess: PreprocessSpec, *, channels: int = 3, limit: int | None = None) -> Tensor:
        """Return the digits as input of a network: scaled without cropping and normalized, `(N, channels, crop, crop)`.

        Args:
            preprocess: record with `crop`, `mean` and `std`.
            channels: channels of the network's input.
            limit: number of digits (default: all).

        Raises:
            InputError: the network has neither 1 nor 3 input channels.
        """
        size = (preprocess.crop, preprocess.crop)
        scaled = F.interpolate(self.pixels[:limit, None], size=size, mode="bilinear", antialias=True)
        return normalised(scaled, preprocess, channels)


def normalised(images: Tensor, preprocess: PreprocessSpec, channels: int) -> Tensor:
    """Return images as input of a network.

    Gray images are repeated for a network with color input. For a single channel, colors are averaged and normalized by
    the means of the three channels' statistics.

    Args:
        images: `(N, 1 or 3, H, W)` from 0 to 1, in RGB.
        preprocess: record with `mean`, `std` and `order`.
        channels: channels of the network's input.

    Returns:
        `(N, channels, H, W)`.

    Raises:
        InputError: the network has neither 1 nor 3 input channels.
    """
    if channels not in {1, 3}:
        raise InputError(f"images have 1 or 3 channels, but the network expects {channels}; use other images")
    mean, std = (images.new_tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    if channels == 1:
        return (images.mean(1, keepdim=True) - mean.mean()) / std.mean()
    colors = images.expand(-1, 3, -1, -1)
    return ((colors.flip(1) if preprocess.order == "bgr" else colors) - mean) / std


def denormalised(images: Tensor, preprocess: PreprocessSpec) -> Tensor:
    """Return the images `(N, 1 or 3, H, W)` from 0 to 1, in RGB, from those that `normalised` returns."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    if images.shape[1] == 1:
        return images * std.mean() + mean.mean()
    colors = images * std + mean
    return colors.flip(1) if preprocess.order == "bgr" else colors


@cache
def digits() -> tuple[Digits, Digits]:
    """Return handwritten digits for training and held-out ones: 1,437 and 360 images of 8 x 8 gray levels.

    They are part of scikit-learn: the test set of Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI,
    1998). The last 360 in its order are held out.

    Raises:
        MissingExtraError: scikit-learn is not installed.

    >>> train, held_out = digits()
    >>> train.pixels.shape, held_out.classes.bincount().min() > 30
    (torch.Size([1437, 8, 8]), tensor(True))
    """
    bunch = _require.require("sklearn.datasets", extra="train").load_digits()
    pixels, classes = torch.from_numpy(bunch.images).float() / 16, torch.from_numpy(bunch.target).long()
    cut = len(classes) - _HELD_OUT
    return (
        Digits(pixels=pixels[:cut], classes=classes[:cut]),
        Digits(pixels=pixels[cut:], classes=classes[cut:]),
    )
