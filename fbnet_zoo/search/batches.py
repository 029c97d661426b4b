"""The two parts of the images: one that weights learn from and one that theta learns from.

A part makes the batches of any epoch from any position, always the same ones: that is what lets a search resume.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fbnet_zoo.errors import InputError
from fbnet_zoo.train.batches import Batch, seed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Batches for one of the two.

    Attributes:
        steps: batches of an epoch.
        batches: takes an epoch, from 0, and the first batch of it that is wanted; gives images (N, C, H, W) and
            classes (N,), the same for the same epoch.
    """

    steps: int
    batches: Callable[[int, int], Iterable[Batch]]

    @classmethod
    def of_tensors(cls, images: Tensor, classes: Tensor, *, batch_size: int, seed: int) -> Self:
        """Return whole batches in an order drawn for each epoch; what is left over changes from epoch to epoch.

        Raises:
            InputError: there are fewer images than a batch has.
        """
        steps = len(images) // batch_size
        if not steps:
            raise InputError(f"{len(images)} images are fewer than a batch of {batch_size}; take a smaller batch_size")

        def batches(epoch: int, first: int) -> Iterator[Batch]:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed_of(seed, epoch)))
            for chosen in order[: steps * batch_size].view(steps, batch_size)[first:]:
                yield images[chosen], classes[chosen]

        return cls(steps=steps, batches=batches)

    @classmethod
    def of_loader(cls, loader: "DataLoader[Batch]", *, seed: int) -> Self:
        """Return the batches of a loader, whose random numbers are those of PyTorch, seeded for each epoch.

        After a resume it makes the batches before the first again, to come to the same random numbers.
        """

        def batches(epoch: int, first: int) -> Iterator[Batch]:
            torch.manual_seed(seed_of(seed, epoch))
            return islice(loader, first, None)

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
            batch_size: images of a step.
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
