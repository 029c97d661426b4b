"""Images on which converted files are compared with the model."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fbnet_zoo.data import load_batch, photographs
from fbnet_zoo.spec import PreprocessSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One batch of images: float32 `(N, C, S, S)`, normalized."""

    name: str
    images: np.ndarray


def photograph_batch(preprocess: PreprocessSpec, channels: int) -> Tensor:
    """Return the sample photographs, preprocessed: float32 `(2, channels, S, S)`.

    One channel is the mean of RGB; for any number of channels other than 1 and 3, the images are seeded noise.
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
    """Return the sample photographs and edge inputs, in batches that a file accepts.

    The edge inputs are zeros and the normalized black and white images. A dynamic batch is tested with one image and
    with three; a fixed one is filled by repeating images.

    Args:
        preprocess: preprocessing of the network.
        channels: input channels of the network.
        batch: images per run.
        dynamic_batch: whether the file accepts any number of images.
        image_input: whether the file accepts 8-bit images, which limits the inputs to their 256 levels.

    >>> [case.name for case in make_cases(PreprocessSpec(resize=32, crop=32), batch=4)]
    ['coffee.jpg, rocket.jpg, zeros, black', 'white']
    """
    images = _images(preprocess, channels)
    if image_input:
        images = {name: _to_8_bits(image, preprocess) for name, image in images.items()}
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
        images[name] = np.broadcast_to(_normalize(pixel, preprocess, channels), prepared[0].shape)
    return images


def _normalize(pixel: float | np.ndarray, preprocess: PreprocessSpec, channels: int) -> np.ndarray:
    mean, std = _statistics(preprocess, channels)
    return ((pixel - mean) / std).astype(np.float32)


def _statistics(preprocess: PreprocessSpec, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std for normalization, `(C, 1, 1)`; unless there are three channels, averaged over RGB."""
    mean, std = (np.array(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    if channels == 3:
        return mean, std
    shape = (channels, 1, 1)
    return np.broadcast_to(mean.mean(), shape), np.broadcast_to(std.mean(), shape)


def _to_8_bits(image: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """Round a normalized image to the nearest 8-bit image, normalized again."""
    mean, std = _statistics(preprocess, len(image))
    pixels = np.rint((image * std + mean) * 255).clip(0, 255)
    return _normalize(pixels / 255, preprocess, len(image))
