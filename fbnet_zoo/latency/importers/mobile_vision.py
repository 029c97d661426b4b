"""Latency tables from the format of mobile-vision's lookup table: one JSON line per Caffe2 operator, in microseconds.

A line has `op_type`, `op_args` (strings such as `name: "kernel" i: 3`), `input_shapes` (of the tensor, the weights and
the bias), `input_dtypes`, `runtime_us_p0` to `runtime_us_p100` and `device`. Int8 operators are channels-last. This
module implements only the format; the figures belong to those who measured them.
"""

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import LatencyTable, build_table
from fbnet_zoo.reading import parse_json, read_lines

_EXPECTED = "an operator of mobile-vision on each line, as a JSON object"
_ARGUMENT = re.compile(r'name:\s*"(\w+)"\s+(?:[fis]|ints|floats):\s*"?([\w.+-]+)"?')
_FIGURES = {
    "median_ms": "runtime_us_p50",
    "minimum_ms": "runtime_us_p0",
    "p10_ms": "runtime_us_p10",
    "p90_ms": "runtime_us_p90",
}
_SHOWN = 200
"""Maximum number of characters of a line in an error."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OperatorLine:
    """A line of the file: an operator as text, and its figures, ms."""

    op: str
    channels_last: bool
    arguments: Mapping[str, str]
    shapes: Sequence[Sequence[int]]
    figures: Mapping[str, float]

    def argument(self, name: str, default: int) -> int:
        """Return an integer argument; for a pair, that of the height."""
        value = self.arguments.get(name) or self.arguments.get(f"{name}_h") or self.arguments.get(f"{name}s")
        return default if value is None else int(value)

    @property
    def size(self) -> int:
        """Side of the input, px."""
        shape = self.shapes[0]
        return 1 if len(shape) == 2 else shape[1] if self.channels_last else shape[2]

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.shapes[0][-1 if self.channels_last else 1]


def read_mobile_vision(
    path: Path, *, name: str, precision: Literal["fp32", "int8"] = "int8", device: str | None = None, source: str
) -> LatencyTable:
    """Read the operators of one device and precision at batch size 1 as a table of layers.

    Like mobile-vision's own query, this averages several lines of one operator, and uses the figure of a convolution
    with its activation also for the one without, if that is missing. Operators that do not occur in networks here
    (layout conversions, quantization of the input) are skipped; the log lists their counts.

    Args:
        path: file of JSON lines.
        name: name of the result.
        precision: `int8` for operators whose type starts with `Int8`, else `fp32` (default: `int8`).
        device: name of the device in the file; required if there are several.
        source: who measured the figures, and how.

    Raises:
        InputError: the file cannot be read, a line is invalid, or no operator is left.
    """
    records = list(_records(path))
    device = device or _only_device(path, records)
    chosen = [
        record
        for record in records
        if record["device"] == device and record["op_type"].startswith("Int8") == (precision == "int8")
    ]
    entries = _by_operator(path, chosen)
    if not entries:
        raise InputError(f"{path}: no operator for {device} in {precision} at batch size 1")
    return build_table(
        str(path),
        name=name,
        device=DeviceInfo(kind="published", id=device),
        runtime="caffe2",
        precision=precision,
        kind="measured",
        level="layer",
        source=source,
        operators=tuple(_latency(operator, lines) for operator, lines in _with_plain(entries).items()),
    )


def _by_operator(path: Path, records: Iterable[Mapping[str, Any]]) -> dict[Operator, list[_OperatorLine]]:
    entries: dict[Operator, list[_OperatorLine]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for record in records:
        try:
            line = _line(record)
            operator = _operator(line)
        except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a valid operator: {json.dumps(record)[:_SHOWN]}") from error
        if operator is None:
            left_out[record["op_type"]] += 1
        else:
            entries[operator].append(line)
    if left_out:
        log.info("%s: skipped %s", path, ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items())))
    return entries


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, text in read_lines(path, _EXPECTED):
        where = f"{path}:{number}"
        record = parse_json(text, where, _EXPECTED)
        record = parse_json(record, where, _EXPECTED) if isinstance(record, str) else record
        if not isinstance(record, dict):
            raise InputError(f"{where}: expected a JSON object on each line")
        if missing := sorted({"op_type", "op_args", "input_shapes", "device", "runtime_us_p50"} - record.keys()):
            raise InputError(f"{where}: missing key {missing[0]!r}")
        for key in ("op_type", "device"):
            if not isinstance(record[key], str):
                raise InputError(f"{where}: {key} is {record[key]!r}; expected text")
        yield record


def _only_device(path: Path, records: Sequence[Mapping[str, Any]]) -> str:
    devices = sorted({str(record["device"]) for record in records})
    if len(devices) != 1:
        raise InputError(f"{path}: choose a device; the file has {', '.join(devices) or 'none'}")
    return devices[0]


def _line(record: Mapping[str, Any]) -> _OperatorLine:
    arguments = dict(match for text in record["op_args"] for match in _ARGUMENT.findall(text))
    channels_last = arguments.get("order", "NHWC" if record["op_type"].startswith("Int8") else "NCHW") == "NHWC"
    return _OperatorLine(
        op=record["op_type"].removeprefix("Int8"),
        channels_last=channels_last,
        arguments=arguments,
        shapes=[shape for shape in record["input_shapes"] if shape],
        figures={field: float(record[key]) / 1000 for field, key in _FIGURES.items() if key in record},
    )


def _operator(line: _OperatorLine) -> Operator | None:
    """Return the operator of a line, or `None` if it does not occur in networks here."""
    reader = _READERS.get(line.op)
    shape = line.shapes[0] if line.shapes else ()
    square = len(shape) == 2 or (len(shape) == 4 and len(set(shape[1:3] if line.channels_last else shape[2:])) == 1)
    return reader(line) if reader and square and shape[0] == 1 else None


def _convolution(line: _OperatorLine) -> Operator | None:
    weights, stride = line.shapes[1], line.argument("stride", 1)
    if stride not in {1, 2}:
        return None
    return Operator(
        op="conv",
        input_size=line.size,
        in_channels=line.channels,
        out_channels=weights[0],
        kernel_size=weights[1 if line.channels_last else 2],
        stride=stride,
        padding=line.argument("pad", 0),
        dilation=line.argument("dilation", 1),
        groups=line.argument("group", 1),
        act="relu" if line.op.endswith("Relu") else None,
    )


def _fully_connected(line: _OperatorLine) -> Operator:
    weights = line.shapes[1]
    return Operator(op="linear", input_size=1, in_channels=weights[1], out_channels=weights[0])


def _pool(line: _OperatorLine) -> Operator | None:
    kernel_size = line.size if line.argument("global_pooling", 0) else line.argument("kernel", 1)
    return _same("pool", line) if kernel_size == line.size else None


def _same(op: Literal["pool", "add", "shuffle"], line: _OperatorLine) -> Operator:
    groups = line.argument("group", 1) if op == "shuffle" else 1
    channels = line.channels
    return Operator(op=op, input_size=line.size, in_channels=channels, out_channels=channels, groups=groups)


_READERS: dict[str, Callable[[_OperatorLine], Operator | None]] = {
    "Conv": _convolution,
    "ConvRelu": _convolution,
    "FC": _fully_connected,
    "AveragePool": _pool,
    "Add": lambda line: _same("add", line),
    "Sum": lambda line: _same("add", line),
    "ChannelShuffle": lambda line: _same("shuffle", line),
}


def _with_plain(entries: Mapping[Operator, list[_OperatorLine]]) -> dict[Operator, list[_OperatorLine]]:
    plain = {operator.model_copy(update={"act": None}): lines for operator, lines in entries.items()}
    return plain | dict(entries)


def _latency(operator: Operator, lines: Sequence[_OperatorLine]) -> dict[str, Any]:
    """Return the fields of an `OperatorLatency`, with the figures that all lines have."""
    fields = [field for field in _FIGURES if all(field in line.figures for line in lines)]
    return {"operator": operator} | {field: mean(line.figures[field] for line in lines) for field in fields}
