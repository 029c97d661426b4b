"""Reading latencies or energies of whole networks from a CSV file or from measurements of `fbnet-zoo bench`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import CsvRow, read_csv


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What is read of every network.

    Attributes:
        name: name of the quantity.
        plural: name of several values.
        unit: unit of the values.
        column: name of the CSV column, unless another is given.
        of: its value in a measurement; `None` if it was not measured.
        way_out: how to measure it.
    """

    name: str
    plural: str
    unit: str
    column: str
    of: Callable[[Measurement], float | None]
    way_out: str


def _median_ms(measurement: Measurement) -> float:
    return median(measurement.samples_ms)


def _energy_mj(measurement: Measurement) -> float | None:
    return measurement.energy.mj if measurement.energy else None


LATENCY = Quantity(
    name="latency", plural="latencies", unit="ms", column="median_ms", of=_median_ms, way_out="fbnet-zoo bench run"
)
ENERGY = Quantity(
    name="energy",
    plural="energies",
    unit="mJ",
    column="energy_mj",
    of=_energy_mj,
    way_out="fbnet-zoo bench run --energy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFigure:
    """Latency or energy of one network, with its name in the file."""

    network: str
    value: float


def read_figures(
    path: Path, quantity: Quantity = LATENCY, *, key: str = "network", column: str | None = None
) -> tuple[NetworkFigure, ...]:
    """Read a quantity of networks, in its unit.

    Args:
        path: CSV file with a header, or store of measurements (`.jsonl`).
        quantity: what is read (default: latencies, of which a store has medians).
        key: name of the CSV column of network names (default: `network`).
        column: name of the CSV column of the quantity (default: the quantity's).

    Raises:
        InputError: the file cannot be read, lacks a column or has a wrong value; the text gives file and line.
    """
    if path.suffix == ".jsonl":
        return tuple(_measured(path, each, quantity) for each in store.read(path))
    header, rows = read_csv(path, f"a CSV file of {quantity.plural}")
    column = column or quantity.column
    for name in (key, column):
        if name not in header:
            hint = did_you_mean(name, header) or f"; it has {', '.join(header) or 'nothing'}"
            raise InputError(f"{path}: no column {name!r}{hint}")
    return tuple(_figure(row, quantity, key, column) for row in rows)


def _measured(path: Path, measurement: Measurement, quantity: Quantity) -> NetworkFigure:
    value = quantity.of(measurement)
    if value is None:
        raise InputError(
            f"{path}: the measurement of {measurement.model} has no {quantity.name}; measure it with {quantity.way_out}"
        )
    return NetworkFigure(network=measurement.model, value=value)


def _figure(row: CsvRow, quantity: Quantity, key: str, column: str) -> NetworkFigure:
    network, text = row.cells[key], row.cells[column]
    if not network:
        raise InputError(f"{row.where}: {key} is {network!r}; expected a network")
    try:
        value = float(text or "")
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{row.where}: {column} is {text!r}; expected a positive number of {quantity.unit}")
    return NetworkFigure(network=network, value=value)
