"""What an Android device tells of itself: which one it is, how warm, how fast its cores may run."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState
from fbnet_zoo.latency.device import DeviceInfo

_FIELDS = ("related_cpus", "scaling_governor", "cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq")

INFO_COMMAND = "getprop; echo '== memory'; cat /proc/meminfo; echo '== cores'; nproc"
"""Prints what `parse_info` reads."""

STATE_COMMAND = (
    "echo '== battery'; dumpsys battery; echo '== thermal'; dumpsys thermalservice; "
    "echo '== memory'; cat /proc/meminfo; "
    "for policy in /sys/devices/system/cpu/cpufreq/policy[0-9]*; do "
    '[ -d "$policy" ] || continue; echo "== ${policy##*/}"; '
    f"for field in {' '.join(_FIELDS)}; do "
    'echo "$field: $(cat "$policy/$field")"; done; cat "$policy/stats/time_in_state"; done'
)
"""Prints what `parse_state` reads."""


def parse_info(text: str, serial: str) -> DeviceInfo:
    """Read what `INFO_COMMAND` printed.

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
        id=hashlib.sha256(serial.encode()).hexdigest()[:8],
        manufacturer=first("ro.product.manufacturer"),
        model=first("ro.product.model"),
        soc=first("ro.soc.model", "ro.board.platform", "ro.hardware"),
        system=f"Android {release}, API {level}" if release else None,
        abis=tuple((first("ro.product.cpu.abilist", "ro.product.cpu.abi") or "").split(",")) if properties else (),
        cores=_integer(parts.get("cores", "")),
        memory_mb=_megabytes(parts, "MemTotal"),
    )


def parse_state(text: str) -> DeviceState:
    """Read what `STATE_COMMAND` printed; what is not there is missing in the record, too."""
    parts = _sections(text)
    battery, thermal = parts.get("battery", ""), parts.get("thermal", "")
    percent, tenths = _integer(battery, r"^ *level: "), _integer(battery, r"^ *temperature: ")
    return DeviceState(
        battery_percent=percent,
        battery_celsius=None if tenths is None else tenths / 10,
        charging=bool(re.search(r" powered: true", battery)) if "powered:" in battery else None,
        thermal_status=_integer(thermal, r"^ *Thermal Status: "),
        celsius=_temperatures(thermal),
        available_mb=_megabytes(parts, "MemAvailable"),
        policies=tuple(_policy(name, part) for name, part in parts.items() if name.startswith("policy")),
    )


def fast_cores(policies: Iterable[CpuPolicy], threads: int) -> str | None:
    """Return the mask of the fastest clusters that have a core for each thread, as taskset takes it.

    `None` where nothing is to choose: cores that are all alike or not known, or threads that need the slowest, too.

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
    """Return what follows each line `== name`; what comes before the first has no name."""
    pieces = re.split(r"^== (\S+)\n", text, flags=re.MULTILINE)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def _policy(name: str, text: str) -> CpuPolicy:
    values = dict(re.findall(r"^(\w+): *(.*)$", text, re.MULTILINE))
    return CpuPolicy(
        name=name,
        cores=tuple(int(core) for core in re.findall(r"\d+", values.get("related_cpus", ""))),
        governor=values.get("scaling_governor") or None,
        fastest_khz=_integer(values.get("cpuinfo_max_freq", "")),
        limit_khz=_integer(values.get("scaling_max_freq", "")),
        current_khz=_integer(values.get("scaling_cur_freq", "")),
        time_in_state={int(khz): int(time) for khz, time in re.findall(r"^(\d+) (\d+)$", text, re.MULTILINE)},
    )


def _temperatures(text: str) -> dict[str, float]:
    # The cached values come first, those just asked for later: the last of a name holds.
    found: Sequence[tuple[str, str]] = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=-?\d+, mName=([^,}]+)", text)
    return {name: float(value) for value, name in found}


def _megabytes(parts: Mapping[str, str], name: str) -> float | None:
    kilobytes = _integer(parts.get("memory", ""), rf"^{name}: *")
    return None if kilobytes is None else round(kilobytes / 1024, 1)


def _integer(text: str, before: str = r"^") -> int | None:
    found = re.search(rf"{before}(-?\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
