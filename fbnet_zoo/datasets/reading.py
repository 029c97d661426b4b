"""Every image is read once before a long run: unreadable ones are found, and the content gets a digest."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate, chain, pairwise
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image
from torch import Tensor

from fbnet_zoo.datasets.records import ImageDataset, ImageSet, Relabeled, Subset, source
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
    digest, parts = hashlib.sha256(), (dataset.train, dataset.held_out)
    for part, images in zip(parts, read_images(*parts, track=track), strict=True):
        digest.update(images.tobytes() + part.labels.numpy().tobytes())
    return digest.hexdigest()


def read_images(*sets: ImageSet, track: Track | None = None) -> tuple[np.ndarray, ...]:
    """Read every image of some sets, several at a time; return digests of their pixels, uint8 `(N, 32)` for each set.

    Args:
        sets: sets of images.
        track: reports progress.

    Raises:
        InputError: images cannot be read; the text names up to ten of them.
    """
    whole = {id(each): each for each in map(source, sets)}
    known = {key: digests for key, each in whole.items() if (digests := _remembered(each)) is not None}
    new = [each for key, each in whole.items() if key not in known]
    starts = [0, *accumulate(len(each.labels) for each in new)]

    def read(index: int) -> bytes:
        at = bisect_right(starts, index) - 1
        return _digest(new[at].image(index - starts[at]))

    found = read_each(read, starts[-1], track)
    for each, (start, end) in zip(new, pairwise(starts), strict=True):
        digests = np.frombuffer(b"".join(found[start:end]), np.uint8).reshape(-1, hashlib.sha256().digest_size)
        known[id(each)] = digests
        with suppress(TypeError):  # a class of the user, which cannot be remembered
            _digests[each] = digests
    return tuple(known[id(source(each))][_indices(each)] for each in sets)


def _remembered(images: ImageSet) -> np.ndarray | None:
    try:
        return _digests.get(images)
    except TypeError:
        return None


def _indices(images: ImageSet) -> np.ndarray:
    """Return the indices of the images of a set in the set that it was made from."""
    if isinstance(images, Subset):
        return _indices(images.images)[images.indices.numpy()]
    return _indices(images.images) if isinstance(images, Relabeled) else np.arange(len(images.labels))


def read_each(read: Callable[[int], Read], count: int, track: Track | None = None) -> list[Read]:
    """Return what a function returns for each image, called in several threads.

    Args:
        read: function of the index of an image; raises `InputError` if the image cannot be read.
        count: number of images.
        track: reports progress.

    Raises:
        InputError: images cannot be read; the text names up to ten of them.
    """

    def attempts(start: int) -> list[Read | InputError]:
        return [_attempt(read, index) for index in range(start, min(start + _CHUNK, count))]

    with ThreadPoolExecutor() as pool:
        done: Iterator[Read | InputError] = chain.from_iterable(pool.map(attempts, range(0, count, _CHUNK)))
        try:
            found = [next(done) for _ in (track(range(count), "reading images") if track else range(count))]
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
