"""Inputs of a saved Core ML model: accepted shapes, and the conversion of arrays to the program's tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fbnet_zoo.errors import ConversionError, InputError

Sizes: TypeAlias = tuple[int, float]
"""Minimum and maximum size of one axis; the maximum is infinite if the file sets no bound."""

_CHANNELS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class MilInput:
    """One input, as described in the file.

    Attributes:
        name: name in the file.
        shapes: accepted shapes: one entry if fixed or flexible by range, several if enumerated. An entry has the sizes
            of each axis, (1, channels, height, width) for an image.
        dtype: type that the program declares.
        colour_layout: `RGB`, `BGR` or `GRAYSCALE` if the input is an image, else None.

    >>> image = MilInput(
    ...     name="image", shapes=(((1, 1), (3, 3), (1, 8), (1, 8)),), dtype=torch.float32, colour_layout="BGR"
    ... )
    >>> image.read(np.full((1, 1, 3), [10, 20, 30], np.uint8)).flatten()
    tensor([30., 20., 10.])
    """

    name: str
    shapes: tuple[tuple[Sizes, ...], ...]
    dtype: torch.dtype
    colour_layout: str | None = None

    def read(self, array: np.ndarray) -> Tensor:
        """Convert an array to the tensor that Core ML would pass to the program.

        Args:
            array: an array of an accepted shape; an image is uint8 (H, W, C) or (1, H, W, C), RGB or grayscale.

        Returns:
            A copy in `dtype`; an image as (1, C, H, W) in the color layout of the file, values 0 to 255.

        Raises:
            InputError: the file does not accept the shape or, for an image, the type.
        """
        tensor = self._pixels(array) if self.colour_layout else torch.tensor(np.asarray(array))
        if tensor is None or not any(_fits(tensor.shape, sizes) for sizes in self.shapes):
            raise InputError(
                f"input {self.name!r} is {array.dtype} of shape {tuple(array.shape)}; expected {self._accepted()}"
            )
        return tensor.to(self.dtype)

    def _pixels(self, array: np.ndarray) -> Tensor | None:
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            return None
        pixels = torch.tensor(array if array.ndim == 4 else array[None]).permute(0, 3, 1, 2)
        return pixels.flip(1) if self.colour_layout == "BGR" else pixels

    def _accepted(self) -> str:
        shapes = " or ".join(str(tuple(_size_text(low, high) for low, high in sizes)) for sizes in self.shapes)
        if not self.colour_layout:
            return f"an array of shape {shapes}".replace("'", "")
        return f"a uint8 image with channels last, whose (N, C, H, W) is {shapes}".replace("'", "")


def describe_input(feature: Any, dtype: torch.dtype, path: Path) -> MilInput:
    """Read the description of one input.

    Args:
        feature: the `FeatureDescription` of the model's specification.
        dtype: type that the program declares for this input.
        path: path of the package, for the error message.

    Raises:
        ConversionError: the input is an image without 8 bits per channel.
    """
    if feature.type.WhichOneof("Type") != "imageType":
        return MilInput(name=feature.name, shapes=_array_shapes(feature.type.multiArrayType), dtype=dtype)
    image = feature.type.imageType
    layout = type(image).ColorSpace.Name(image.colorSpace)
    if layout not in _CHANNELS:
        raise ConversionError(
            f"{path}: input {feature.name!r} is an image in {layout}, expected {', '.join(_CHANNELS)}"
        )
    shapes = tuple((_exactly(1), _exactly(_CHANNELS[layout]), *sizes) for sizes in _image_sizes(image))
    return MilInput(name=feature.name, shapes=shapes, dtype=dtype, colour_layout=layout)


def any_or_exactly(shape: Sequence[Any]) -> tuple[Sizes, ...]:
    """Return the sizes of a shape of numbers and symbols; a symbol is any size."""
    return tuple(_exactly(int(size)) if isinstance(size, int | np.integer) else (1, math.inf) for size in shape)


def _array_shapes(array: Any) -> tuple[tuple[Sizes, ...], ...]:
    flexibility = array.WhichOneof("ShapeFlexibility")
    if flexibility == "enumeratedShapes":
        return tuple(tuple(map(_exactly, item.shape)) for item in array.enumeratedShapes.shapes)
    if flexibility == "shapeRange":
        return (tuple(map(_between, array.shapeRange.sizeRanges)),)
    return (tuple(map(_exactly, array.shape)),)


def _image_sizes(image: Any) -> tuple[tuple[Sizes, Sizes], ...]:
    flexibility = image.WhichOneof("SizeFlexibility")
    if flexibility == "enumeratedSizes":
        return tuple((_exactly(size.height), _exactly(size.width)) for size in image.enumeratedSizes.sizes)
    if flexibility == "imageSizeRange":
        return ((_between(image.imageSizeRange.heightRange), _between(image.imageSizeRange.widthRange)),)
    return ((_exactly(image.height), _exactly(image.width)),)


def _exactly(size: int) -> Sizes:
    return size, size


def _between(bounds: Any) -> Sizes:
    return bounds.lowerBound, math.inf if bounds.upperBound < 0 else bounds.upperBound


def _fits(shape: Sequence[int], sizes: Sequence[Sizes]) -> bool:
    return len(shape) == len(sizes) and all(low <= n <= high for n, (low, high) in zip(shape, sizes, strict=True))


def _size_text(low: int, high: float) -> str:
    return str(low) if low == high else f"{low}..{high}"
