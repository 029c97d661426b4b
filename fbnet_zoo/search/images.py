"""From a data set to the two parts that a search learns from; its held-out images stay out."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo.datasets import ImageDataset, ImageSet
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.batches import Part, SearchData
from fbnet_zoo.spec import PreprocessSpec
from fbnet_zoo.train import Augmentation, Inputs
from fbnet_zoo.train.batches import WHOLE, Batch, Shard, augmented_batches, epoch_indices, seed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How images become batches.

    Attributes:
        inputs: of the networks.
        augmentation: of the images for the weights; those for theta are taken as they are evaluated.
        batch_size: images of a step, of all processes together.
        weight_share: of the images to train on, those for the weights; 0.8 in the paper.
        seed: of the split, the order and the augmentation.
        workers: processes that read images.
    """

    inputs: Inputs
    augmentation: Augmentation
    batch_size: int
    weight_share: float = 0.8
    seed: int = 0
    workers: int = 0


def search_data(dataset: ImageDataset, loading: Loading) -> SearchData:
    """Split the images that a data set has to train on, at random: most for the weights, the rest for theta.

    Raises:
        InputError: a part has fewer images than a batch.
    """
    own, others = split(dataset, loading)
    return SearchData(
        weights=_part(_Chosen(dataset.train, own), loading, loading.augmentation, seed_of(loading.seed, 0)),
        theta=_part(_Chosen(dataset.train, others), loading, Augmentation(), seed_of(loading.seed, 1)),
    )


def split(dataset: ImageDataset, loading: Loading) -> tuple[Tensor, Tensor]:
    """Return which images are for the weights and which for theta."""
    count = len(dataset.train.labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(loading.seed))
    own, others = order.tensor_split([round(loading.weight_share * count)])
    return own, others


def _part(images: ImageSet, loading: Loading, augmentation: Augmentation, seed: int) -> Part:
    count, size = len(images.labels), loading.batch_size
    if count < size:
        raise InputError(f"{count} images are fewer than a batch of {size}; take a smaller batch_size")

    def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
        chosen = epoch_indices(count, size, seed=seed, epoch=epoch)[first:, shard.rows(size)]
        return augmented_batches(
            images, loading.inputs, augmentation, chosen, seed=seed, epoch=epoch, workers=loading.workers
        )

    return Part(steps=count // size, batches=batches)


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """Some of the images of a set."""

    images: ImageSet
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        return self.images.labels[self.indices]

    def image(self, index: int) -> Image.Image | Tensor:
        return self.images.image(int(self.indices[index]))

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        return self.images.fitted(int(self.indices[index]), preprocess)
