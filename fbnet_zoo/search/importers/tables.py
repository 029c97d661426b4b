"""The registry of published tables of accuracies, for command line and documents; a reader is imported when used."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.errors import InputError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNetwork:
    """A network of a published table, as evaluated once.

    Attributes:
        where: file and place in it, for errors.
        options: name of each decision of the space to the name of the chosen option.
        top1: accuracy, percent.
        costs: name to cost, of which less is better; `None` where unknown.
    """

    where: str
    options: Mapping[str, str]
    top1: float
    costs: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A registered table.

    Attributes:
        title: who published it, and what it is.
        space: name of the search space of its networks.
        credit: license and copyright of the figures.
        home: where the reader is defined, `module:function`.
    """

    title: str
    space: str
    credit: str
    home: str

    def read(self, path: Path) -> Iterable[PublishedNetwork]:
        """Yield the networks of the table in a file, in order.

        Raises:
            InputError: the file cannot be read, or is not such a table; the text gives file, place and key.
        """
        module, name = self.home.split(":")
        reader: Callable[[Path], Iterable[PublishedNetwork]] = getattr(importlib.import_module(module), name)
        return reader(path)


class _Tables(dict[str, PublishedTable]):
    def __missing__(self, name: str) -> PublishedTable:
        hint = did_you_mean(name, self) or f"; expected {' or '.join(self)}"
        raise InputError(f"no published table is named {name!r}{hint}")


TABLES: Mapping[str, PublishedTable] = _Tables(
    {
        "accel-nasbench": PublishedTable(
            title="Accel-NASBench (Ahmad et al., DAC 2024): short ImageNet-1k trainings, and latencies of accelerators",
            space="accel_nasbench",
            credit="Accel-NASBench, https://github.com/afzalxo/Accel-NASBench, Apache-2.0",
            home="fbnet_zoo.search.importers.accel_nasbench:read_accel_nasbench",
        ),
    }
)
