"""A table of known accuracies, which replaces training.

A CSV file with a header: one column for each decision of the space, named as `fbnet-zoo space show S --json` lists them
and holding the name of an option, then `top1` (percent). Every other column is a cost that limits can name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import CsvRow, read_csv
from fbnet_zoo.space.encoding import Encoding, Population, Positions

TOP1 = "top1"
_FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """An evaluator that looks up accuracies.

    Attributes:
        name: file name.
        encoding: encoding of the space.
        candidates: networks of the table, (networks, decisions).
        known: accuracies of the networks, percent.
        columns: column name to the costs of the networks.
    """

    name: str
    encoding: Encoding
    candidates: Population
    known: tuple[float, ...]
    columns: dict[str, tuple[float, ...]]

    @property
    def about(self) -> str:
        """How accuracy is determined, in words."""
        return f"in the table {self.name}"

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Return the accuracy of each network, percent.

        Raises:
            InputError: a network is not in the table.
        """
        return [self.known[self.row(positions)] for positions in networks]

    def costs(self) -> tuple["ColumnCost", ...]:
        """Return a cost for each column other than the decisions and `top1`."""
        return tuple(ColumnCost(name=name, oracle=self) for name in self.columns)

    def row(self, positions: Sequence[int]) -> int:
        """Return the row of a network.

        Raises:
            InputError: the network is not in the table.
        """
        network = tuple(self.encoding.canonical([positions])[0].tolist())
        if network not in self._rows:
            raise InputError(f"{self.name} has no row for the network at {network}; only its networks can be searched")
        return self._rows[network]

    @cached_property
    def _rows(self) -> dict[Positions, int]:
        return {tuple(row): index for index, row in enumerate(self.candidates.tolist())}


@dataclass(frozen=True, kw_only=True)
class ColumnCost:
    """A cost column of a table of accuracies.

    Attributes:
        name: name of the column.
        oracle: the table of accuracies.
    """

    name: str
    oracle: Oracle
    unit: str = ""

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network."""
        return self.oracle.columns[self.name][self.oracle.row(positions)]

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of a population, (networks,)."""
        return np.array([self.of(row) for row in np.asarray(population).tolist()])

    @property
    def cheapest(self) -> Positions:
        """Positions of the network with the lowest cost."""
        return tuple(self.oracle.candidates[int(np.argmin(self.oracle.columns[self.name]))].tolist())

    @property
    def least(self) -> float:
        """The lowest cost of any network."""
        return min(self.oracle.columns[self.name])


def read_oracle(path: Path, encoding: Encoding) -> Oracle:
    """Read a table of accuracies of a space's networks.

    Raises:
        InputError: the file cannot be read, lacks a column, or has an invalid value; the text gives file, line and
            column.
    """
    header, found = read_csv(path, "a table of accuracies")
    costs = _cost_columns(path, header, encoding)
    rows: dict[Positions, str] = {}
    values: dict[str, list[float]] = {name: [] for name in (TOP1, *costs)}
    for row in found:
        positions = tuple(_positions(row, encoding))
        network = tuple(encoding.canonical([positions])[0].tolist())
        if network in rows:
            first = rows[network].rpartition(":")[2]
            raise InputError(f"{row.where}: duplicate network, first on line {first}; keep one")
        rows[network] = row.where
        for name, known in values.items():
            known.append(_number(row, name))
    if len(rows) < _FEWEST:
        raise InputError(f"{path} has {len(rows)} networks; expected {_FEWEST} or more")
    return Oracle(
        name=path.name,
        encoding=encoding,
        candidates=np.array(list(rows), dtype=np.int64),
        known=tuple(values.pop(TOP1)),
        columns={name: tuple(known) for name, known in values.items()},
    )


def _cost_columns(path: Path, header: list[str], encoding: Encoding) -> list[str]:
    """Return the cost columns; refuse a header with missing columns."""
    decisions = [decision.name for decision in encoding.decisions]
    for name in (*decisions, TOP1):
        if name not in header:
            hint = did_you_mean(name, header) or f"; it has {', '.join(header) or 'nothing'}"
            raise InputError(f"{path}:1: missing column {name!r}{hint}")
    return [name for name in header if name not in {*decisions, TOP1}]


def _positions(row: CsvRow, encoding: Encoding) -> Iterator[int]:
    for decision in encoding.decisions:
        text = row.cells[decision.name]
        if text is None or text not in decision.options:
            hint = did_you_mean(text or "", decision.options) or f"; expected {', '.join(decision.options)}"
            raise InputError(f"{row.where}: {decision.name} cannot be {text!r}{hint}")
        yield decision.options.index(text)


def _number(row: CsvRow, name: str) -> float:
    text = row.cells[name]
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value) or (name == TOP1 and not 0 <= value <= 100):
        expected = "percent, from 0 to 100" if name == TOP1 else "a number"
        raise InputError(f"{row.where}: {name} cannot be {text!r}; expected {expected}")
    return value
