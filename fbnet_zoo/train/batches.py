"""Batches from a set of images.

There is no random state: the order of an epoch depends on seed and epoch, the augmentation of an image on these and
its index. Any batch can be computed on its own, so a run can resume from any step, with any number of processes.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from fbnet_zoo import _require
from fbnet_zoo.datasets import ImageSet, normalised
from fbnet_zoo.errors import FbnetZooError, InputError
from fbnet_zoo.spec import PreprocessSpec
from fbnet_zoo.train.recipe import Augmentation

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The input format of a network.

    Attributes:
        preprocess: preprocessing of an image.
        channels: number of input channels.
    """

    preprocess: PreprocessSpec
    channels: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return normalized images `(N, C, crop, crop)`, given values from 0 to 1."""
        channels_last = torch.channels_last  # the faster layout on CPUs; values are unchanged
        return normalised(images, self.preprocess, self.channels).contiguous(memory_format=channels_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The share of every batch that one of several processes takes.

    Attributes:
        rank: rank of the process, from 0.
        count: number of processes.

    >>> list(range(6))[Shard(rank=1, count=3).rows(6)]
    [1, 4]
    """

    rank: int = 0
    count: int = 1

    def rows(self, images: int) -> slice:
        """Return the rows of a batch for this process.

        Raises:
            InputError: the batch cannot be divided equally among the processes.
        """
        if images % self.count:
            raise InputError(
                f"a batch of {images} images cannot be divided among {self.count} processes; use a batch_size that is "
                f"a multiple of {self.count}, and full batches only"
            )
        return slice(self.rank, None, self.count)


WHOLE = Shard()
"""The shard of a single process: all rows."""


def seed_of(*numbers: int) -> int:
    """Return a seed derived from several numbers."""
    return zlib.crc32(repr(numbers).encode())


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
    """Yield the augmented batches of an epoch, in random order.

    Args:
        images: training images, at least a full batch.
        inputs: input format of the network.
        augmentation: random changes to images.
        batch_size: images per batch; an incomplete last batch is dropped.
        seed: seed of order and augmentation.
        epoch: index of the epoch, from 0.
        first: index of the first batch to yield.
        workers: number of processes that read images.

    Yields:
        Normalized images `(N, C, crop, crop)` and classes `(N,)`.
    """
    chosen = epoch_indices(len(images.labels), batch_size, seed=seed, epoch=epoch)[first:]
    yield from augmented_batches(images, inputs, augmentation, chosen, seed=seed, epoch=epoch, workers=workers)


def epoch_indices(count: int, batch_size: int, *, seed: int, epoch: int) -> Tensor:
    """Return the image indices of each batch of an epoch, `(batches, batch_size)`; an incomplete batch is dropped."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, epoch)))
    return order[: count // batch_size * batch_size].view(-1, batch_size)


def augmented_batches(
    images: ImageSet,
    inputs: Inputs,
    augmentation: Augmentation,
    indices: Tensor,
    *,
    seed: int,
    epoch: int,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield augmented batches of the images at `indices`, `(batches, batch_size)`; see `training_batches`.

    The augmentation of an image does not depend on the other indices.
    """
    items = _Augmented(images, train_transform(augmentation, inputs.preprocess), (seed, epoch))
    yield from _load(items, images.labels, inputs, indices.tolist(), workers)


def evaluation_batches(images: ImageSet, inputs: Inputs, *, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Yield all images without augmentation, in order: normalized `(N, C, crop, crop)`, and classes `(N,)`."""
    indices = list(range(len(images.labels)))
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    yield from _load(_Fitted(images, inputs.preprocess), images.labels, inputs, batches, workers)


Item = tuple[int, Tensor] | FbnetZooError
"""The index and the input of an image, or why it cannot be read: raised in another process, it would be a traceback."""


class _Fitted(Dataset[Item]):
    def __init__(self, images: ImageSet, preprocess: PreprocessSpec) -> None:
        self.images, self.preprocess = images, preprocess

    def __getitem__(self, index: int) -> Item:
        try:
            return index, self.images.fitted(index, self.preprocess)
        except FbnetZooError as error:
            return error


class _Augmented(Dataset[Item]):
    def __init__(self, images: ImageSet, transform: "Transform", seed: tuple[int, int]) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, index: int) -> Item:
        before = torch.get_rng_state()  # used by torchvision, and maybe by the caller
        torch.default_generator.manual_seed(seed_of(*self.seed, index))
        try:
            return index, self.transform(self.images, index)
        except FbnetZooError as error:
            return error
        finally:
            torch.set_rng_state(before)


def _load(
    items: Dataset[Item], labels: Tensor, inputs: Inputs, batches: list[list[int]], workers: int
) -> Iterator[Batch]:
    loader = DataLoader(
        items, batch_sampler=batches, num_workers=workers, generator=torch.Generator(), collate_fn=_collate
    )
    for batch in loader:
        if isinstance(batch, FbnetZooError):
            raise batch
        indices, images = batch
        yield inputs(images), labels[indices]


def _collate(items: list[Item]) -> Batch | FbnetZooError:
    """Return the indices and the inputs of a batch, or the first error."""
    error = next((item for item in items if isinstance(item, FbnetZooError)), None)
    return default_collate(items) if error is None else error


Transform = Callable[[ImageSet, int], Tensor]


def train_transform(augmentation: Augmentation, preprocess: PreprocessSpec) -> Transform:
    """Return a function that returns the augmented image at an index: float32 `(C, crop, crop)` from 0 to 1."""
    change = _changes(augmentation, preprocess.crop)
    if augmentation.resized_crop is None:
        return _Scaled(change, preprocess)
    return _Cut(change, preprocess, augmentation.resized_crop)


class _Scaled:
    """Scales an image as for evaluation, then changes it."""

    def __init__(self, change: Callable[[Tensor], Tensor], preprocess: PreprocessSpec) -> None:
        self.change, self.preprocess = change, preprocess

    def __call__(self, images: ImageSet, index: int) -> Tensor:
        return self.change(images.fitted(index, self.preprocess))


class _Cut:
    """Scales a random crop of an image, then changes it."""

    def __init__(self, change: Callable[[Tensor], Tensor], preprocess: PreprocessSpec, smallest: float) -> None:
        v2 = _require.torchvision("torchvision.transforms.v2")
        mode = v2.InterpolationMode(preprocess.interpolation)
        self.cut = v2.RandomResizedCrop(preprocess.crop, scale=(smallest, 1), interpolation=mode, antialias=True)
        self.read = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
        self.change = change

    def __call__(self, images: ImageSet, index: int) -> Tensor:
        image = self.cut(images.image(index))
        return self.change(self.read(image) if isinstance(image, Image.Image) else image)


def _changes(augmentation: Augmentation, crop: int) -> Callable[[Tensor], Tensor]:
    v2 = _require.torchvision("torchvision.transforms.v2")
    ask, steps = augmentation, []
    if ask.pad:
        steps.append(v2.RandomCrop(crop, padding=round(ask.pad * crop)))
    if ask.flip:
        steps.append(v2.RandomHorizontalFlip())
    if ask.degrees or ask.shift or ask.zoom or ask.shear:
        shift, zoom, mode = (ask.shift, ask.shift), (1 - ask.zoom, 1 + ask.zoom), v2.InterpolationMode.BILINEAR
        steps.append(
            v2.RandomAffine(ask.degrees, translate=shift, scale=zoom, shear=ask.shear or None, interpolation=mode)
        )
    if ask.brightness or ask.contrast or ask.saturation:
        steps.append(v2.ColorJitter(brightness=ask.brightness, contrast=ask.contrast, saturation=ask.saturation))
    return v2.Compose(steps or [v2.Identity()])
