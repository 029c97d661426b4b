"""Energy of an Android device: current and voltage of its battery, as it discharges.

The kernel reports both below `/sys/class/power_supply`
(https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-power), in uA and uV; where it hides them from adb,
the battery service does, on newer devices. The sign of the current differs between devices, so its size counts, which
says what the device consumes only while no charger supplies it.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android_process import FOLDER, AndroidRun, execute, pause
from fbnet_zoo.benchmarks.devices.energy import EnergyMeter, above_idle
from fbnet_zoo.benchmarks.devices.linux import whole
from fbnet_zoo.benchmarks.measure import Inputs, ModelFile, RunEnergy
from fbnet_zoo.errors import EnergyUnavailableError

SUPPLIES = "/sys/class/power_supply"
_READINGS = f"{FOLDER}/power"
_FIELDS = ("type", "status", "online", "current_now", "voltage_now")

_STATE_COMMAND = (
    "dumpsys battery; echo '== current'; cmd battery get -f current_now; "
    f"for supply in {SUPPLIES}/*; do "
    '[ -d "$supply" ] || continue; echo "== ${supply##*/}"; '
    f"for field in {' '.join(_FIELDS)}; do "
    'echo "$field: $(cat "$supply/$field")"; done; done'
)
"""Prints the state of the battery service, the current by it, and the fields of every supply."""

_DISCHARGING = 3  # `BatteryManager.BATTERY_STATUS_DISCHARGING`
_SETTLING = 0.2  # share of the readings at the start that are dropped: gauges average, and the model is loaded
_FEWEST = 8
_MOST_RUNS = 20_000  # each is a line of the runner's log
_LOWEST_UA = 5_000  # no device that runs a model consumes less; 400 stands for 400 mA in some kernels
_LOWEST_UV, _HIGHEST_UV = 2_500_000, 30_000_000

Prepared = Callable[[ModelFile, Inputs, int], AbstractContextManager[AndroidRun]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """Where current and voltage of the battery are read.

    Attributes:
        source: description.
        command: shell command that prints current and voltage.
        volt_uv: what 1 stands for in the voltage, uV.
    """

    source: str
    command: str
    volt_uv: int


class BatteryMeter(EnergyMeter):
    """The energy that an unplugged Android device takes from its battery.

    Args:
        link: connection to the device.
        prepared: puts a model, its inputs and a number of threads on the device, ready to run, as a context.
        seconds: duration of the pause that shows the idle power, and of the runs.
        poll_s: time between two readings, seconds (default: 0.1).
        timeout_s: time limit of a process, seconds (default: 600).

    Raises:
        EnergyUnavailableError: the device is charging, or does not report the current of its battery.
        DeviceError: the device cannot be reached.
    """

    def __init__(
        self, link: Link, prepared: Prepared, *, seconds: float = 10, poll_s: float = 0.1, timeout_s: float = 600
    ) -> None:
        self._link, self._prepared = link, prepared
        self._seconds, self._poll_s, self._timeout_s = seconds, poll_s, timeout_s
        self._gauge = self._find_gauge()

    @property
    def source(self) -> str:
        """What is read."""
        return self._gauge.source

    def measure(self, model: ModelFile, inputs: Inputs = (), *, run_ms: float, threads: int = 1) -> RunEnergy:
        """Measure the energy of a run: power above that of the idle device, times the duration of a run."""
        runs = min(_MOST_RUNS, ceil(1000 * self._seconds / run_ms))
        watch = (
            f": > {_READINGS}; while grep -q VmRSS /proc/$!/status 2>/dev/null; do "
            f"{self._gauge.command} >> {_READINGS} 2>/dev/null; sleep {self._poll_s:g}; done"
        )
        with self._prepared(model, inputs, threads) as job:
            pause(self._link, seconds=self._seconds, timeout_s=self._timeout_s, meanwhile=watch)
            idle_mw = self._power_mw("the pause")
            output = execute(self._link, job, executions=runs, timeout_s=self._timeout_s, meanwhile=watch)
            busy_mw = self._power_mw("the runs", least_ua=_LOWEST_UA)
            self._find_gauge()  # nobody has plugged it in meanwhile
        seconds = output.total_ms / 1000
        return above_idle(self.source, total_mj=busy_mw * seconds, idle_mw=idle_mw, runs=runs, seconds=seconds)

    def _find_gauge(self) -> Gauge:
        return find_gauge(self._link.shell(f"{{ {_STATE_COMMAND}; }} 2>/dev/null").text, self._link.serial)

    def _power_mw(self, when: str, *, least_ua: float = 0) -> float:
        text = self._link.shell(f"cat {_READINGS}").text
        try:
            return power_mw(text, volt_uv=self._gauge.volt_uv, least_ua=least_ua)
        except ValueError as error:
            raise EnergyUnavailableError(
                f"{self._link.serial}: the energy is not known: during {when}, {self.source} {error}"
            ) from None


def find_gauge(text: str, serial: str) -> Gauge:
    """Return where current and voltage are read, by the output of `_STATE_COMMAND`.

    Raises:
        EnergyUnavailableError: the device is charging, or reports no current.
    """
    service, *parts = re.split(r"^== (\S+)\n", text, flags=re.MULTILINE)
    supplies = {
        name: dict(re.findall(r"^(\w+): *(.*?)\s*$", part, re.MULTILINE))
        for name, part in zip(parts[::2], parts[1::2], strict=True)
    }
    current = parts[parts.index("current") + 1].strip() if "current" in parts else ""
    _check_unplugged(service, supplies, serial)
    for name, fields in supplies.items():
        if fields.get("type") == "Battery" and None not in (
            _value(fields, "current_now"),
            _value(fields, "voltage_now"),
        ):
            files = " ".join(f"$(cat {SUPPLIES}/{name}/{field})" for field in ("current_now", "voltage_now"))
            return Gauge(source=f"battery: {SUPPLIES}/{name}", command=f'echo "{files}"', volt_uv=1)
    if whole(current) and re.search(r"^ *voltage: *[0-9]+\s*$", service, re.MULTILINE):
        volts = "$(dumpsys battery | sed -n 's/^ *voltage: *//p')"
        command = f'echo "$(cmd battery get -f current_now) {volts}"'
        return Gauge(source="battery: battery service", command=command, volt_uv=1000)
    raise EnergyUnavailableError(
        f"{serial}: the energy is not known: the device does not let adb read the current of its battery, neither from "
        f"{SUPPLIES} nor from its battery service"
    )


def _check_unplugged(service: str, supplies: Mapping[str, Mapping[str, str]], serial: str) -> None:
    """Refuse a device with a charger, which supplies what the battery then does not."""
    if "UPDATES STOPPED" in service:
        raise EnergyUnavailableError(
            f"{serial}: the energy is not known: the battery service reports a state that was set by hand; run "
            f"'adb -s {serial} shell dumpsys battery reset'"
        )
    status = re.search(r"^ *status: *([0-9]+)\s*$", service, re.MULTILINE)
    online = any(
        fields.get("online", "") not in {"", "0"} for fields in supplies.values() if fields.get("type") != "Battery"
    )
    batteries = [fields for fields in supplies.values() if fields.get("type") == "Battery"]
    charged = any(fields.get("status", "") not in {"", "Discharging"} for fields in batteries)
    if online or charged or " powered: true" in service or (status and int(status[1]) != _DISCHARGING):
        raise EnergyUnavailableError(
            f"{serial}: the energy is not known while the device is plugged in, as the charger supplies it; connect "
            "over Wi-Fi ('adb tcpip 5555', then 'adb connect ADDRESS:5555') and unplug it"
        )


def _value(fields: Mapping[str, str], name: str) -> int | None:
    return whole(fields.get(name))


def power_mw(text: str, *, volt_uv: int = 1, least_ua: float = 0) -> float:
    r"""Return the mean power of readings, mW; a line each has a current, uA, and a voltage.

    Args:
        text: readings, of which the first fifth and the last are dropped.
        volt_uv: what 1 stands for in the voltage, uV.
        least_ua: lowest plausible current, uA.

    Raises:
        ValueError: the readings are no measurement; the text follows the name of what was read.

    >>> power_mw("\n".join(f"-{100_000 + at} 4000000" for at in range(12)))
    400.024
    """
    lines = re.findall(r"^(-?[0-9]{1,9}) ([0-9]{1,9})$", text, re.MULTILINE)
    pairs = [(int(current), int(voltage) * volt_uv) for current, voltage in lines]
    kept = pairs[int(_SETTLING * len(pairs)) : -1]  # the last may be later than the process
    if len(kept) < _FEWEST:
        raise ValueError(f"was read only {len(pairs)} times; that takes longer than the model runs")
    currents, volts = zip(*kept, strict=True)
    if min(currents) < 0 < max(currents):
        raise ValueError("changed the direction of its current, so that a charger was connected")
    if len(set(kept)) == 1:
        raise ValueError(f"stood still at {currents[0]} uA in {len(kept)} readings, so it is not updated")
    mean_ua = abs(fmean(currents))
    if mean_ua < least_ua:
        raise ValueError(f"reports {mean_ua:.0f} uA, which is not plausible; its unit may be another, such as mA")
    if not _LOWEST_UV <= fmean(volts) <= _HIGHEST_UV:
        raise ValueError(f"reports {fmean(volts):.0f} uV, which is not plausible")
    return fmean(abs(current) * voltage for current, voltage in kept) / 1e9
