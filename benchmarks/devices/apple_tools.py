"""Description and state of a Mac and its phones, from the programs of macOS and Xcode."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from fbnet_zoo.benchmarks.devices.command import Output, Run
from fbnet_zoo.benchmarks.devices.linux import decimal, whole
from fbnet_zoo.benchmarks.measure import DeviceState
from fbnet_zoo.errors import DeviceTimeoutError, DeviceUnavailableError, InputError
from fbnet_zoo.folders import temporary
from fbnet_zoo.latency.device import DeviceInfo, device_id
from fbnet_zoo.reading import read_json, record_error

_MAC = "Core ML and iPhones require a Mac"
_XCODE = (
    "iPhones require Xcode itself, not only its command line tools: install it from the App Store, start it once, then "
    "run sudo xcode-select -s /Applications/Xcode.app"
)
_SYSCTL = ("hw.model", "machdep.cpu.brand_string", "hw.ncpu", "hw.memsize", "hw.optional.arm64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """An iPhone known to this Mac.

    Attributes:
        udid: UDID for `devicectl`; never stored in a record.
        name: name given by its owner.
        info: description for records.
        connected: whether it is connected by cable or network.
        paired: whether it trusts this Mac.
        developer_mode: whether Developer Mode is on.
    """

    udid: str
    name: str
    info: DeviceInfo
    connected: bool
    paired: bool
    developer_mode: bool


class Tools:
    """The programs of macOS and Xcode.

    Args:
        run: function that runs command lines.
        timeout_s: time limit of each command, seconds (default: 60).
    """

    def __init__(self, run: Run, *, timeout_s: float = 60) -> None:
        self._run, self._timeout_s = run, timeout_s

    def mac(self) -> DeviceInfo:
        """Return the description of this Mac.

        Raises:
            DeviceUnavailableError: this machine is not a Mac.
        """
        system = dict(re.findall(r"^(\w+):\s*(.+?)\s*$", self._text(_MAC, "sw_vers"), re.MULTILINE))
        if "ProductVersion" not in system:
            raise DeviceUnavailableError(f"{_MAC}: sw_vers reports no version")
        values = dict(re.findall(r"^([\w.]+): (.+)$", self._call("sysctl", *_SYSCTL).text, re.MULTILINE))
        identity = re.search(
            r'"IOPlatformUUID" = "(.+)"', self._call("ioreg", "-rd1", "-c", "IOPlatformExpertDevice").text
        )
        memory = whole(values.get("hw.memsize"))
        return DeviceInfo(
            kind="mac",
            id=device_id(identity[1] if identity else values.get("hw.model", "")),
            manufacturer="Apple",
            model=values.get("hw.model"),
            soc=values.get("machdep.cpu.brand_string"),
            system=f"macOS {system['ProductVersion']} ({system.get('BuildVersion', 'build unknown')})",
            abis=("arm64",) if values.get("hw.optional.arm64") == "1" else ("x86_64",),
            cores=whole(values.get("hw.ncpu")),
            memory_mb=None if memory is None else memory / 2**20,
        )

    def mac_state(self) -> DeviceState:
        """Return the current state of this Mac."""
        battery = self._call("pmset", "-g", "batt").text
        percent = re.search(r"\t(\d+)%;", battery)
        load = re.search(r"\{ (\S+)", self._call("sysctl", "-n", "vm.loadavg").text)
        return DeviceState(
            battery_percent=whole(percent[1]) if percent else None,
            charging="AC Power" in battery if percent else None,
            thermal_status=parse_thermal(self._call("pmset", "-g", "therm").text),
            load_average=decimal(load[1]) if load else None,
        )

    def xcode(self) -> str:
        """Return the version of Xcode.

        Raises:
            DeviceUnavailableError: Xcode is not installed, or this machine is not a Mac.
        """
        self._text(_MAC, "sw_vers")
        found = re.search(r"^Xcode (\S+)", self._text(_XCODE, "xcodebuild", "-version"), re.MULTILINE)
        if found is None:
            raise DeviceUnavailableError(f"{_XCODE} (xcodebuild reports no version)")
        return found[1]

    def require_devicectl(self) -> None:
        """Check that `devicectl` is on the PATH, where coremltools looks for it.

        Raises:
            DeviceUnavailableError: `devicectl` is not on the PATH.
        """
        if shutil.which("devicectl"):
            return
        found = self._text("iPhones require Xcode 15 or newer", "xcrun", "--find", "devicectl").strip()
        raise DeviceUnavailableError(
            f'coremltools looks for devicectl on the PATH: run export PATH="$PATH:{Path(found).parent}"'
        )

    def iphones(self) -> tuple[Phone, ...]:
        """Return every iPhone known to this Mac, connected or not.

        Raises:
            DeviceUnavailableError: `devicectl` failed.
        """
        listed = self._devicectl("list", "devices").get("devices", ())
        try:
            devices = TypeAdapter(tuple[_Listed, ...]).validate_python(listed)
        except ValidationError as error:
            raise DeviceUnavailableError(f"devicectl list devices: {record_error('its output', error)}") from error
        return tuple(_phone(each) for each in devices if _is_iphone(each.hardware))

    def is_locked(self, udid: str) -> bool:
        """Return whether a phone requires its passcode; the query also opens the connection.

        Raises:
            DeviceUnavailableError: the phone does not respond.
        """
        return bool(self._devicectl("device", "info", "lockState", "--device", udid).get("passcodeRequired"))

    def uninstall(self, udid: str, app: str) -> None:
        """Remove an app from a phone.

        Raises:
            DeviceUnavailableError: the phone does not respond, or refuses.
        """
        self._devicectl("device", "uninstall", "app", "--device", udid, app)

    def _devicectl(self, *arguments: str) -> dict[str, Any]:
        """Run a `devicectl` command and return its JSON result, which it writes to a file."""
        with temporary() as folder:
            path = folder / "out.json"
            self._text("devicectl failed", "xcrun", "devicectl", *arguments, "--json-output", str(path))
            what = " ".join(arguments[:3])
            try:
                result = read_json(path, "JSON")["result"]
            except (InputError, KeyError, TypeError) as error:
                raise DeviceUnavailableError(f"devicectl {what}: cannot read its output ({error})") from error
        if not isinstance(result, dict):
            raise DeviceUnavailableError(f"devicectl {what}: cannot read its output (result is no object)")
        return result

    def _text(self, need: str, *command: str) -> str:
        """Return the output of a program.

        Raises:
            DeviceUnavailableError: the program is missing or failed; the text starts with `need`.
        """
        try:
            output = self._call(*command)
        except FileNotFoundError as error:
            raise DeviceUnavailableError(f"{need} ({command[0]} is missing)") from error
        if output.exit_code:
            last = output.text.splitlines()[-1:] or [f"exit code {output.exit_code}"]
            raise DeviceUnavailableError(f"{need} ({command[0]}: {last[0]})")
        return output.stdout.decode(errors="replace")

    def _call(self, *command: str) -> Output:
        try:
            return self._run(command, self._timeout_s)
        except TimeoutError as error:
            raise DeviceTimeoutError(f"{' '.join(command[:4])} did not finish within {self._timeout_s:g} s") from error


def parse_thermal(text: str) -> int | None:
    r"""Return the thermal status in the output of `pmset -g therm`: 0 at full speed, 1 if throttled, `None` if unknown.

    >>> parse_thermal("Note: No thermal warning level has been recorded")
    0
    >>> parse_thermal("CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 62")
    1
    """
    limits = [int(value) for value in re.findall(r"CPU_(?:Speed|Scheduler)_Limit\s*=\s*([0-9]{1,9})\b", text)]
    levels = [int(value) for value in re.findall(r"Warning Level\s*=\s*([0-9]{1,9})\b", text)]
    full = 100
    if any(limit < full for limit in limits) or any(levels):
        return 1
    return 0 if limits or levels or "No thermal warning level" in text else None


class _Cpu(BaseModel):
    name: str | None = None


class _Hardware(BaseModel):
    udid: str = ""
    kind: str = Field(default="", alias="deviceType")
    reality: str = "physical"
    marketing_name: str | None = Field(default=None, alias="marketingName")
    product: str | None = Field(default=None, alias="productType")
    model: str | None = Field(default=None, alias="hardwareModel")
    cpu: _Cpu = Field(default=_Cpu(), alias="cpuType")


class _Properties(BaseModel):
    name: str = "the iPhone"
    version: str | None = Field(default=None, alias="osVersionNumber")
    build: str = Field(default="build unknown", alias="osBuildUpdate")
    developer_mode: str = Field(default="enabled", alias="developerModeStatus")


class _Connection(BaseModel):
    tunnel: str = Field(default="unavailable", alias="tunnelState")
    pairing: str = Field(default="paired", alias="pairingState")


class _Listed(BaseModel):
    """A device as `devicectl list devices` reports it, with the keys that are used here."""

    hardware: _Hardware = Field(default=_Hardware(), alias="hardwareProperties")
    properties: _Properties = Field(default=_Properties(), alias="deviceProperties")
    connection: _Connection = Field(default=_Connection(), alias="connectionProperties")


def _is_iphone(hardware: _Hardware) -> bool:
    """Return whether a listed device is a real iPhone; Xcode 27 also lists simulators."""
    return hardware.kind.lower() == "iphone" and hardware.reality == "physical"


def _phone(listed: _Listed) -> Phone:
    hardware, properties = listed.hardware, listed.properties
    version = properties.version
    return Phone(
        udid=hardware.udid,
        name=properties.name,
        info=DeviceInfo(
            kind="ios",
            id=device_id(hardware.udid),
            manufacturer="Apple",
            model=hardware.marketing_name or hardware.product,
            soc=hardware.model,
            system=f"iOS {version} ({properties.build})" if version else None,
            abis=tuple(filter(None, [hardware.cpu.name])),
        ),
        connected=listed.connection.tunnel != "unavailable",
        paired=listed.connection.pairing == "paired",
        developer_mode=properties.developer_mode == "enabled",
    )
