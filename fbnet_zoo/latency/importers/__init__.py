"""Importers of latency tables that others published."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.latency.importers.hw_nas_bench import read_hw_nas_bench
    from fbnet_zoo.latency.importers.mobile_vision import read_mobile_vision

__all__ = [
    "read_hw_nas_bench",
    "read_mobile_vision",
]

__getattr__, __dir__ = public_names(
    __name__,
    hw_nas_bench=("read_hw_nas_bench",),
    mobile_vision=("read_mobile_vision",),
)
