"""Data sets: labeled images for training and evaluation, in memory or in files."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fbnet_zoo.data import load_image
from fbnet_zoo.errors import InputError
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

_FEWEST_CLASSES = 2

_PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "order": "rgb"}


class ImageSet(Protocol):
    """Labeled images.

    Attributes:
        labels: class of each image, int64 `(N,)`.
    """

    @property
    def labels(self) -> Tensor: ...

    def image(self, index: int) -> Image.Image | Tensor:
        """Return one image, unchanged: in RGB, or float32 `(C, H, W)` from 0 to 1."""

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image at the size for evaluation, not normalized: float32 `(C, crop, crop)` from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Pixels:
    """Small square images in memory, which are scaled without cropping.

    Attributes:
        pixels: images `(N, C, S, S)`, uint8, or float32 from 0 to 1.
        labels: class of each image, int64 `(N,)`.
    """

    pixels: Tensor
    labels: Tensor

    def image(self, index: int) -> Tensor:
        """Return one image, float32 `(C, S, S)` from 0 to 1."""
        pixels = self.pixels[index]
        return pixels if pixels.is_floating_point() else pixels.float() / 255

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image scaled to the input: float32 `(C, crop, crop)` from 0 to 1."""
        image, size = self.image(index), (preprocess.crop, preprocess.crop)
        if image.shape[1:] == size:
            return image
        return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Files:
    """Color image files, read on demand, resized and cropped by the network's preprocessing.

    Attributes:
        paths: paths of the files.
        labels: class of each image, int64 `(N,)`.
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def image(self, index: int) -> Image.Image:
        """Return one image, in RGB.

        Raises:
            InputError: the file cannot be read as an image.
        """
        return load_image(self.paths[index])

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image with its shorter side resized, and cropped: float32 `(3, crop, crop)` from 0 to 1.

        Raises:
            InputError: the file cannot be read as an image.
        """
        return eval_transform(preprocess.model_copy(update=_PLAIN))(self.image(index))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Subset:
    """Some images of a set.

    Attributes:
        images: the set.
        indices: indices of the images in the set, int64 `(N,)`.
    """

    images: ImageSet
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        """Class of each image, int64 `(N,)`."""
        return self.images.labels[self.indices]

    def image(self, index: int) -> Image.Image | Tensor:
        """Return one image, unchanged."""
        return self.images.image(int(self.indices[index]))

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image at the size for evaluation."""
        return self.images.fitted(int(self.indices[index]), preprocess)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageDataset:
    """Training images and held-out images, whose split never changes.

    Attributes:
        name: name of the data set, or of its folder.
        kind: kind of images, which selects the training recipe: `digits`, `cifar` or `folder`.
        classes: names of the classes, by index.
        channels: channels of the images: 1 for gray, 3 for RGB.
        size: side of the images, px; `None` if it varies.
        train: images for training.
        held_out: images for evaluation only.
        split: description of the held-out images.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = field(repr=False)
    channels: int
    size: int | None
    train: ImageSet = field(repr=False)
    held_out: ImageSet = field(repr=False)
    split: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Relabeled:
    """The images of a set with other labels.

    Attributes:
        images: the set.
        labels: class of each image, int64 `(N,)`.
    """

    images: ImageSet
    labels: Tensor

    def image(self, index: int) -> Image.Image | Tensor:
        """Return one image, unchanged."""
        return self.images.image(index)

    def fitted(self, index: int, preprocess: PreprocessSpec) -> Tensor:
        """Return one image at the size for evaluation."""
        return self.images.fitted(index, preprocess)


def source(images: ImageSet) -> ImageSet:
    """Return the set that a set was made from."""
    return source(images.images) if isinstance(images, Subset | Relabeled) else images


def with_classes(dataset: ImageDataset, names: Sequence[str]) -> ImageDataset:
    """Return a data set with the same classes in another order.

    Args:
        dataset: a data set.
        names: the names of its classes, in the new order.
    """
    if dataset.classes == tuple(names):
        return dataset
    places = {name: index for index, name in enumerate(names)}
    moved = labels_of([places[name] for name in dataset.classes])  # new label by old
    train, held_out = (Relabeled(part, moved[part.labels]) for part in (dataset.train, dataset.held_out))
    return replace(dataset, classes=tuple(names), train=train, held_out=held_out)


def some_classes(dataset: ImageDataset, count: int, *, seed: int) -> ImageDataset:
    """Return a data set with the images of some of the classes, drawn at random, in their order.

    Args:
        dataset: a data set.
        count: number of classes, at least two.
        seed: random seed.

    Raises:
        InputError: the data set has fewer classes.
    """
    if not _FEWEST_CLASSES <= count <= len(dataset.classes):
        raise InputError(
            f"{dataset.name} has {len(dataset.classes)} classes, of which {count} cannot be drawn; "
            f"expected {_FEWEST_CLASSES} to {len(dataset.classes)}"
        )
    order = torch.randperm(len(dataset.classes), generator=torch.Generator().manual_seed(seed))
    chosen = sorted(order[:count].tolist())
    train, held_out = (_of_classes(part, chosen, len(dataset.classes)) for part in (dataset.train, dataset.held_out))
    return replace(dataset, classes=tuple(dataset.classes[at] for at in chosen), train=train, held_out=held_out)


def _of_classes(images: ImageSet, chosen: list[int], count: int) -> ImageSet:
    new = torch.full((count,), -1)
    new[chosen] = torch.arange(len(chosen))
    (kept,) = (new[images.labels] >= 0).nonzero(as_tuple=True)
    return Relabeled(Subset(images, kept), new[images.labels[kept]])


def labels_of(values: list[int]) -> Tensor:
    """Return classes as a tensor, int64 `(N,)`."""
    return torch.tensor(values, dtype=torch.int64)
