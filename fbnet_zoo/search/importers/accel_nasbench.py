"""Accuracies and latencies of Accel-NASBench (Ahmad et al., DAC 2024).

The published archive `anb_dataset_jsons.tar.gz` has a file `result_N.json` for each training. The same figures as CSV
have a column for each: `blockI_e`, `blockI_k`, `blockI_l` and `blockI_se` (expansion, kernel, number of blocks and
squeeze-excite of row I), `top1`, `params_m`, `macs_m_thop` (millions; MACs as counted by thop), `train_s`, and
`latency_DEVICE` (ms) and `throughput_DEVICE` (images per second) of any devices.
"""

import gzip
import io
import math
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import CsvRow, decode, parse_record, read_bytes, read_csv
from fbnet_zoo.search.importers.tables import PublishedNetwork
from fbnet_zoo.space import load_space
from fbnet_zoo.space.layers import words
from fbnet_zoo.spec import Percent, Record

SPACE = "accel_nasbench"

_EXPECTED = "anb_dataset_jsons.tar.gz of Accel-NASBench, the folder in it, or a CSV file of the same figures"
_RESULT = "a result of Accel-NASBench"
_FILE = re.compile(r"result_(\d{1,9})\.json")
_CHOICES = {"k": (3, 5), "e": (1, 4, 6), "se": (0, 1), "l": (1, 2, 3, 4)}
_ROWS = 7
_CHOSEN = {f"block{row}_{letter}": values for row in range(_ROWS) for letter, values in _CHOICES.items()}
_MILLIONS = {"params_m": "params", "macs_m_thop": "macs_thop"}
_GZIP, _TAR, _TAR_AT = b"\x1f\x8b", b"ustar", 257

Figures = Mapping[str, float | None]
"""The figures of a training by the names of the CSV columns; `None` where unknown."""


class _Metrics(Record):
    val_top1: Percent
    val_top5: Percent
    train_time: float


class _ModelInfo(Record):
    macs: float
    params: float


class _Result(Record):
    """A file `result_N.json`."""

    architecture: dict[str, bool | int]
    metrics: _Metrics
    model_info: _ModelInfo
    platform_perf: dict[str, dict[str, float | None]]


def read_accel_nasbench(path: Path) -> Iterator[PublishedNetwork]:
    """Yield the networks of the archive, of the folder in it, or of a CSV file.

    MACs are those that the authors counted with thop, which are higher than ours. Throughputs, of which more is better,
    become `ms_per_image_DEVICE`.

    Raises:
        InputError: the file cannot be read, or is none of these; the text gives file, place and key.
    """
    layers = [layer.name for layer in load_space(SPACE).layers]
    for where, figures in _figures(path):
        yield PublishedNetwork(
            where=where,
            options=dict(_options(where, figures, layers)),
            top1=_known(where, figures, "top1"),
            costs=dict(_costs(where, figures)),
        )


def _options(where: str, figures: Figures, layers: list[str]) -> Iterator[tuple[str, str]]:
    chosen = {name: _known(where, figures, name) for name in _CHOSEN}
    for name, value in chosen.items():
        if value not in _CHOSEN[name]:
            raise InputError(f"{where}: {name} cannot be {value:g}; expected {words(_CHOSEN[name])}")
    for row, layer in enumerate(layers):
        kernel, expansion, squeeze, depth = (chosen[f"block{row}_{letter}"] for letter in _CHOICES)
        yield layer, f"k{kernel:g}"
        yield f"{layer} e", f"{expansion:g}"
        yield f"{layer} se", "0.25" if squeeze else "0"
        yield f"{layer} r", f"{depth:g}"


def _costs(where: str, figures: Figures) -> Iterator[tuple[str, float | None]]:
    for name, value in figures.items():
        kind, _, device = name.partition("_")
        if name in _MILLIONS:
            yield _MILLIONS[name], None if value is None else float(np.rint(value * 1e6))
        elif kind == "throughput" and device:
            if value is not None and value <= 0:
                raise InputError(f"{where}: {name} cannot be {value:g}; expected images per second, or nothing")
            yield f"ms_per_image_{device}", None if value is None else 1000 / value
        elif name not in {*_CHOSEN, "top1"}:
            yield name, value


def _known(where: str, figures: Figures, name: str) -> float:
    value = figures.get(name)
    if value is None:
        raise InputError(f"{where}: {name} is missing; add it, or remove the network")
    return value


def _figures(path: Path) -> Iterator[tuple[str, Figures]]:
    if path.is_dir():
        yield from _results(path, ((file.name, read_bytes(file, _RESULT)) for file in path.rglob("*.json")))
        return
    content = read_bytes(path, _EXPECTED)
    if content.startswith(_GZIP) or content[_TAR_AT:].startswith(_TAR):
        yield from _results(path, _members(path, content))
    else:
        yield from _rows(path)


def _results(path: Path, files: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, Figures]]:
    """Yield the figures in those of some files that are results, in the order of their numbers."""
    found = {int(match[1]): (name, content) for name, content in files if (match := _FILE.fullmatch(name))}
    if not found:
        raise InputError(f"{path} has no file result_N.json; expected {_EXPECTED}")
    for _, (name, content) in sorted(found.items()):
        where = f"{path}: {name}"
        result = parse_record(_Result, decode(content, where, _RESULT), where, _RESULT)
        yield where, _of_result(where, result)


def _members(path: Path, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name, without its folder, and content of the files in an archive; nothing is written to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(path, content)), mode="r:") as archive:
            total = 0
            for member in limits.checked(archive, "rows", f"{path} has at least"):
                if member.isdir():
                    continue
                total += member.size
                limits.check("file_bytes", total, f"the files in {path} have at least")
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise InputError(f"{path}: {member.name!r} is not a plain file; expected {_EXPECTED}")
                yield member.name.rpartition("/")[2], file.read()
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path) from error


def _unpacked(path: Path, content: bytes) -> bytes:
    """Return an archive without its compression, if it has any, up to the limit of files."""
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.open(io.BytesIO(content)) as file:
            found = file.read(limits.limit("file_bytes") + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path) from error
    limits.check("file_bytes", len(found), f"{path}, unpacked, has at least")
    return found


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged and cannot be unpacked; expected {_EXPECTED}")


def _of_result(where: str, result: _Result) -> Figures:
    foreign = [name for name in result.architecture if name not in _CHOSEN]
    if foreign:
        raise InputError(f"{where}: architecture: unknown key {foreign[0]!r}; expected block0_e to block6_se")
    measured = {}
    for name, values in result.platform_perf.items():
        kind = name.partition("_")[0]
        if kind not in {"latency", "throughput"} or f"{kind}_mean" not in values:
            raise InputError(f"{where}: platform_perf.{name}: expected a latency or throughput with its mean")
        measured[name] = values[f"{kind}_mean"]
    return {
        **result.architecture,
        "top1": result.metrics.val_top1,
        "params_m": result.model_info.params,
        "macs_m_thop": result.model_info.macs,
        "train_s": result.metrics.train_time,
        **measured,
    }


def _rows(path: Path) -> Iterator[tuple[str, Figures]]:
    header, rows = read_csv(path, _EXPECTED)
    for name in (*_CHOSEN, "top1"):
        if name not in header:
            hint = did_you_mean(name, header) or f"; expected {_EXPECTED}"
            raise InputError(f"{path}:1: missing column {name!r}{hint}")
    names = [name for name in header if name not in {"id", "top5"}]
    for name in names:
        if re.fullmatch(r"block\d+_\w+", name) and name not in _CHOSEN:
            raise InputError(f"{path}:1: unknown column {name!r}; expected block0_e to block6_se")
    for row in rows:
        yield row.where, {name: _number(row, name) for name in names}


def _number(row: CsvRow, name: str) -> float | None:
    text = row.cells[name]
    try:
        value = float(text or "0")
    except ValueError:
        value = math.nan
    if text is None or not math.isfinite(value):
        raise InputError(f"{row.where}: {name} cannot be {text!r}; expected a number, or nothing where it is unknown")
    return value if text else None
