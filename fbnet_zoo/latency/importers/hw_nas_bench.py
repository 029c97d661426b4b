"""Latency tables from the dictionaries of HW-NAS-Bench (Li et al., ICLR 2021) for its FBNet space.

The benchmark is distributed as a pickle, which can execute code when loaded, so this module reads JSON: the result of
the benchmark's `get_op_lookup_tables()`, written with `json.dump`, or one of its tables. Each key encodes an operator
and its shape, as in `ConvBlock_H32_W32_Cin16_Cout24_exp6_kernel3_stride1_group1`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import LatencyTable, build_table
from fbnet_zoo.plans import same_padding
from fbnet_zoo.reading import read_json

CREDIT = "HW-NAS-Bench: MIT, Copyright (c) 2022 GaTech-EIC"

_N = "[0-9]{1,9}"
_SHAPE = rf"H(?P<H>{_N})_W(?P<W>{_N})_Cin(?P<Cin>{_N})_Cout(?P<Cout>{_N})"
_KEYS = (
    rf"(?P<op>ConvNorm)_{_SHAPE}_kernel(?P<kernel>{_N})_stride(?P<stride>{_N})_group(?P<group>{_N})",
    rf"(?P<op>ConvBlock)_{_SHAPE}_exp(?P<exp>{_N})_kernel(?P<kernel>{_N})_stride(?P<stride>{_N})_group(?P<group>{_N})",
    rf"(?P<op>Skip)_{_SHAPE}_stride(?P<stride>{_N})",
    rf"(?P<op>AvgP)_{_SHAPE}_kernel(?P<kernel>{_N})_stride(?P<stride>{_N})",
    rf"(?P<op>FC)_Cin(?P<Cin>{_N})_Cout(?P<Cout>{_N})",
)
_NO_UNIT = "energy"


def read_hw_nas_bench(
    path: Path, *, name: str, metric: str | None = None, kind: Literal["measured", "estimate"] = "measured"
) -> LatencyTable:
    """Read a table of HW-NAS-Bench.

    Args:
        path: JSON file that maps keys to latencies, ms, or metrics to such tables.
        name: name of the result.
        metric: metric of the table to read, such as `pixel3_latency`; required if there are several.
        kind: kind of the figures (default: `measured`).

    Raises:
        InputError: the file cannot be read, has no such latency metric, or has an unknown key.
    """
    figures = _figures(path, metric)
    entries = [
        {"operator": _operator(path, key), "median_ms": _milliseconds(path, key, value)}
        for key, value in figures.items()
    ]
    return build_table(
        str(path),
        name=name,
        device=DeviceInfo(kind="published", id=(metric or name).removesuffix("_latency")),
        kind=kind,
        source=f"{path.name}, in the form of HW-NAS-Bench (Li et al., ICLR 2021).",
        credit=(CREDIT,),
        operators=tuple(entries),
    )


def _operator(path: Path, key: str) -> Operator:
    try:
        return operator_of_key(key)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def operator_of_key(key: str) -> Operator:
    """Return the operator that a key of HW-NAS-Bench encodes.

    Raises:
        InputError: the key is not valid.

    >>> str(operator_of_key("ConvBlock_H32_W32_Cin16_Cout24_exp6_kernel3_stride1_group1"))
    'ir k3 e6 16->24, 32 px, relu'
    """
    found = next((match for pattern in _KEYS if (match := re.fullmatch(pattern, key))), None)
    if found is None:
        raise InputError(f"{key!r} is not a key of HW-NAS-Bench's FBNet space, such as 'FC_Cin1504_Cout100'")
    numbers = {letter: int(value) for letter, value in found.groupdict().items() if letter != "op"}
    if numbers.get("H") != numbers.get("W"):
        raise InputError(f"{key!r} is not square; tables support only square images")
    try:
        return operator_of(found["op"], **numbers)
    except ValidationError as error:
        raise InputError(f"{key!r} is not a valid operator: {error.errors()[0]['msg']}") from error


def operator_of(kind: str, **numbers: int) -> Operator:
    """Return the operator of a kind, such as `ConvBlock`, and the numbers in a key of HW-NAS-Bench."""
    before, after, stride = numbers["Cin"], numbers["Cout"], numbers.get("stride", 1)
    shape: dict[str, Any] = {"input_size": numbers.get("H", 1), "in_channels": before, "out_channels": after}
    spread: dict[str, Any] = {
        "kernel_size": numbers.get("kernel", 1),
        "stride": stride,
        "groups": numbers.get("group", 1),
        "padding": same_padding(numbers.get("kernel", 1)),
    }
    same_shape = before == after and stride == 1
    if kind == "FC":
        return Operator(op="linear", **shape)
    if kind == "AvgP":
        return Operator(op="pool", **shape)
    if kind == "ConvBlock":
        middle = before * numbers["exp"]
        return Operator(op="ir", **shape, **spread, middle_channels=middle, act="relu", residual=same_shape)
    if kind == "Skip" and same_shape:
        return Operator(op="skip", **shape)
    return Operator(op="conv", **shape, **spread, act="relu")


def _figures(path: Path, metric: str | None) -> Mapping[str, Any]:
    content = read_json(path, "the benchmark's dictionary, written with json.dump")
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: expected a JSON object that maps keys of HW-NAS-Bench to latencies")
    limits.check("rows", len(content), f"{path} has")
    nested = isinstance(next(iter(content.values())), dict)
    if not nested and metric is None:
        return content
    if metric is None or _NO_UNIT in metric or metric not in content:
        latencies = [each for each in content if nested and _NO_UNIT not in each]
        hint = did_you_mean(metric or "", latencies) or f"; it has {', '.join(latencies) or 'only one table'}"
        raise InputError(f"{path}: no latency metric {metric!r}{hint}")
    if not isinstance(content[metric], dict):
        raise InputError(f"{path}: {metric}: expected a JSON object that maps keys of HW-NAS-Bench to latencies")
    return content[metric]


def _milliseconds(path: Path, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path}: {key}: expected milliseconds, got {value!r}")
    return float(value)
