"""Reading latencies of whole networks from a CSV file or from measurements of `fbnet-zoo bench`."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fbnet_zoo import limits
from fbnet_zoo.benchmarks import store
from fbnet_zoo.errors import InputError, did_you_mean


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
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_rows(path, csv.DictReader(file), key, column))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a CSV file; expected UTF-8 text") from error


def _rows(path: Path, rows: "csv.DictReader[str]", key: str, column: str) -> Iterator[NetworkTime]:
    known = list(rows.fieldnames or ())
    for name in (key, column):
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'nothing'}"
            raise InputError(f"{path}: no column {name!r}{hint}")
    for row in limits.checked(rows, "rows", f"{path} has at least"):
        try:
            median_ms = float(row[column])
        except (TypeError, ValueError):
            median_ms = 0.0
        if not 0 < median_ms < float("inf"):
            raise InputError(f"{path}:{rows.line_num}: {column} is {row[column]!r}; expected a positive number of ms")
        yield NetworkTime(network=row[key], median_ms=median_ms)
