"""Reading files from outside: text, JSON, records and CSV, each error one sentence with the file and the place in it.

All text is UTF-8, with or without a byte-order mark.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import from_json

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError

RecordT = TypeVar("RecordT", bound=BaseModel)
Location = tuple[str | int, ...]

_REASONS = {"model_type": "expected a JSON object", "dataclass_type": "expected a JSON object"}
"""Reasons for the error types whose own are about Python."""

_MAYBE_INFINITE = re.compile(r"NaN|Infinity|[eE]\+?\d{3}|\d{300}")
"""Every JSON text with a number that is not finite matches; parsers read 1e999 as infinity."""


def _inside(path: str) -> str:
    """Refuse a path that leads out of its folder, on any system."""
    parts = re.split(r"[/\\]", path)
    if "\0" in path or re.match(r"[A-Za-z]:[/\\]", path) or {"", ".", ".."} & set(parts):
        raise InputError(f"{path!r} is not a path inside the folder; expected one such as onnx/model.onnx")
    return path


def _file_name(name: str) -> str:
    if "/" in _inside(name):
        raise InputError(f"{name!r} has a folder; expected the name of a file alone")
    return name


InnerPath = Annotated[str, AfterValidator(_inside)]
"""POSIX path relative to a folder that it cannot leave: no `..`, not absolute."""

FileName = Annotated[str, AfterValidator(_file_name)]
"""Name of a file, without a folder."""


def read_bytes(path: Path, expected: str) -> bytes:
    """Return the content of a file.

    Args:
        path: path of the file.
        expected: description of a right file, for errors.

    Raises:
        InputError: the file cannot be read, or is larger than the limit `file_bytes`.
    """
    try:
        return limits.read_bytes(path)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise InputError(f"{path}: cannot be read: {_reason(error)}; expected {expected}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def decode(content: bytes, origin: str, expected: str) -> str:
    r"""Return UTF-8 text without its byte-order mark.

    Args:
        content: bytes of the text.
        origin: name of the file in errors.
        expected: description of a right file, for errors.

    Raises:
        InputError: the bytes are not UTF-8; the text starts with `origin` and the line.

    >>> decode(b"\xef\xbb\xbfzero", "labels.txt", "labels")
    'zero'
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{origin}:{line}: not UTF-8 text; expected {expected}") from error


def read_text(path: Path, expected: str) -> str:
    """Return the text in a file; arguments and errors are those of `read_bytes` and `decode`."""
    return decode(read_bytes(path, expected), str(path), expected)


def parse_json(text: str, origin: str, expected: str) -> Any:
    """Return the value in a JSON text, in which all numbers are finite.

    Args:
        text: the text.
        origin: name of the file in errors.
        expected: description of a right file, for errors.

    Raises:
        InputError: the text is not JSON, or a number is not finite; the text starts with `origin`.

    >>> parse_json('{"size": [224, NaN]}', "net.json", "a network")
    Traceback (most recent call last):
    ...
    fbnet_zoo.errors.InputError: net.json: size.1: cannot be nan; expected a finite number
    """
    try:
        value = from_json(text)
    except ValueError as error:
        raise InputError(f"{origin}: not JSON ({error}); expected {expected}") from error
    if _MAYBE_INFINITE.search(text):
        for location, number in _not_finite(value, ()):
            raise InputError(f"{_at(origin, location)}: cannot be {number}; expected a finite number")
    return value


def _not_finite(value: Any, location: Location) -> Iterator[tuple[Location, float]]:
    """Yield the place and value of every number that is not finite; parsers limit the depth of the recursion."""
    if isinstance(value, float) and not math.isfinite(value):
        yield location, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _not_finite(part, (*location, key))


def _at(origin: str, location: Sequence[str | int]) -> str:
    return ": ".join([origin, *filter(None, [".".join(map(str, location))])])


def read_json(path: Path, expected: str) -> Any:
    """Return the value in a JSON file; arguments and errors are those of `read_text` and `parse_json`."""
    return parse_json(read_text(path, expected), str(path), expected)


def parse_record(record: type[RecordT], text: str, origin: str, expected: str) -> RecordT:
    """Return the record in a JSON text.

    Args:
        record: class of the record.
        text: the text.
        origin: name of the file in errors.
        expected: description of a right file, for errors.

    Raises:
        InputError: the text is not JSON or not a record of this class; the text starts with `origin` and the key.
    """
    parse_json(text, origin, expected)
    try:
        return record.model_validate_json(text)
    except ValidationError as error:
        raise record_error(origin, error, expected) from error


def read_record(record: type[RecordT], path: Path, expected: str) -> RecordT:
    """Return the record in a JSON file; arguments and errors are those of `read_text` and `parse_record`."""
    return parse_record(record, read_text(path, expected), str(path), expected)


def record_error(origin: str, error: ValidationError, expected: str = "") -> InputError:
    """Return the error of a record as one sentence: origin, key and reason; if it is not our own, what was expected."""
    first: Mapping[str, Any] = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    inner = cause.location if isinstance(cause, InputError) else ()
    reason = str(cause) if cause else _REASONS.get(first["type"], first["msg"])
    reason += f"; expected {expected}" if expected and not cause else ""
    return InputError(f"{_at(origin, (*first['loc'], *inner))}: {reason}")


def is_json(text: str) -> bool:
    """Return whether a text is JSON, with numbers of any size.

    >>> is_json("{}"), is_json("{")
    (True, False)
    """
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def read_lines(path: Path, expected: str) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of every line of a file that is not blank.

    Raises:
        InputError: as `read_text`, or there are more lines than the limit `rows`.
    """
    lines = read_text(path, expected).split("\n")
    for number, line in enumerate(limits.checked(lines, "rows", f"{path} has at least"), start=1):
        if line.strip():
            yield number, line


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRow:
    """A row of a CSV file.

    Attributes:
        where: file and line, for errors.
        cells: column name to text; `None` where the row ends before the column.
    """

    where: str
    cells: Mapping[str, str | None]


def read_csv(path: Path, expected: str) -> tuple[list[str], list[CsvRow]]:
    """Return the header and the rows of a CSV file; no row has more cells than there are columns.

    Raises:
        InputError: the file cannot be read, or is not such a file; the text gives file and line.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, expected), newline=""))
    try:
        header = list(reader.fieldnames or ())
        if twice := [name for name in header if header.count(name) > 1]:
            raise InputError(f"{path}:1: duplicate column {twice[0]!r}; keep one")
        limited = limits.checked(reader, "rows", f"{path} has at least")
        rows = [_row(f"{path}:{reader.line_num}", cells, len(header)) for cells in limited]
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}; expected {expected}") from error
    return header, rows


def _row(where: str, cells: Mapping[str | None, Any], columns: int) -> CsvRow:
    if None in cells:
        raise InputError(f"{where}: more cells than the {columns} columns of line 1; keep one for each")
    return CsvRow(where=where, cells={str(name): text for name, text in cells.items()})
