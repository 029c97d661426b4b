"""Networks with known latencies, and small tables."""

import csv
from datetime import UTC, datetime
from functools import cache
from typing import Any

from fbnet_zoo.cli.lut.networks import digits
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.operators import Operator, network_operators
from fbnet_zoo.latency.table import LatencyTable, OperatorLatency
from fbnet_zoo.space import load_space
from fbnet_zoo.spec import ArchSpec
from tests.helpers.paths import DATA

LATENCIES = DATA / "network_latencies.csv"
TWO_LAYERS = """\
name: two_layers
family: fbnet
summary: A space for tests.
input_size: 16
defaults: {op: ir, act: relu}
candidates:
  k3: {k: 3, e: 1}
  k5: {k: 5, e: 2}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {layers: 2, c: 8}
head: {op: conv, k: 1, c: 8}
"""
DEVICES = ("raspi4", "pixel3", "eyeriss", "fpga")


@cache
def published() -> tuple[tuple[tuple[Operator, ...], dict[str, float]], ...]:
    """Return the operators of the published networks and their latency, ms, by device."""
    with LATENCIES.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        (operators_of(row["choices"]), {name: float(row[name]) for name in row if name != "choices"}) for row in rows
    )


def network(choices: str) -> ArchSpec:
    space = load_space("fbnet_cifar")
    return space.decode(digits(space, choices))


def operators_of(choices: str) -> tuple[Operator, ...]:
    return network_operators(network(choices), num_classes=100)


def conv(out_channels: int = 16, **fields: Any) -> Operator:
    return Operator(op="conv", input_size=8, in_channels=8, out_channels=out_channels, act="relu", **fields)


def table(*medians: float, **fields: Any) -> LatencyTable:
    """Return a table of convolutions with 16, 32, 48, … channels."""
    entries = [OperatorLatency(operator=conv(16 * at), median_ms=each) for at, each in enumerate(medians, start=1)]
    usual: dict[str, Any] = {
        "name": "small",
        "device": DeviceInfo(kind="host", id="ours"),
        "runtime": "onnxruntime",
        "precision": "fp32",
        "threads": 1,
        "kind": "measured",
        "source": "A test.",
        "date": datetime(2026, 1, 1, tzinfo=UTC),
        "operators": tuple(entries),
    }
    return LatencyTable(**usual | fields)
