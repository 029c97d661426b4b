"""Data sets on their way to other processes: as the way they were opened, not as pixels or lists of files."""

import io
import pickle
from functools import cache, cached_property, lru_cache
from typing import Any

from fbnet_zoo.datasets.names import Opened, open_dataset, opened_as
from fbnet_zoo.datasets.reading import dataset_digest
from fbnet_zoo.datasets.records import ImageDataset
from fbnet_zoo.errors import InputError

_REMEDY = "define their class in a module that other processes can import, or train one network at a time"


class Shipped:
    """A data set that can be pickled: the images of `open_dataset`, whole or in part, are opened again at the arrival.

    Other images are pickled themselves.

    Args:
        dataset: the data set.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    @cached_property
    def packed(self) -> bytes:
        """The data set as bytes, with a digest of its images.

        Raises:
            InputError: the images cannot be pickled.
        """
        content = io.BytesIO()
        try:
            _Packer(content).dump((self.dataset, dataset_digest(self.dataset)))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"the images of {self.dataset.name} cannot be sent to other processes ({error}); {_REMEDY}"
            ) from error
        return content.getvalue()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.packed,)


@lru_cache(maxsize=1)  # a process trains many networks on the same images
def _arrived(content: bytes) -> Shipped:
    """Return a data set from its bytes.

    Raises:
        InputError: the images cannot be opened here, or are others here.
    """
    try:
        dataset, digest = _Unpacker(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise InputError(
            f"the images of the search cannot be opened in another process ({error}); {_REMEDY}"
        ) from error
    if dataset_digest(dataset) != digest:
        raise InputError(
            f"the images of {dataset.name} are others than when the search began, or on this machine; use the same ones"
        )
    return Shipped(dataset)


class _Packer(pickle.Pickler):
    def persistent_id(self, found: object) -> Opened | None:
        return opened_as(found)


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._open = cache(lambda name, root: open_dataset(name, root=root))

    def persistent_load(self, found: Opened) -> object:
        return getattr(self._open(found.name, found.root), found.part)
