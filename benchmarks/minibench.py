"""Measurements in the result format of ExecuTorch's Android benchmark app.

Source: `BenchmarkMetric` and `ModelRunner` of extension/benchmark/android in pytorch/executorch.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.stats import summarize

_LOADED = 0.0
_BYTES_PER_MB = 1 << 20


def minibench_rows(measurement: Measurement) -> list[dict[str, Any]]:
    """Return one row per metric, without `ram_pss_usage(mb)`, which is not measured here."""
    summary = summarize(measurement.samples_ms)
    metrics = {
        "avg_inference_latency(ms)": summary.mean,
        "trimmean_inference_latency(ms)": summary.trimmed_mean,
        "model_load_time(ms)": measurement.load_ms,
        "load_status": _LOADED,
    }
    model = {
        "name": measurement.model,
        "backend": measurement.backend or "",
        "quantization": measurement.precision,
    }
    return [
        {
            "benchmarkModel": model,
            "metric": metric,
            "actualValue": value,
            "targetValue": 0.0,
            "deviceInfo": _device(measurement),
        }
        for metric, value in metrics.items()
        if value is not None
    ]


def write_minibench(measurements: Iterable[Measurement], path: Path) -> None:
    """Write the rows of all measurements as one JSON list, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [row for measurement in measurements for row in minibench_rows(measurement)]
    write_atomically(path, json.dumps(rows, indent=2) + "\n")


def _device(measurement: Measurement) -> dict[str, Any]:
    device = measurement.device
    return {
        "device": device.manufacturer or "",
        "arch": device.model or "",
        "os": (device.system or "").partition(",")[0],
        "totalMem": int((device.memory_mb or 0) * _BYTES_PER_MB),
        "availMem": int((measurement.before.available_mb or 0) * _BYTES_PER_MB),
    }
