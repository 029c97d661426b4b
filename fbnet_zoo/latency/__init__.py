"""Latency tables and predictors of devices: operators, sums, calibration, files and importers."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.latency.calibration import calibrate
    from fbnet_zoo.latency.checks import table_warnings
    from fbnet_zoo.latency.device import DeviceInfo
    from fbnet_zoo.latency.files import find_table, list_tables, load_table, save_table
    from fbnet_zoo.latency.merging import diff_tables, merge_tables
    from fbnet_zoo.latency.operators import Operator, network_operators
    from fbnet_zoo.latency.predictor import Predictor, evaluate, fit_predictor
    from fbnet_zoo.latency.table import Calibration, LatencyTable, OperatorLatency, network_ms

__all__ = [
    "Calibration",
    "DeviceInfo",
    "LatencyTable",
    "Operator",
    "OperatorLatency",
    "Predictor",
    "calibrate",
    "diff_tables",
    "evaluate",
    "find_table",
    "fit_predictor",
    "list_tables",
    "load_table",
    "merge_tables",
    "network_ms",
    "network_operators",
    "save_table",
    "table_warnings",
]

__getattr__, __dir__ = public_names(
    __name__,
    calibration=("calibrate",),
    checks=("table_warnings",),
    device=("DeviceInfo",),
    files=(
        "find_table",
        "list_tables",
        "load_table",
        "save_table",
    ),
    merging=(
        "diff_tables",
        "merge_tables",
    ),
    operators=(
        "Operator",
        "network_operators",
    ),
    predictor=(
        "Predictor",
        "evaluate",
        "fit_predictor",
    ),
    table=(
        "Calibration",
        "LatencyTable",
        "OperatorLatency",
        "network_ms",
    ),
)
