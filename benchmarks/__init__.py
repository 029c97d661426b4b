"""Measuring converted files: devices, runtimes, latency tables and stored results."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import Device, DeviceState, Measurement, ModelFile
    from fbnet_zoo.benchmarks.profile import Profile

__all__ = [
    "Device",
    "DeviceState",
    "Measurement",
    "ModelFile",
    "Profile",
]

__getattr__, __dir__ = public_names(
    __name__,
    measure=(
        "Device",
        "DeviceState",
        "Measurement",
        "ModelFile",
    ),
    profile=("Profile",),
)
