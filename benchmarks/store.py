"""An append-only file of measurements, one JSON line each."""

import logging
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from fbnet_zoo import limits
from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.errors import InputError
from fbnet_zoo.reading import decode, is_json, parse_record, read_bytes

_EXPECTED = "measurements, one JSON object per line"

log = logging.getLogger(__name__)


def append(path: Path, measurement: Measurement) -> None:
    """Append a line in a single write, so that several threads and processes may share the file.

    A partial line left by a full disk or a power cut is terminated first; `read` skips it.

    Raises:
        InputError: the file cannot be written.
    """
    line = measurement.model_dump_json().encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            if _is_unfinished(file):
                line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError("only part of the line was written")
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path}: cannot append the measurement: {error}") from error


def _is_unfinished(file: FileIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def read(path: Path) -> tuple[Measurement, ...]:
    """Return all measurements in a file, oldest first.

    Raises:
        InputError: the file cannot be read, or a line is JSON but not a measurement of this version.
    """
    return tuple(_measurements(path, read_bytes(path, _EXPECTED).split(b"\n")))


def _measurements(path: Path, lines: list[bytes]) -> Iterator[Measurement]:
    for number, content in enumerate(limits.checked(lines, "rows", f"{path} has at least"), start=1):
        if not content.strip():
            continue
        line = _whole(content)
        if line is None:
            log.warning("%s:%d: skipped a partial line", path, number)
        else:
            yield parse_record(Measurement, line, f"{path}:{number}: not a measurement", _EXPECTED)


def _whole(content: bytes) -> str | None:
    """Return a line, or `None` if it was cut off, perhaps inside a character."""
    try:
        line = decode(content, "a line", _EXPECTED)
    except InputError:
        return None
    return line if is_json(line) else None
