"""Every image is read once before a long run: unreadable ones are found, and the content gets a digest."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image
from torch import Tensor

from fbnet_zoo.datasets.records import ImageDataset, ImageSet, Relabeled, Subset
from fbnet_zoo.errors import InputError

Track = Callable[[Sequence[int], str], Iterable[int]]
"""Called with a sequence and a title; returns an iterable of its items that reports progress."""

Read = TypeVar("Read")

_CHUNK = 32
"""Number of images that a thread reads at a time."""

_LISTED = 10
"""Maximum number of unreadable images in a message."""

_digests: WeakKeyDictionary[ImageSet, np.ndarray] = WeakKeyDictionary()
"""The digests of the images of each set, `(N, 32)`: several trainings of a process may share one."""


def dataset_digest(dataset: ImageDataset, track: Track | None = None) -> str:
    """Read every image of a data set, several at a time; return a digest of all pixels and labels.

    Images of a set that was read before in this process are not read again.

    Args:
        dataset: the data set.
        track: reports progress.

    Raises:
        InputError: images cannot be read; the text names up to ten of them.
    """
    digest = hashlib.sha256()
    for part, title in ((dataset.train, "reading training images"), (dataset.held_out, "reading held-out images")):
        digest.update(read_images(part, track, title).tobytes() + part.labels.numpy().tobytes())
    return digest.hexdigest()


def read_images(images: ImageSet, track: Track | None = None, title: str = "reading images") -> np.ndarray:
    """Read every image of a set, several at a time; return the digests of their pixels, uint8 `(N, 32)`.

    Args:
        images: the images.
        track: reports progress.
        title: name of the step.

    Raises:
        InputError: images cannot be read; the text names up to ten of them.
    """
    if isinstance(images, Relabeled):
        return read_images(images.images, track, title)
    if isinstance(images, Subset):
        return read_images(images.images, track, title)[images.indices.numpy()]
    if images not in _digests:
        found = read_each(lambda index: _digest(images.image(index)), len(images.labels), track, title)
        _digests[images] = np.frombuffer(b"".join(found), np.uint8).reshape(-1, hashlib.sha256().digest_size)
    return _digests[images]


def read_each(
    read: Callable[[int], Read], count: int, track: Track | None = None, title: str = "reading images"
) -> list[Read]:
    """Return what a function returns for each image, called in several threads.

    Args:
        read: function of the index of an image; raises `InputError` if the image cannot be read.
        count: number of images.
        track: reports progress.
        title: name of the step.

    Raises:
        InputError: images cannot be read; the text names up to ten of them.
    """

    def attempts(start: int) -> list[Read | InputError]:
        return [_attempt(read, index) for index in range(start, min(start + _CHUNK, count))]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done: Iterator[Read | InputError] = chain.from_iterable(pool.map(attempts, range(0, count, _CHUNK)))
        try:
            found = [next(done) for _ in (track(range(count), title) if track else range(count))]
        finally:
            pool.shutdown(cancel_futures=True)  # when interrupted, do not read the rest
    errors = [each for each in found if isinstance(each, InputError)]
    if errors:
        more = f"; and {len(errors) - _LISTED} more" if len(errors) > _LISTED else ""
        listed = "; ".join(str(error) for error in errors[:_LISTED])
        raise InputError(f"{len(errors)} of {count} images cannot be read: {listed}{more}")
    return [each for each in found if not isinstance(each, InputError)]


def _attempt(read: Callable[[int], Read], index: int) -> Read | InputError:
    try:
        return read(index)
    except InputError as error:
        return error


def _digest(image: Image.Image | Tensor) -> bytes:
    """Return the digest of an image's size and pixels."""
    pixels = np.ascontiguousarray(np.asarray(image))
    return hashlib.sha256(f"{pixels.shape} {pixels.dtype} ".encode() + pixels.tobytes()).digest()
