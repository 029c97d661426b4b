"""The images of a search: most train the weights, the rest select networks; held-out images are never used."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.train import Augmentation, Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How images are loaded into batches.

    Attributes:
        inputs: input format of the networks.
        augmentation: augmentation of the images for the weights; the others are not augmented.
        batch_size: images per step, over all processes.
        weight_share: share of the training images that train the weights; 0.8 in the FBNet paper.
        seed: seed of order and augmentation.
        split_seed: seed of the split.
        workers: number of processes that read images (`None`: `fbnet_zoo.train.batches.usual_workers`).
    """

    inputs: Inputs
    augmentation: Augmentation
    batch_size: int
    weight_share: float = 0.8
    seed: int = 0
    split_seed: int = 0
    workers: int | None = None


def split(dataset: ImageDataset, loading: Loading) -> tuple[Tensor, Tensor]:
    """Return the indices of the images that train the weights, and of those that select networks."""
    count = len(dataset.train.labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(loading.split_seed))
    own, others = order.tensor_split([round(loading.weight_share * count)])
    return own, others
