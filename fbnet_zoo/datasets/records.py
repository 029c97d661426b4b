"""What a data set is: two sets of labelled images, in memory or in files, and their way into a network."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fbnet_zoo.data import load_image
from fbnet_zoo.errors import InputError
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

_PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "order": "rgb"}


class ImageSet(Protocol):
    """Labelled images.

    Attributes:
        labels: the class of each, int64 `(N,)`.
    """

    @property
    def labels(self) -> Tensor: ...

    def image(self, index: int) -> Image.Image | Tensor:
        """Return one image as it is: in RGB, or float32 `(C, H, W)` from 0 to 1."""

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image as it is evaluated, but not yet normalised: float32 `(C, crop, crop)` from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """Small square images in memory. They are scaled whole: nothing of them is cut off.

    Attributes:
        pixels: `(N, C, S, S)`, uint8, or float32 from 0 to 1.
        labels: int64 `(N,)`.
    """

    pixels: Tensor
    labels: Tensor

    def image(self, index: int) -> Tensor:
        """Return one image, float32 `(C, S, S)` from 0 to 1."""
        pixels = self.pixels[index]
        return pixels if pixels.is_floating_point() else pixels.float() / 255

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image scaled to the input: float32 `(C, crop, crop)` from 0 to 1."""
        image, size = self.image(index), (preprocess.crop, preprocess.crop)
        if image.shape[1:] == size:
            return image
        return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Files:
    """Image files in colour, read when they are asked for. They are resized and cropped as the network wants it.

    Attributes:
        paths: of the files.
        labels: int64 `(N,)`.
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def image(self, index: int) -> Image.Image:
        """Read one image, in RGB.

        Raises:
            InputError: the file cannot be read as an image.
        """
        return load_image(self.paths[index])

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Read one image, resize its shorter side and crop: float32 `(3, crop, crop)` from 0 to 1.

        Raises:
            InputError: the file cannot be read as an image.
        """
        return eval_transform(preprocess.model_copy(update=_PLAIN))(self.image(index))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageDataset:
    """Images to train on and others held out, whose split never changes.

    Attributes:
        name: that opened it; of a folder, its last part.
        kind: `digits`, `cifar` or `folder`: which sort of images, and so of recipe.
        classes: their names, by index.
        channels: 1 is grey, 3 is RGB.
        size: side of the images, px; `None` where they differ.
        train: to train on.
        held_out: to evaluate on, and for nothing else.
        split: what is held out, in words.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = field(repr=False)
    channels: int
    size: int | None
    train: ImageSet = field(repr=False)
    held_out: ImageSet = field(repr=False)
    split: str


def normalised(images: Tensor, preprocess: PreprocessSpec, channels: int) -> Tensor:
    """Return images as a network takes them.

    Grey images are repeated for a network of colour. One of a single channel takes the mean of the colours, normalised
    by the mean of the three's statistics.

    Args:
        images: `(N, 1 or 3, H, W)` from 0 to 1, in RGB.
        preprocess: its `mean`, `std` and `order` are read.
        channels: of the network's input.

    Returns:
        `(N, channels, H, W)`.

    Raises:
        InputError: the network takes neither grey nor colour images.
    """
    if channels not in {1, 3}:
        raise InputError(f"data sets have 1 or 3 channels, the network takes {channels}; give it other images")
    mean, std = (images.new_tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    if channels == 1:
        return (images.mean(1, keepdim=True) - mean.mean()) / std.mean()
    colours = images.expand(-1, 3, -1, -1)
    return ((colours.flip(1) if preprocess.order == "bgr" else colours) - mean) / std


def labels_of(values: list[int]) -> Tensor:
    """Return classes as a tensor, int64 `(N,)`."""
    return torch.tensor(values, dtype=torch.int64)
