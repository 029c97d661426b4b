"""The images on which converted files are compared with the model."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fbnet_zoo.data import load_batch, photographs
from fbnet_zoo.spec import PreprocessSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """Images that go through the network together: float32 `(N, C, S, S)`, normalised."""

    name: str
    images: np.ndarray


def photograph_batch(preprocess: PreprocessSpec, channels: int) -> Tensor:
    """Return the shipped photographs, prepared: float32 `(2, channels, S, S)`.

    One channel is the mean of the colours; where there are neither one nor three, the images are seeded noise.
    """
    if channels not in {1, 3}:
        shape = (len(photographs()), channels, preprocess.crop, preprocess.crop)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images = load_batch(photographs(), preprocess)
    return images if channels == 3 else images.mean(1, keepdim=True)


def make_cases(
    preprocess: PreprocessSpec,
    *,
    channels: int = 3,
    batch: int = 1,
    dynamic_batch: bool = False,
    image_input: bool = False,
) -> list[Case]:
    """Return the shipped photographs and edge inputs, in batches that a file takes.

    The edge inputs are zeros and the normalised black and white image. A dynamic batch is tried with one image and with
    three; a fixed one is filled up by repeating images.

    Args:
        preprocess: how an image becomes the input.
        channels: of the network's input.
        batch: images per run.
        dynamic_batch: the file takes any number of images.
        image_input: the file takes 8-bit images, so that only their values can be tried.

    >>> [case.name for case in make_cases(PreprocessSpec(resize=32, crop=32), batch=4)]
    ['coffee.jpg, rocket.jpg, zeros, black', 'white']
    """
    images = _images(preprocess, channels)
    if image_input:
        images = {name: _rounded(image, preprocess) for name, image in images.items()}
    names = list(images)
    groups = [names[start : start + batch] for start in range(0, len(names), batch)]
    if dynamic_batch:
        groups.append(names[:3])
    return [_case(group, images, max(batch, len(group))) for group in groups]


def _case(names: list[str], images: dict[str, np.ndarray], size: int) -> Case:
    filled = (names * size)[:size]
    return Case(name=", ".join(names), images=np.stack([images[name] for name in filled]))


def _images(preprocess: PreprocessSpec, channels: int) -> dict[str, np.ndarray]:
    prepared = photograph_batch(preprocess, channels).numpy()
    images = {path.name: image for path, image in zip(photographs(), prepared, strict=True)}
    images["zeros"] = np.zeros_like(prepared[0])
    for name, pixel in (("black", 0.0), ("white", 1.0)):
        images[name] = np.broadcast_to(_normalised(pixel, preprocess, channels), prepared[0].shape)
    return images


def _normalised(pixel: float | np.ndarray, preprocess: PreprocessSpec, channels: int) -> np.ndarray:
    mean, std = _statistics(preprocess, channels)
    return ((pixel - mean) / std).astype(np.float32)


def _statistics(preprocess: PreprocessSpec, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std of the normalisation, `(C, 1, 1)`; where there are not three channels, the colours' mean."""
    mean, std = (np.array(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    if channels == 3:
        return mean, std
    shape = (channels, 1, 1)
    return np.broadcast_to(mean.mean(), shape), np.broadcast_to(std.mean(), shape)


def _rounded(image: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """Return the normalised image that the nearest 8-bit image gives."""
    mean, std = _statistics(preprocess, len(image))
    pixels = np.rint((image * std + mean) * 255).clip(0, 255)
    return _normalised(pixels / 255, preprocess, len(image))
