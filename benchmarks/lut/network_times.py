"""Reading latencies of whole networks from a CSV file or from measurements of `fbnet-zoo bench`."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fbnet_zoo.benchmarks import store
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import CsvRow, read_csv


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTime:
    """Latency of one network, ms, with its name in the file."""

    network: str
    median_ms: float


def read_times(path: Path, *, key: str = "network", column: str = "median_ms") -> tuple[NetworkTime, ...]:
    """Read latencies, ms.

    Args:
        path: CSV file with a header, or store of measurements (`.jsonl`), whose medians are used.
        key: name of the CSV column of network names (default: `network`).
        column: name of the CSV column of latencies (default: `median_ms`).

    Raises:
        InputError: the file cannot be read, lacks a column or has a wrong value; the text gives file and line.
    """
    if path.suffix == ".jsonl":
        return tuple(NetworkTime(network=each.model, median_ms=median(each.samples_ms)) for each in store.read(path))
    header, rows = read_csv(path, "a CSV file of latencies")
    for name in (key, column):
        if name not in header:
            hint = did_you_mean(name, header) or f"; it has {', '.join(header) or 'nothing'}"
            raise InputError(f"{path}: no column {name!r}{hint}")
    return tuple(_time(row, key, column) for row in rows)


def _time(row: CsvRow, key: str, column: str) -> NetworkTime:
    network, text = row.cells[key], row.cells[column]
    if not network:
        raise InputError(f"{row.where}: {key} is {network!r}; expected a network")
    try:
        median_ms = float(text or "")
    except ValueError:
        median_ms = 0.0
    if not 0 < median_ms < float("inf"):
        raise InputError(f"{row.where}: {column} is {text!r}; expected a positive number of ms")
    return NetworkTime(network=network, median_ms=median_ms)
