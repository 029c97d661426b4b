"""A network and a data set so small that training takes a second."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fbnet_zoo import arch_file
from fbnet_zoo.datasets import ImageDataset, ImageSet, Pixels, open_dataset
from fbnet_zoo.spec import ArchSpec, PreprocessSpec
from fbnet_zoo.train import Augmentation, Inputs, Recipe
from fbnet_zoo.train.batches import Batch, TrainingLoader, epoch_indices

TINY = """\
name: tiny
family: fbnet
summary: "A few layers."
input_size: 16
defaults: {act: relu}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {k: 3, e: 1, c: 8}
  4:
    - {k: 3, e: 2, c: 16, s: 2, se: 0.25}
    - {k: 3, e: 2, c: 16}
head: {op: conv, k: 1, c: 16}
"""
BATCH, IMAGES = 16, 136
STEPS = IMAGES // BATCH
"""Of an epoch; half a batch is left over."""

RECIPE = Recipe(
    epochs=3,
    batch_size=BATCH,
    drop_rate=0.1,
    drop_path_rate=0.2,
    warmup_epochs=0.5,
    ema_decay=0.9,
    augmentation=Augmentation(degrees=10, shift=0.1, pad=0.1),
    threads=1,
)
"""With something of everything that draws random numbers."""

INPUTS = Inputs(preprocess=PreprocessSpec(resize=16, crop=16), channels=3)

LONG = RECIPE.model_copy(update={"epochs": 8, "checkpoint_steps": 3})
"""Long enough to be interrupted."""


@pytest.fixture(scope="session")
def tiny_16() -> ArchSpec:
    """The definition of a few layers for 16 px."""
    return arch_file.parse(TINY)


@pytest.fixture(scope="session")
def few_digits() -> ImageDataset:
    """A few of scikit-learn's digits: 136 to train on, 50 held out."""
    return few(IMAGES)


def few(count: int) -> ImageDataset:
    """Return so many digits to train on, and 50 held out."""
    full = open_dataset("digits")
    train, held_out = (
        Pixels(pixels=torch.stack([part.image(at) for at in range(size)]), labels=part.labels[:size])
        for part, size in ((full.train, count), (full.held_out, 50))
    )
    return ImageDataset(
        name="few_digits",
        kind="digits",
        classes=full.classes,
        channels=1,
        size=8,
        train=train,
        held_out=held_out,
        split="the first 50 of those that are held out",
    )


def training_batches(
    images: ImageSet,
    inputs: Inputs,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """Return the batches of an epoch of a training, from one on."""
    chosen = epoch_indices(len(images.labels), batch_size, seed=seed, epoch=epoch)[first:]
    return TrainingLoader(images, inputs, augmentation, seed=seed, workers=workers).batches(chosen, epoch=epoch)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Return whether all values of two state dicts are the same to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
