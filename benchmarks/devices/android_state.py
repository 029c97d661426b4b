"""Description and state of an Android device: model, temperature and clock limits."""

import re
from collections.abc import Iterable, Mapping, Sequence

from fbnet_zoo.benchmarks.devices.linux import POLICY_FIELDS, cpu_policy, decimal, memory_mb, whole
from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState
from fbnet_zoo.latency.device import DeviceInfo, device_id

INFO_COMMAND = "getprop; echo '== memory'; cat /proc/meminfo; echo '== cores'; nproc"
"""Prints the input of `parse_info`."""

STATE_COMMAND = (
    "echo '== battery'; dumpsys battery; echo '== thermal'; dumpsys thermalservice; "
    "echo '== memory'; cat /proc/meminfo; "
    "for policy in /sys/devices/system/cpu/cpufreq/policy[0-9]*; do "
    '[ -d "$policy" ] || continue; echo "== ${policy##*/}"; '
    f"for field in {' '.join(POLICY_FIELDS)}; do "
    'echo "$field: $(cat "$policy/$field")"; done; cat "$policy/stats/time_in_state"; done'
)
"""Prints the input of `parse_state`."""


def parse_info(text: str, serial: str) -> DeviceInfo:
    """Return the device that the output of `INFO_COMMAND` describes.

    >>> parse_info("[ro.product.model]: [Phone 9]", "0123").model
    'Phone 9'
    """
    parts = _sections(text)
    properties = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", parts.get("", ""), re.MULTILINE))

    def first(*names: str) -> str | None:
        return next((properties[name] for name in names if properties.get(name)), None)

    release, level = first("ro.build.version.release"), first("ro.build.version.sdk")
    return DeviceInfo(
        kind="android",
        id=device_id(serial),
        manufacturer=first("ro.product.manufacturer"),
        model=first("ro.product.model"),
        soc=first("ro.soc.model", "ro.board.platform", "ro.hardware"),
        system=f"Android {release}, API {level}" if release else None,
        abis=tuple((first("ro.product.cpu.abilist", "ro.product.cpu.abi") or "").split(",")) if properties else (),
        cores=_integer(parts.get("cores", "")),
        memory_mb=memory_mb(parts.get("memory"), "MemTotal"),
    )


def parse_state(text: str) -> DeviceState:
    """Return the state that the output of `STATE_COMMAND` describes; values that are not in it stay missing."""
    parts = _sections(text)
    battery, thermal = parts.get("battery", ""), parts.get("thermal", "")
    percent, tenths = _integer(battery, r"^ *level: "), _integer(battery, r"^ *temperature: ")
    return DeviceState(
        battery_percent=percent,
        battery_celsius=None if tenths is None else tenths / 10,
        charging=bool(re.search(r" powered: true", battery)) if "powered:" in battery else None,
        thermal_status=_integer(thermal, r"^ *Thermal Status: "),
        celsius=_temperatures(thermal),
        available_mb=memory_mb(parts.get("memory"), "MemAvailable"),
        policies=tuple(_policy(name, part) for name, part in parts.items() if name.startswith("policy")),
    )


def fast_cores(policies: Iterable[CpuPolicy], threads: int) -> str | None:
    """Return the `taskset` mask of the fastest clusters that together have a core for each thread.

    `None` if there is no choice: all cores are alike or unknown, or the slowest cluster is needed too.

    >>> little, big = (CpuPolicy(name=str(n), cores=(n, n + 1), fastest_khz=1800 + n) for n in (0, 2))
    >>> fast_cores([little, big], threads=2), fast_cores([little, big], threads=3)
    ('c', None)
    """
    ordered = sorted(policies, key=lambda policy: policy.fastest_khz or 0, reverse=True)
    if not ordered or ordered[-1].fastest_khz is None:
        return None
    slowest = ordered[-1].fastest_khz
    chosen: list[int] = []
    for policy in ordered:
        if len(chosen) >= threads or policy.fastest_khz == slowest:
            break
        chosen += policy.cores
    return f"{sum(1 << core for core in chosen):x}" if len(chosen) >= threads else None


def _sections(text: str) -> Mapping[str, str]:
    """Return the text after each line `== name`; the text before the first has the name ''."""
    pieces = re.split(r"^== (\S+)\n", text, flags=re.MULTILINE)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def _policy(name: str, text: str) -> CpuPolicy:
    return cpu_policy(name, dict(re.findall(r"^(\w+): *(.*?)\s*$", text, re.MULTILINE)), text)


def _temperatures(text: str) -> dict[str, float]:
    # Cached values come before current ones, so the last value of each name counts.
    found: Sequence[tuple[str, str]] = re.findall(r"Temperature\{mValue=([^,}]+), mType=-?\d+, mName=([^,}]+)", text)
    values = ((name, decimal(value)) for value, name in found)
    return {name: value for name, value in values if value is not None}


def _integer(text: str, before: str = r"^") -> int | None:
    found = re.search(rf"{before}(\S+)\s*$", text, re.MULTILINE)
    return whole(found[1]) if found else None
