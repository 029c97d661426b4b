"""Batches from a set of images.

There is no random state: the order of an epoch depends on seed and epoch, the augmentation of an image on these and
its index. Any batch can be computed on its own, so a run can resume from any step, with any number of processes.
"""

import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from fbnet_zoo import _require
from fbnet_zoo.datasets import ImageSet, Pixels, normalised
from fbnet_zoo.datasets.records import source
from fbnet_zoo.errors import FbnetZooError, InputError
from fbnet_zoo.spec import PreprocessSpec
from fbnet_zoo.train.recipe import Augmentation

Batch = tuple[Tensor, Tensor]

MOST_WORKERS, FEWEST_FILES = 8, 512
"""Without a number of workers, there are at most so many, and none for fewer files: starting them takes longer."""


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
        return normalised(images, self.preprocess, self.channels)


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


def epoch_indices(count: int, batch_size: int, *, seed: int, epoch: int) -> Tensor:
    """Return the image indices of each batch of an epoch, `(batches, batch_size)`; an incomplete batch is dropped."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, epoch)))
    return order[: count // batch_size * batch_size].view(-1, batch_size)


def usual_workers(images: ImageSet) -> int:
    """Return the number of processes that read images, if none is given: for files, a core less than there are.

    There are none for images in memory, for few files, and where processes cannot be forked: elsewhere, a script that
    starts some must protect its own top level.
    """
    if isinstance(source(images), Pixels) or len(images.labels) < FEWEST_FILES or not _forks():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, cores - 1))


def _forks() -> bool:
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return method == "fork"


class TrainingLoader:
    """Loads augmented batches, one pass at a time, in processes that live as long as it does.

    The augmentation of an image does not depend on the others of its batch.

    Args:
        images: training images.
        inputs: input format of the network.
        augmentation: random changes to images.
        seed: seed of the augmentation.
        workers: number of processes that read images (`None`: `usual_workers`).
        device: device of the batches.
    """

    def __init__(
        self,
        images: ImageSet,
        inputs: Inputs,
        augmentation: Augmentation,
        *,
        seed: int,
        workers: int | None = 0,
        device: str = "cpu",
    ) -> None:
        items = _Augmented(images, train_transform(augmentation, inputs.preprocess), seed)
        self._loader = _Loader(items, inputs, workers, device)

    def batches(self, indices: Tensor, *, epoch: int) -> Iterator[Batch]:
        """Yield the batches of the images at `indices`, `(batches, batch_size)`, as changed in an epoch, from 0.

        Yields:
            Normalized images `(N, C, crop, crop)` and classes `(N,)`.
        """
        return self._loader.batches([[(epoch, index) for index in row] for row in indices.tolist()])


def evaluation_batches(
    images: ImageSet, inputs: Inputs, *, batch_size: int, workers: int | None = 0, device: str = "cpu"
) -> Iterator[Batch]:
    """Yield all images without augmentation, in order: normalized `(N, C, crop, crop)`, and classes `(N,)`."""
    keys = [(0, index) for index in range(len(images.labels))]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    yield from _Loader(_Fitted(images, inputs.preprocess), inputs, workers, device).batches(batches)


Key = tuple[int, int]
"""Epoch and index of an image."""

Item = tuple[int, Tensor] | FbnetZooError
"""The index and the input of an image, or why it cannot be read: raised in another process, it would be a traceback."""


class _Items(Dataset[Item]):
    images: ImageSet


class _Fitted(_Items):
    def __init__(self, images: ImageSet, preprocess: PreprocessSpec) -> None:
        self.images, self.preprocess = images, preprocess

    def __getitem__(self, key: Key) -> Item:
        _, index = key
        try:
            return index, self.images.fitted(index, self.preprocess)
        except FbnetZooError as error:
            return error


class _Augmented(_Items):
    def __init__(self, images: ImageSet, transform: "Transform", seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, key: Key) -> Item:
        before = torch.get_rng_state()  # used by torchvision, and maybe by the caller
        torch.default_generator.manual_seed(seed_of(self.seed, *key))
        try:
            return key[1], self.transform(self.images, key[1])
        except FbnetZooError as error:
            return error
        finally:
            torch.set_rng_state(before)


class _Pass(Sampler[list[Key]]):
    """The batches of the next pass."""

    def __init__(self) -> None:
        self.keys: Sequence[list[Key]] = ()

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class _Loader:
    def __init__(self, items: _Items, inputs: Inputs, workers: int | None, device: str) -> None:
        self._pass, self._labels, self._device = _Pass(), items.images.labels, torch.device(device)
        count = usual_workers(items.images) if workers is None else workers
        self._loader = DataLoader(
            items,
            batch_sampler=self._pass,
            num_workers=count,
            persistent_workers=count > 0,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),
            collate_fn=_Collate(inputs),
        )

    def batches(self, keys: Sequence[list[Key]]) -> Iterator[Batch]:
        self._pass.keys = keys
        for batch in self._loader:
            if isinstance(batch, FbnetZooError):
                raise batch
            indices, images = batch
            labels = self._labels[indices]
            yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class _Collate:
    """Makes a batch where the images are read, in the layout `channels_last`, which is faster on CPUs.

    Images are normalized one by one: they fit into a cache, and only the batch is written to shared memory.
    """

    inputs: Inputs

    def __call__(self, items: list[Item]) -> Batch | FbnetZooError:
        """Return the indices and the inputs of a batch, or the first error."""
        read = []
        for item in items:
            if isinstance(item, FbnetZooError):
                return item
            index, image = item
            read.append((index, self.inputs(image[None])[0].movedim(0, -1)))
        indices, images = default_collate(read)
        return indices, images.movedim(-1, 1)


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
        image = self.change(self.cut(images.image(index)))
        return self.read(image) if isinstance(image, Image.Image) else image


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
    if ask.randaugment_ops:
        mode = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandAugment(ask.randaugment_ops, ask.randaugment_magnitude, interpolation=mode))
    return v2.Compose(steps or [v2.Identity()])
