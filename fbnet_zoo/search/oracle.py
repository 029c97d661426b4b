"""A table of known accuracies, which replaces training.

A CSV file with a header: one column for each decision of the space, named as `fbnet-zoo space show S --json` lists them
and holding the name of an option, then `top1` (percent). Every other column is a cost that limits can name; an empty
cell there is an unknown cost, which is within no limit.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError

from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import CsvRow, read_csv
from fbnet_zoo.search.joint import PREFIX, JointEncoding
from fbnet_zoo.space import Space
from fbnet_zoo.space.encoding import Decision, Encoding, Population, Positions
from fbnet_zoo.spec import Name

TOP1 = "top1"
_FEWEST = 2
_COST_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """An evaluator that looks up accuracies.

    Attributes:
        name: file name.
        encoding: encoding of the space.
        candidates: networks of the table, (networks, decisions).
        known: accuracies of the networks, percent.
        columns: column name to the costs of the networks; infinite where unknown.
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
        return [self.known[row] for row in self.rows(networks)] if networks else []

    def costs(self, limited: Collection[str] = ()) -> tuple["ColumnCost", ...]:
        """Return a cost for each column other than the decisions and `top1`.

        Args:
            limited: columns that limits name; others with unknown costs are left out.
        """
        known = (name for name, costs in self.columns.items() if name in limited or math.inf not in costs)
        return tuple(ColumnCost(name=name, oracle=self) for name in known)

    def rows(self, population: ArrayLike) -> list[int]:
        """Return the row of each network of a population, given as (networks, decisions).

        Raises:
            InputError: a network is not in the table.
        """
        networks = self.encoding.canonical(population)
        try:
            return [self._rows[network.tobytes()] for network in networks]
        except KeyError as error:
            positions = tuple(np.frombuffer(error.args[0], dtype=np.int64).tolist())
            raise InputError(
                f"{self.name} has no row for the network at {positions}; only its networks can be searched"
            ) from error

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        return {network.tobytes(): row for row, network in enumerate(self.candidates)}


@dataclass(frozen=True, kw_only=True)
class ColumnCost:
    """A cost column of a table of accuracies; unknown costs are infinite.

    Attributes:
        name: name of the column.
        oracle: the table of accuracies.
    """

    name: str
    oracle: Oracle
    unit: str = ""

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network."""
        return float(self.population([positions])[0])

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of a population, (networks,)."""
        return self._costs[self.oracle.rows(population)]

    @property
    def cheapest(self) -> Positions:
        """Positions of the network with the lowest cost."""
        return tuple(self.oracle.candidates[int(np.argmin(self.oracle.columns[self.name]))].tolist())

    @property
    def least(self) -> float:
        """The lowest cost of any network."""
        return min(self.oracle.columns[self.name])

    @cached_property
    def _costs(self) -> NDArray[np.float64]:
        return np.array(self.oracle.columns[self.name])


def table_encoding(path: Path, space: Space, input_size: int | None = None) -> Encoding:
    """Return the encoding of a table's networks: with the recipe if it has columns for that.

    Raises:
        InputError: the file cannot be read, or the image size is invalid.
    """
    header, _ = read_csv(path, "a table of accuracies")
    joint = any(name.startswith(PREFIX) for name in header)
    return JointEncoding(space, input_size) if joint else Encoding(space, input_size)


def read_oracle(path: Path, encoding: Encoding) -> Oracle:
    """Read a table of accuracies of a space's networks; of a network on several lines, the mean of its trainings.

    Raises:
        InputError: the file cannot be read, lacks a column, or has an invalid value; the text gives file, line and
            column.
    """
    header, rows = read_csv(path, "a table of accuracies")
    names = _cost_columns(path, header, encoding)
    if len(rows) < _FEWEST:
        raise InputError(f"{path} has {len(rows)} networks; expected {_FEWEST} or more")
    options = _options(encoding)
    candidates = encoding.canonical([_positions(row, encoding.decisions, options) for row in rows])
    groups = _groups(rows, candidates)
    columns = {name: _means([_cost(row, name) for row in rows], groups) for name in names}
    for name, costs in columns.items():
        if set(costs) == {math.inf}:
            raise InputError(f"{path}:1: the column {name!r} has no value; remove it")
    return Oracle(
        name=path.name,
        encoding=encoding,
        candidates=candidates[[group[0] for group in groups]],
        known=_means([_top1(row) for row in rows], groups),
        columns=columns,
    )


def _cost_columns(path: Path, header: list[str], encoding: Encoding) -> list[str]:
    """Return the cost columns; refuse a header with missing columns, or with names that limits cannot have."""
    decisions = [decision.name for decision in encoding.decisions]
    for name in (*decisions, TOP1):
        if name not in header:
            hint = did_you_mean(name, header) or f"; it has {', '.join(header) or 'nothing'}"
            raise InputError(f"{path}:1: missing column {name!r}{hint}")
    found = [name for name in header if name not in {*decisions, TOP1}]
    for name in found:
        check_cost_name(name, f"{path}:1")
    return found


def check_cost_name(name: str, where: str) -> None:
    """Refuse a column name that a cost cannot have; `where` is its place, for the error.

    Raises:
        InputError: the name is not valid.
    """
    try:
        _COST_NAME.validate_python(name)
    except ValidationError as error:
        raise InputError(
            f"{where}: the column {name!r} is neither a decision nor a cost, whose name is a lower-case word of "
            "letters, digits and underscores; rename or remove it"
        ) from error


def _options(encoding: Encoding) -> list[dict[str | None, int]]:
    """Return, for each decision, the name of each option to its position."""
    return [{name: at for at, name in enumerate(decision.options)} for decision in encoding.decisions]


def _positions(row: CsvRow, decisions: Sequence[Decision], options: Sequence[Mapping[str | None, int]]) -> list[int]:
    found = []
    for decision, known in zip(decisions, options, strict=True):
        text = row.cells[decision.name]
        if text not in known:
            hint = did_you_mean(text or "", decision.options) or f"; expected {', '.join(decision.options)}"
            raise InputError(f"{row.where}: {decision.name} cannot be {text!r}{hint}")
        found.append(known[text])
    return found


def _groups(rows: Sequence[CsvRow], candidates: Population) -> list[list[int]]:
    """Return the rows of each network: several if it was trained several times.

    Raises:
        InputError: two rows are the same training: of one network, with equal accuracies.
    """
    found: dict[bytes, list[int]] = {}
    for at, network in enumerate(candidates):
        own = found.setdefault(network.tobytes(), [])
        for other in own:
            if rows[other].cells[TOP1] == rows[at].cells[TOP1]:
                line = rows[other].where.rpartition(":")[2]
                raise InputError(f"{rows[at].where}: duplicate network, first on line {line}; keep one")
        own.append(at)
    return list(found.values())


def _means(values: Sequence[float], groups: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return the mean of the known values of each network; infinity where there is none."""
    known = ([values[at] for at in group if values[at] < math.inf] for group in groups)
    return tuple(sum(each) / len(each) if each else math.inf for each in known)


def _top1(row: CsvRow) -> float:
    value = _number(row.cells[TOP1])
    if not 0 <= value <= 100:
        raise InputError(f"{row.where}: {TOP1} cannot be {row.cells[TOP1]!r}; expected percent, from 0 to 100")
    return value


def _cost(row: CsvRow, name: str) -> float:
    """Return a cost; infinity for an empty cell."""
    text = row.cells[name]
    value = math.inf if text == "" else _number(text)
    if text != "" and not 0 <= value < math.inf:
        raise InputError(f"{row.where}: {name} cannot be {text!r}; expected a number that is not negative, or nothing")
    return value


def _number(text: str | None) -> float:
    """Return a number, NaN for any other text."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan
