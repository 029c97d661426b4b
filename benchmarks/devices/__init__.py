"""Devices to measure on: this machine, Android devices, Macs, iPhones and Arm's Ethos-U."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.devices.android import AndroidDevice
    from fbnet_zoo.benchmarks.devices.discovery import open_device, open_devices, survey
    from fbnet_zoo.benchmarks.devices.energy import EnergyMeter
    from fbnet_zoo.benchmarks.devices.ethosu import EthosUDevice
    from fbnet_zoo.benchmarks.devices.host import HostDevice

__all__ = [
    "AndroidDevice",
    "EnergyMeter",
    "EthosUDevice",
    "HostDevice",
    "open_device",
    "open_devices",
    "survey",
]

__getattr__, __dir__ = public_names(
    __name__,
    android=("AndroidDevice",),
    discovery=(
        "open_device",
        "open_devices",
        "survey",
    ),
    energy=("EnergyMeter",),
    ethosu=("EthosUDevice",),
    host=("HostDevice",),
)
