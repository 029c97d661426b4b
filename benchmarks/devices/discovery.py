"""Opening devices by name, and listing those that are connected."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.devices.apple import IPhoneDevice, MacDevice
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.devices.host_process import RUNTIMES
from fbnet_zoo.benchmarks.measure import Device
from fbnet_zoo.errors import DeviceError, FbnetZooError, InputError, UnknownNameError, did_you_mean
from fbnet_zoo.latency.device import DeviceInfo

NAMES = ("host", "android", "ios", "mac")
ALL = "all"


def open_device(name: str, *, runner: Path | None = None) -> Device:
    """Return a device by name.

    Args:
        name: `host` (this machine), `android` (the connected device), `android:SERIAL` (one of several), `ios` (the
            connected iPhone) or `mac` (Core ML on this Mac); the last two also with compute units, as in
            `mac:cpu_and_ne`.
        runner: for Android, ExecuTorch's `executor_runner` (default: `FBNET_ZOO_RUNNER`).

    Raises:
        UnknownNameError: there is no such kind of device.
        DeviceUnavailableError: the device is not connected, not ready, or requires another system.
        InputError: the runner is missing, or the device uses none.
    """
    kind, _, which = name.partition(":")
    if kind not in NAMES or (kind == "host" and which):
        hint = did_you_mean(kind, NAMES) or f"; expected {', '.join(NAMES)}"
        raise UnknownNameError(f"there is no device {name!r}{hint}")
    if runner is not None and kind != "android":
        raise InputError(f"the device {kind} needs no runner; leave it out")
    if kind == "android":
        return AndroidDevice.find(which or None, runner=runner)
    return HostDevice() if kind == "host" else _apple(kind, which or "all")


def open_devices(name: str, *, runner: Path | None = None) -> dict[str, Device]:
    """Return devices by name, for `fleet.measure_all`.

    Args:
        name: name of a device (see `open_device`), or `android:all` for all connected Android devices.
        runner: for Android, ExecuTorch's `executor_runner` (default: `FBNET_ZOO_RUNNER`).

    Raises:
        UnknownNameError: there is no such kind of device.
        DeviceUnavailableError: the device is not connected, not ready, or requires another system.
        InputError: the runner is missing, or the device uses none.
    """
    if name != f"android:{ALL}":
        return {name: open_device(name, runner=runner)}
    server = Server()
    serials = sorted(server.states()) or [server.pick()]  # which raises if there is none
    return {f"android:{serial}": AndroidDevice(Link(server, serial), runner=runner) for serial in serials}


def _apple(kind: str, compute_units: str) -> Device:
    find = MacDevice.find if kind == "mac" else IPhoneDevice.find
    return find(compute_units=compute_units)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDevice:
    """A device, or a kind of device that was not found.

    Attributes:
        name: name for `open_device`.
        usable: whether it can be measured on.
        about: description of the device; if it is not usable, the reason.
    """

    name: str
    usable: bool
    about: str


def survey(*, runner: Path | None = None) -> Iterator[FoundDevice]:
    """Yield devices of every kind.

    Args:
        runner: for Android, ExecuTorch's `executor_runner` (default: `FBNET_ZOO_RUNNER`).
    """
    missing = [target for target, runtime in RUNTIMES.items() if find_spec(runtime) is None]
    cure = "".join(f"; for {target} files: pip install 'fbnet-zoo[{target}]'" for target in missing)
    runs = ", ".join(target for target in RUNTIMES if target not in missing)
    yield FoundDevice(name="host", usable=True, about=f"{describe(HostDevice().info())}; runs {runs}{cure}")
    yield from (_finding(name, runner) for name in _android_names())
    yield from (_finding(name, None) for name in ("ios", "mac"))


def _android_names() -> list[str]:
    try:
        return [f"android:{serial}" for serial in sorted(Server().states())] or ["android"]
    except DeviceError:  # opening it reports the cause
        return ["android"]


def _finding(name: str, runner: Path | None) -> FoundDevice:
    try:
        return FoundDevice(name=name, usable=True, about=describe(open_device(name, runner=runner).info()))
    except FbnetZooError as error:
        return FoundDevice(name=name, usable=False, about=str(error))


def describe(info: DeviceInfo) -> str:
    """Return a one-line description of a device.

    >>> describe(DeviceInfo(kind="android", id="0a1b", manufacturer="Sandbox", model="Phone 9", system="Android 14"))
    'Sandbox Phone 9, Android 14'
    """
    name = " ".join(part for part in (info.manufacturer, info.model) if part)
    cores = f"{info.cores} cores" if info.cores else None
    return ", ".join(part for part in (name, info.soc, cores, info.system) if part) or info.kind
