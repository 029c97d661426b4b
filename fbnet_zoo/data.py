"""Images to run networks on, and the names of what they may show."""

import atexit
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
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

_HELD_OUT = 360


@cache
def photographs() -> tuple[Path, ...]:
    """Return the photographs that come with the package, sorted by name; NOTICE names their authors.

    They are colour JPEG files of 600 x 400 pixels. From a zipped package they are unpacked until the process ends.

    >>> [photograph.name for photograph in photographs()]
    ['coffee.jpg', 'rocket.jpg']
    """
    unpacked = ExitStack()
    atexit.register(unpacked.close)
    folder = (files("fbnet_zoo") / "photos").iterdir()
    entries = sorted((entry for entry in folder if entry.name.endswith(".jpg")), key=lambda entry: entry.name)
    return tuple(unpacked.enter_context(as_file(entry)) for entry in entries)


def load_image(path: str | Path) -> Image.Image:
    """Read an image file in any format that Pillow knows, upright and in RGB.

    Raises:
        InputError: there is no such file, it is not an image of 8 bits per channel, or it is damaged.

    >>> load_image(photographs()[0]).size
    (600, 400)
    """
    image = _decode(path)
    if image.mode.startswith(("I", "F")):  # Pillow would cut the values off at 255
        raise InputError(f"{path}: has more than 8 bits per channel (Pillow's mode {image.mode}); convert it to 8 bits")
    return image.convert("RGB")


def _decode(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; give the path of an image") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the path of an image") from error
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that Pillow can read; give a JPEG, PNG or WebP file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: the image is damaged or far too large ({error}); give another file") from error


def load_batch(paths: Iterable[str | Path], preprocess: PreprocessSpec) -> Tensor:
    """Read image files and prepare them for a network.

    Returns:
        The normalised images, float32 of shape (N, 3, crop, crop).

    Raises:
        InputError: `paths` is empty or one of them cannot be read as an image.

    >>> load_batch(photographs(), PreprocessSpec(resize=256, crop=224)).shape
    torch.Size([2, 3, 224, 224])
    """
    transform = eval_transform(preprocess)
    images = [transform(load_image(path)) for path in paths]
    if not images:
        raise InputError("there are no images to load; give at least one path")
    return torch.stack(images)


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet-1k classes by index, as torchvision spells them.

    >>> imagenet_labels()[967]
    'espresso'
    """
    weights = _require.torchvision().models.MobileNet_V2_Weights.IMAGENET1K_V1
    return tuple(weights.meta["categories"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Digits:
    """Handwritten digits.

    Attributes:
        pixels: grey levels, float32 `(N, 8, 8)` from 0 (paper) to 1 (ink).
        classes: the digits, int64 `(N,)`.
    """

    pixels: Tensor
    classes: Tensor

    def images(self, preprocess: PreprocessSpec, *, channels: int = 3, limit: int | None = None) -> Tensor:
        """Return them as a network takes them, scaled to its input: float32 `(N, channels, crop, crop)`, normalised.

        Nothing of a digit is cut off, as resizing and cropping would do.

        Args:
            preprocess: its `crop`, `mean` and `std` are read.
            channels: three that are alike, or one, which is normalised by the mean of the three's statistics.
            limit: only so many, the first ones.

        Raises:
            InputError: the network takes neither grey nor colour images.
        """
        if channels not in {1, 3}:
            raise InputError(f"digits have 1 or 3 channels, the network takes {channels}; give it other images")
        size = (preprocess.crop, preprocess.crop)
        scaled = F.interpolate(self.pixels[:limit, None], size=size, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
        if channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        return (scaled - mean) / std


@cache
def digits() -> tuple[Digits, Digits]:
    """Return handwritten digits to train on, and others held out: 1,437 and 360 images of 8 x 8 grey levels.

    They come with scikit-learn: the test part of Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI,
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
