"""Measuring latency tables (LUTs) of search spaces, and whole networks to calibrate and evaluate them."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.lut.measuring import TableJob
    from fbnet_zoo.benchmarks.lut.operator_files import Writer
    from fbnet_zoo.benchmarks.lut.rounds import Rounds

__all__ = [
    "Rounds",
    "TableJob",
    "Writer",
]

__getattr__, __dir__ = public_names(
    __name__,
    measuring=("TableJob",),
    operator_files=("Writer",),
    rounds=("Rounds",),
)
