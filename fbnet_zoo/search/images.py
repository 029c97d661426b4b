"""The images of a search: most to learn from, the rest to choose networks by; a data set's held-out ones stay out."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo.datasets import ImageDataset, ImageSet
from fbnet_zoo.spec import PreprocessSpec
from fbnet_zoo.train import Augmentation, Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How images become batches.

    Attributes:
        inputs: of the networks.
        augmentation: of the images for the weights; the others are taken as they are evaluated.
        batch_size: images of a step, of all processes together.
        weight_share: share of the images to train on that weights learn from; 0.8 in the FBNet paper.
        seed: of the split, the order and the augmentation.
        workers: processes that read images.
    """

    inputs: Inputs
    augmentation: Augmentation
    batch_size: int
    weight_share: float = 0.8
    seed: int = 0
    workers: int = 0


def split(dataset: ImageDataset, loading: Loading) -> tuple[Tensor, Tensor]:
    """Return which images weights learn from, and which networks are chosen by."""
    count = len(dataset.train.labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(loading.seed))
    own, others = order.tensor_split([round(loading.weight_share * count)])
    return own, others


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
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
