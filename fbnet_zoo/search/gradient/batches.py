"""The two parts of the images: one that weights learn from and one that theta learns from.

A part makes the batches of any epoch from any position, always the same ones: that is what lets a search resume, and
several processes search together, each with its rows of every batch.
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
    """What makes batches."""

    def __call__(self, epoch: int, first: int, shard: Shard = WHOLE) -> Iterable[Batch]:
        """Return the batches of an epoch, the same ones whenever they are asked for.

        Args:
            epoch: from 0.
            first: the first batch that is wanted.
            shard: of which only its rows are wanted.

        Returns:
            Images (N, C, H, W) and classes (N,).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Batches for one of the two.

    Attributes:
        steps: batches of an epoch.
        batches: makes them.
    """

    steps: int
    batches: Batches

    @classmethod
    def of_tensors(cls, images: Tensor, classes: Tensor, *, batch_size: int, seed: int) -> Self:
        """Return whole batches in an order drawn for each epoch; what is left over changes from epoch to epoch.

        Raises:
            InputError: there are fewer images than a batch has.
        """
        steps = len(images) // batch_size
        if not steps:
            raise InputError(f"{len(images)} images are fewer than a batch of {batch_size}; take a smaller batch_size")

        def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
            order = epoch_indices(len(images), batch_size, seed=seed, epoch=epoch)
            for chosen in order[first:, shard.rows(batch_size)]:
                yield images[chosen], classes[chosen]

        return cls(steps=steps, batches=batches)

    @classmethod
    def of_loader(cls, loader: "DataLoader[Batch]", *, seed: int) -> Self:
        """Return the batches of a loader, whose random numbers are those of PyTorch, seeded for each epoch.

        After a resume it makes the batches before the first again, to come to the same random numbers. For the same
        reason each of several processes makes whole batches.
        """

        def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
            torch.manual_seed(seed_of(seed, epoch))
            for images, classes in islice(loader, first, None):
                rows = shard.rows(len(images))
                yield images[rows], classes[rows]

        return cls(steps=len(loader), batches=batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchData:
    """What a search learns from.

    Attributes:
        weights: the part for the weights.
        theta: the part for theta, with other images; sampled networks are compared on it.
    """

    weights: Part
    theta: Part

    @classmethod
    def of_tensors(
        cls, images: Tensor, classes: Tensor, *, batch_size: int, weight_share: float = 0.8, seed: int = 0
    ) -> Self:
        """Split images at random.

        Args:
            images: (N, C, H, W), normalised.
            classes: (N,), whole numbers.
            batch_size: images of a step, of all processes together.
            weight_share: of the images for the weights; 0.8 in the paper.
            seed: of the split and of the order.

        Raises:
            InputError: a part has fewer images than a batch.
        """
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        own, others = order.tensor_split([round(weight_share * len(images))])
        return cls(
            weights=Part.of_tensors(images[own], classes[own], batch_size=batch_size, seed=seed_of(seed, 0)),
            theta=Part.of_tensors(images[others], classes[others], batch_size=batch_size, seed=seed_of(seed, 1)),
        )
