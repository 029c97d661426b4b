"""The two parts of the images: one trains the weights, the other trains theta.

A part yields the batches of any epoch from any position, always the same ones, so a search can resume, and several
processes can each take their rows of every batch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fbnet_zoo.errors import InputError
from fbnet_zoo.train.batches import WHOLE, Batch, Shard, epoch_indices, seed_of


class Batches(Protocol):
    """A deterministic source of batches."""

    def __call__(self, epoch: int, first: int, shard: Shard = WHOLE) -> Iterable[Batch]:
        """Return the batches of an epoch, the same ones on every call.

        Args:
            epoch: index of the epoch, from 0.
            first: index of the first batch to return.
            shard: process whose rows are returned.

        Returns:
            Images (N, C, H, W) and classes (N,).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Batches for the weights or for theta.

    Attributes:
        steps: number of batches per epoch.
        batches: source of the batches.
    """

    steps: int
    batches: Batches

    @classmethod
    def of_tensors(cls, images: Tensor, classes: Tensor, *, batch_size: int, seed: int) -> Self:
        """Return full batches in a random order for each epoch; the images left over differ from epoch to epoch.

        Raises:
            InputError: there are fewer images than a batch.
        """
        steps = len(images) // batch_size
        if not steps:
            raise InputError(f"{len(images)} images are fewer than a batch of {batch_size}; lower batch_size")

        def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
            order = epoch_indices(len(images), batch_size, seed=seed, epoch=epoch)
            for chosen in order[first:, shard.rows(batch_size)]:
                yield images[chosen], classes[chosen]

        return cls(steps=steps, batches=batches)

    @classmethod
    def of_loader(cls, loader: "DataLoader[Batch]", *, seed: int) -> Self:
        """Return the batches of a loader that uses PyTorch's global random numbers, seeded for each epoch.

        On resume, the batches before the first are loaded again to reach the same random state; for the same reason,
        every process loads whole batches.
        """

        def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
            torch.manual_seed(seed_of(seed, epoch))
            for images, classes in islice(loader, first, None):
                rows = shard.rows(len(images))
                yield images[rows], classes[rows]

        return cls(steps=len(loader), batches=batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchData:
    """The data of a search by gradients.

    Attributes:
        weights: the part that trains the weights.
        theta: the part that trains theta, with other images; sampled networks are compared on it.
    """

    weights: Part
    theta: Part

    @classmethod
    def of_tensors(
        cls, images: Tensor, classes: Tensor, *, batch_size: int, weight_share: float = 0.8, seed: int = 0
    ) -> Self:
        """Return a random split of images.

        Args:
            images: normalized images (N, C, H, W).
            classes: class indices (N,).
            batch_size: images per step, over all processes.
            weight_share: share of the images that train the weights; 0.8 in the paper.
            seed: seed of split and order.

        Raises:
            InputError: a part has fewer images than a batch.
        """
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        own, others = order.tensor_split([round(weight_share * len(images))])
        return cls(
            weights=Part.of_tensors(images[own], classes[own], batch_size=batch_size, seed=seed_of(seed, 0)),
            theta=Part.of_tensors(images[others], classes[others], batch_size=batch_size, seed=seed_of(seed, 1)),
        )
