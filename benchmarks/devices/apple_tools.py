"""What a Mac and the phones at it tell of themselves, through the programs of macOS and Xcode."""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fbnet_zoo.benchmarks.devices.command import Output, Run
from fbnet_zoo.benchmarks.measure import DeviceState
from fbnet_zoo.errors import DeviceTimeoutError, DeviceUnavailableError
from fbnet_zoo.latency.device import DeviceInfo

_MAC = "Core ML runs on a Mac only, and an iPhone is measured from a Mac"
_XCODE = (
    "an iPhone is measured with Xcode itself, not with its command line tools alone: install it from the App Store, "
    "start it once, then run sudo xcode-select -s /Applications/Xcode.app"
)
_SYSCTL = ("hw.model", "machdep.cpu.brand_string", "hw.ncpu", "hw.memsize", "hw.optional.arm64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """An iPhone that this Mac knows.

    Attributes:
        udid: what `devicectl` knows it by; never in a record.
        name: that its owner gave it.
        info: what goes into records.
        connected: by cable or network, now.
        paired: it trusts this Mac.
        developer_mode: it lets developers in.
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
        run: runs every command line.
        timeout_s: for each, seconds.
    """

    def __init__(self, run: Run, *, timeout_s: float = 60) -> None:
        self._run, self._timeout_s = run, timeout_s

    def mac(self) -> DeviceInfo:
        """Return which Mac this is.

        Raises:
            DeviceUnavailableError: it is none.
        """
        system = dict(re.findall(r"^(\w+):\s*(.+?)\s*$", self._text(_MAC, "sw_vers"), re.MULTILINE))
        if "ProductVersion" not in system:
            raise DeviceUnavailableError(f"{_MAC}: this system's sw_vers tells no version")
        values = dict(re.findall(r"^([\w.]+): (.+)$", self._call("sysctl", *_SYSCTL).text, re.MULTILINE))
        identity = re.search(
            r'"IOPlatformUUID" = "(.+)"', self._call("ioreg", "-rd1", "-c", "IOPlatformExpertDevice").text
        )
        return DeviceInfo(
            kind="mac",
            id=_id(identity[1] if identity else values.get("hw.model", "")),
            manufacturer="Apple",
            model=values.get("hw.model"),
            soc=values.get("machdep.cpu.brand_string"),
            system=f"macOS {system['ProductVersion']} ({system.get('BuildVersion', 'build unknown')})",
            abis=("arm64",) if values.get("hw.optional.arm64") == "1" else ("x86_64",),
            cores=int(values["hw.ncpu"]) if "hw.ncpu" in values else None,
            memory_mb=int(values["hw.memsize"]) / 2**20 if "hw.memsize" in values else None,
        )

    def mac_state(self) -> DeviceState:
        """Return what may change a timing on this Mac."""
        battery = self._call("pmset", "-g", "batt").text
        percent = re.search(r"\t(\d+)%;", battery)
        load = re.search(r"\{ ([\d.]+)", self._call("sysctl", "-n", "vm.loadavg").text)
        return DeviceState(
            battery_percent=int(percent[1]) if percent else None,
            charging="AC Power" in battery if percent else None,
            thermal_status=parse_thermal(self._call("pmset", "-g", "therm").text),
            load_average=float(load[1]) if load else None,
        )

    def xcode(self) -> str:
        """Return the version of Xcode.

        Raises:
            DeviceUnavailableError: there is none, or this is no Mac.
        """
        self._text(_MAC, "sw_vers")
        found = re.search(r"^Xcode (\S+)", self._text(_XCODE, "xcodebuild", "-version"), re.MULTILINE)
        if found is None:
            raise DeviceUnavailableError(f"{_XCODE} (xcodebuild tells no version)")
        return found[1]

    def require_devicectl(self) -> None:
        """Make sure that coremltools finds `devicectl`, which it looks for on the PATH.

        Raises:
            DeviceUnavailableError: it does not.
        """
        if shutil.which("devicectl"):
            return
        found = self._text("an iPhone is measured with Xcode 15 or newer", "xcrun", "--find", "devicectl").strip()
        raise DeviceUnavailableError(
            f'coremltools looks for devicectl on the PATH: run export PATH="$PATH:{Path(found).parent}"'
        )

    def iphones(self) -> tuple[Phone, ...]:
        """Return every iPhone that this Mac knows, connected or not.

        Raises:
            DeviceUnavailableError: `devicectl` does not work.
        """
        told = self._devicectl("list", "devices")
        return tuple(_phone(each) for each in told.get("devices", ()) if _is_iphone(each.get("hardwareProperties", {})))

    def is_locked(self, udid: str) -> bool:
        """Tell whether a phone wants its passcode; asking it opens the connection, too.

        Raises:
            DeviceUnavailableError: the phone does not answer.
        """
        return bool(self._devicectl("device", "info", "lockState", "--device", udid).get("passcodeRequired"))

    def uninstall(self, udid: str, app: str) -> None:
        """Remove an app from a phone.

        Raises:
            DeviceUnavailableError: the phone does not answer, or refuses.
        """
        self._devicectl("device", "uninstall", "app", "--device", udid, app)

    def _devicectl(self, *arguments: str) -> dict[str, Any]:
        """Run a command of `devicectl`, whose output for programs goes to a file."""
        with tempfile.TemporaryDirectory(prefix="fbnet_zoo-") as folder:
            path = Path(folder, "out.json")
            self._text("devicectl failed", "xcrun", "devicectl", *arguments, "--json-output", str(path))
            try:
                return dict(json.loads(path.read_bytes())["result"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                what = " ".join(arguments[:3])
                raise DeviceUnavailableError(f"devicectl {what}: its answer cannot be read ({error})") from error

    def _text(self, need: str, *command: str) -> str:
        """Return what a program prints.

        Raises:
            DeviceUnavailableError: it is not there, or fails; the text starts with the need.
        """
        try:
            output = self._call(*command)
        except FileNotFoundError as error:
            raise DeviceUnavailableError(f"{need} ({command[0]} is not there)") from error
        if output.exit_code:
            said = output.text.splitlines()[-1:] or [f"exit code {output.exit_code}"]
            raise DeviceUnavailableError(f"{need} ({command[0]}: {said[0]})")
        return output.stdout.decode(errors="replace")

    def _call(self, *command: str) -> Output:
        try:
            return self._run(command, self._timeout_s)
        except TimeoutError as error:
            raise DeviceTimeoutError(f"{' '.join(command[:4])} did not end within {self._timeout_s:g} s") from error


def parse_thermal(text: str) -> int | None:
    r"""Read what `pmset -g therm` prints: 0 at full speed, 1 where macOS warns or limits; `None` if it does not tell.

    >>> parse_thermal("Note: No thermal warning level has been recorded")
    0
    >>> parse_thermal("CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 62")
    1
    """
    limits = [int(value) for value in re.findall(r"CPU_(?:Speed|Scheduler)_Limit\s*=\s*(\d+)", text)]
    levels = [int(value) for value in re.findall(r"Warning Level\s*=\s*(\d+)", text)]
    full = 100
    if any(limit < full for limit in limits) or any(levels):
        return 1
    return 0 if limits or levels or "No thermal warning level" in text else None


def _is_iphone(hardware: dict[str, Any]) -> bool:
    """Tell whether it is one; Xcode 27 lists simulators, too."""
    return hardware.get("deviceType", "").lower() == "iphone" and hardware.get("reality", "physical") == "physical"


def _phone(told: dict[str, Any]) -> Phone:
    hardware, properties = told.get("hardwareProperties", {}), told.get("deviceProperties", {})
    connection = told.get("connectionProperties", {})
    udid, version = hardware.get("udid", ""), properties.get("osVersionNumber")
    return Phone(
        udid=udid,
        name=properties.get("name", "the iPhone"),
        info=DeviceInfo(
            kind="ios",
            id=_id(udid),
            manufacturer="Apple",
            model=hardware.get("marketingName") or hardware.get("productType"),
            soc=hardware.get("hardwareModel"),
            system=f"iOS {version} ({properties.get('osBuildUpdate', 'build unknown')})" if version else None,
            abis=tuple(filter(None, [hardware.get("cpuType", {}).get("name")])),
        ),
        connected=connection.get("tunnelState", "unavailable") != "unavailable",
        paired=connection.get("pairingState", "paired") == "paired",
        developer_mode=properties.get("developerModeStatus", "enabled") == "enabled",
    )


def _id(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()[:8]
