"""Mixup and CutMix: the images of a batch are mixed in pairs, as are their labels.

There is no random state: what a step draws depends on its seed and number, and is the same in all processes. The
partner of a row is half a batch away. Where each process has an even number of rows, it is a row of the same process,
and the one that a single process would choose.
"""

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from fbnet_zoo.errors import InputError
from fbnet_zoo.train.batches import Batch, Shard, seed_of
from fbnet_zoo.train.recipe import Recipe

_DRAW = -1
"""In the place of a rank among the numbers of a seed."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a rectangle, px; right and bottom are not included."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixed:
    """A batch to train on.

    Attributes:
        images: images `(N, C, H, W)`.
        labels: class of each image `(N,)`.
        partners: class of the image mixed into each `(N,)`.
        share: share of `labels`, from 0 to 1; the rest is that of `partners`.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor
    share: float

    @property
    def main(self) -> Tensor:
        """Class with the larger share of each image, `(N,)`."""
        return self.labels if self.share >= 0.5 else self.partners


def require_pairs(recipe: Recipe, shard: Shard) -> None:
    """Refuse a batch of which a process would not have the partners of its images.

    Raises:
        InputError: there are several processes with an odd number of images each, and images are mixed.
    """
    if (recipe.mixup or recipe.cutmix) and shard.count > 1 and recipe.batch_size // shard.count % 2:
        raise InputError(
            f"a batch of {recipe.batch_size} images on {shard.count} processes leaves an odd number to each, which "
            f"'mixup' and 'cutmix' cannot pair; use a batch_size that is a multiple of {2 * shard.count}"
        )


def mixed(batch: Batch, recipe: Recipe, step: int) -> Mixed:
    """Return the batch of a step, mixed as the recipe says.

    Args:
        batch: images `(N, C, H, W)` and their classes `(N,)`.
        recipe: training settings.
        step: number of steps made so far.
    """
    images, labels = batch
    if not (recipe.mixup or recipe.cutmix):
        return Mixed(images=images, labels=labels, partners=labels, share=1.0)
    draw, half = random.Random(seed_of(recipe.seed, step, _DRAW)), len(labels) // 2  # noqa: S311 - no secret
    others, partners = images.roll(half, 0), labels.roll(half, 0)
    if not recipe.cutmix or (recipe.mixup and draw.random() < 0.5):
        share = draw.betavariate(recipe.mixup, recipe.mixup)
        images = averaged(images, others, share)
    else:
        share = draw.betavariate(recipe.cutmix, recipe.cutmix)
        height, width = images.shape[2:]
        box = rectangle(share, draw.randrange(width), draw.randrange(height), width, height)
        images, share = pasted(images, others, box)
    return Mixed(images=images, labels=labels, partners=partners, share=share)


def averaged(images: Tensor, others: Tensor, share: float) -> Tensor:
    """Return `share` of some images and the rest of others, all `(N, C, H, W)`."""
    return torch.lerp(others, images, share).contiguous(memory_format=torch.channels_last)


def rectangle(share: float, x: int, y: int, width: int, height: int) -> Box:
    """Return a rectangle with the sides of an image, which leaves at least a share of it.

    Args:
        share: share of the image outside the rectangle, were it not cut at the border.
        x: horizontal position of its center, px.
        y: vertical position of its center, px.
        width: width of the image, px.
        height: height of the image, px.
    """
    side = 0.5 * math.sqrt(1 - share)
    half_width, half_height = int(side * width), int(side * height)
    return max(x - half_width, 0), max(y - half_height, 0), min(x + half_width, width), min(y + half_height, height)


def pasted(images: Tensor, others: Tensor, box: Box) -> tuple[Tensor, float]:
    """Return images with a rectangle of others, all `(N, C, H, W)`, and the share of the area that is left of each."""
    left, top, right, bottom = box
    images = images.clone()
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    height, width = images.shape[2:]
    return images, 1 - (right - left) * (bottom - top) / (width * height)
