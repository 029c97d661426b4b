"""Measurements made up for the tests of what is done with them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState, Measurement
from fbnet_zoo.latency.device import DeviceInfo

STATE = DeviceState(
    battery_percent=80,
    battery_celsius=31.5,
    charging=True,
    thermal_status=0,
    celsius={"skin": 33.1},
    available_mb=2048.0,
    policies=(CpuPolicy(name="policy0", cores=(0, 1), governor="walt", limit_khz=10, time_in_state={5: 7, 10: 1}),),
)
PHONE = DeviceInfo(
    kind="android",
    id="0a1b2c3d",
    manufacturer="Sandbox",
    model="Phone 9",
    system="Android 14, API 34",
    memory_mb=4096.0,
)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def measurement(samples_ms: Sequence[float] = (10.0, 10.5, 11.0), *, minute: float = 0, **changes: Any) -> Measurement:
    """Return a measurement that ended `minute` minutes after the first."""
    fields: dict[str, Any] = {
        "model": "fbnet_c",
        "file": "fbnet_c.pte",
        "sha256": "0" * 64,
        "size": 1000,
        "target": "executorch",
        "backend": "xnnpack",
        "precision": "fp32",
        "runtime": "executor_runner",
        "device": PHONE,
        "threads": 1,
        "warmup": 3,
        "load_ms": 85.5,
        "before": STATE,
        "after": STATE,
        "throttled": False,
        "versions": {"fbnet_zoo": "0.1.0"},
        "date": START + timedelta(minutes=minute),
    }
    return Measurement(samples_ms=tuple(samples_ms), **{**fields, **changes})
