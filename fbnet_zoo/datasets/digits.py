"""Handwritten digits, plain and cluttered: data sets without a download."""

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.data import Digits, digits
from fbnet_zoo.datasets.records import ImageDataset, Pixels

CANVAS = 32
"""Side of a cluttered image, px."""

COPIES = 4
"""Number of cluttered images of each digit."""

_CLASSES = tuple("0123456789")
_SIDE = (15.0, 24.0)  # range of the side of a digit, px
_ANGLE = math.radians(25)  # largest rotation in either direction
_CONTRAST, _FAINTER = (0.6, 1.0), (0.4, 0.8)  # ranges for digits and for fragments
_DISTRACTORS = 4
_FRAGMENT = 3  # side of a fragment of another digit, of 8 px
_SPREAD = 1.4  # fragments are farther out than digits, some beyond the edge
_PAPER, _NOISE = 0.3, 0.3  # brightest background; range of the noise


def plain_digits() -> ImageDataset:
    """Return scikit-learn's handwritten digits, 8 x 8 px: 1,437 for training; the last 360 are held out.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    train, held_out = (Pixels(pixels=part.pixels[:, None], labels=part.classes) for part in digits())
    return ImageDataset(
        name="digits",
        kind="digits",
        classes=_CLASSES,
        channels=1,
        size=8,
        train=train,
        held_out=held_out,
        split="the last 360 of scikit-learn's order",
    )


@cache
def cluttered_digits() -> ImageDataset:
    """Return the same digits, each four times on a canvas of 32 px: 5,748 images for training, 1,440 held out.

    Each is rotated by up to 25 degrees, scaled to 15 to 24 px, placed anywhere within the canvas and drawn with 60
    to 100 % contrast, among four fragments of other digits of the same part, with 40 to 80 % contrast, on a noisy
    background. The images are always the same. Held-out images consist of held-out digits only.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    train, held_out = (_clutter(part, seed) for seed, part in enumerate(digits()))
    return ImageDataset(
        name="digits_cluttered",
        kind="digits",
        classes=_CLASSES,
        channels=1,
        size=CANVAS,
        train=train,
        held_out=held_out,
        split="those made from the last 360 digits in scikit-learn's order, no part of which is in a training image",
    )


class _Draws:
    """Uniformly distributed numbers in a permanent sequence, which numpy guarantees only for its bit generators."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Return float32 numbers."""
        bits = self._bits.random_raw(math.prod(shape)) >> np.uint64(40)
        return low + (high - low) * torch.from_numpy(bits.astype(np.float32) / 2**24).view(shape)


def _clutter(part: Digits, seed: int) -> Pixels:
    draws, count = _Draws(seed), COPIES * len(part.classes)
    ink = _placed(part.pixels.repeat(COPIES, 1, 1), draws, spread=1) * draws.between(*_CONTRAST, count, 1, 1)
    for _ in range(_DISTRACTORS):
        fragments = _placed(_fragments(part.pixels, count, draws), draws, spread=_SPREAD)
        ink = torch.maximum(ink, fragments * draws.between(*_FAINTER, count, 1, 1))
    paper = draws.between(0, _PAPER, count, 1, 1)
    noise = draws.between(-_NOISE / 2, _NOISE / 2, count, CANVAS, CANVAS)
    levels = (paper + (1 - paper) * ink + noise).clamp(0, 1)
    return Pixels(pixels=levels.mul(255).round().to(torch.uint8)[:, None], labels=part.classes.repeat(COPIES))


def _placed(images: Tensor, draws: _Draws, *, spread: float) -> Tensor:
    """Rotate, scale and shift `(N, 8, 8)` images onto canvases `(N, 32, 32)`; none crosses the edge at `spread` 1."""
    count = len(images)
    side, angle = draws.between(*_SIDE, count) / CANVAS, draws.between(-_ANGLE, _ANGLE, count)
    cos, sin = angle.cos() / side, angle.sin() / side
    x, y = draws.between(-1, 1, 2, count) * (1 - side) * spread  # the center; the canvas is from -1 to 1
    rows = [cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y]
    theta = torch.stack(rows, 1).view(count, 2, 3)
    grid = F.affine_grid(theta, [count, 1, CANVAS, CANVAS], align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def _fragments(pixels: Tensor, count: int, draws: _Draws) -> Tensor:
    """Return squares of `count` random digits: `(N, 8, 8)`, empty outside the square."""
    chosen = pixels[draws.between(0, len(pixels), count).long().clamp_max(len(pixels) - 1)]
    places = torch.arange(pixels.shape[-1])
    first = draws.between(0, pixels.shape[-1] - _FRAGMENT + 1, 2, count, 1).floor()
    rows, columns = (places >= first) & (places < first + _FRAGMENT)
    return chosen * (rows[:, :, None] & columns[:, None, :])
