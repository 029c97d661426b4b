"""Loading of training images: against torchvision's pipeline, and what a step waits for it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fbnet_zoo import create
from fbnet_zoo._require import torchvision
from fbnet_zoo.benchmarks.suites.figures import Versus
from fbnet_zoo.datasets import ImageDataset, open_dataset
from fbnet_zoo.train import default_recipe, inputs_of
from fbnet_zoo.train.batches import Batch, TrainingLoader, epoch_indices, usual_workers
from fbnet_zoo.train.state import TrainingState

CLASSES, IMAGES, BATCH, STEPS = 10, 2_000, 16, 6
RECIPE = default_recipe("folder").model_copy(update={"batch_size": BATCH})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photograph-sized JPEG files whose content compresses like a photograph's."""
    where, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for index in range(IMAGES):
        place = where / f"class_{index % CLASSES}"
        place.mkdir(exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(place / f"{index}.jpg", quality=90)
    return where


@pytest.fixture(scope="module")
def dataset(folder: Path) -> ImageDataset:
    """Return the folder as a data set."""
    return open_dataset(folder)


def bench_images_per_second(versus: Versus, folder: Path, dataset: ImageDataset) -> None:
    """A pass over 640 images with the augmentation of ImageNet's recipe, in as many processes."""
    network = create("fbnet_b", num_classes=CLASSES)
    inputs, workers = inputs_of(network, dataset), max(1, usual_workers(dataset.train))
    loader = TrainingLoader(dataset.train, inputs, RECIPE.augmentation, seed=0, workers=workers)
    indices = epoch_indices(len(dataset.train.labels), BATCH, seed=0, epoch=0)[:40]
    reference = _reference(folder, workers)
    versus(lambda: _drained(loader.batches(indices, epoch=0)), lambda: _drained(reference), target=1.0, rounds=5)


def _reference(folder: Path, workers: int) -> "torch.utils.data.DataLoader[Batch]":
    """Return the loader of torchvision's training reference."""
    v2, datasets = torchvision("torchvision.transforms.v2"), torchvision("torchvision.datasets")
    ask = RECIPE.augmentation
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, scale=(ask.resized_crop, 1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(ask.brightness, ask.contrast, ask.saturation),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images = torch.utils.data.Subset(datasets.ImageFolder(str(folder), transform), range(640))
    return torch.utils.data.DataLoader(
        images, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )


def _drained(batches: Iterable[Batch]) -> int:
    return sum(len(images) for images, _ in batches)


def bench_waiting_for_data(versus: Versus, dataset: ImageDataset) -> None:
    """Steps of `fbnet_b` at 224 px with images that are read meanwhile, against steps with images in memory."""
    network = create("fbnet_b", num_classes=CLASSES)
    state = TrainingState(network.train(), RECIPE, steps_per_epoch=1_000)
    loader = TrainingLoader(dataset.train, inputs_of(network, dataset), RECIPE.augmentation, seed=0, workers=None)
    indices = epoch_indices(len(dataset.train.labels), BATCH, seed=0, epoch=0)[:STEPS]
    kept = list(loader.batches(indices, epoch=0))

    def steps(batches: Iterable[Batch]) -> None:
        for images, labels in batches:
            state.update(F.cross_entropy(network(images), labels))

    versus(lambda: steps(loader.batches(indices, epoch=0)), lambda: steps(kept), target=0.95, rounds=5)
