"""Description and state of this machine, and the choice of cores.

Linux reports them in files; values that another system does not report are missing in the records.
"""

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from fbnet_zoo.benchmarks.devices.linux import POLICY_FIELDS, cpu_policy, memory_mb, whole
from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo, device_id

ROOT = Path("/")
_CPU, _MEMORY = "sys/devices/system/cpu", "proc/meminfo"


def read_info(root: Path = ROOT) -> DeviceInfo:
    """Return the description of this machine.

    Args:
        root: root of the file system to read.
    """
    identity = _text(root / "etc/machine-id") or platform.node()
    return DeviceInfo(
        kind="host",
        id=device_id(identity),
        soc=_processor(root),
        system=_system(),
        abis=(platform.machine(),),
        cores=os.cpu_count(),
        memory_mb=memory_mb(_text(root / _MEMORY), "MemTotal"),
    )


def _processor(root: Path) -> str | None:
    """Return the processor model; on ARM, Linux reports only the board."""
    found = re.search(r"^(?:model name|Model|Hardware)\s*: *(.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else platform.processor() or None


def _system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def read_state(root: Path = ROOT) -> DeviceState:
    """Return the current state of this machine.

    Args:
        root: root of the file system to read.
    """
    counts = [whole(_text(path)) for path in (root / _CPU).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return DeviceState(
        celsius=dict(_temperatures(root)),
        available_mb=memory_mb(_text(root / _MEMORY), "MemAvailable"),
        load_average=_load_average(root),
        throttle_events=sum(count or 0 for count in counts) if counts else None,
        policies=tuple(map(_policy, sorted((root / _CPU / "cpufreq").glob("policy[0-9]*"), key=_position))),
    )


def _temperatures(root: Path) -> Iterable[tuple[str, float]]:
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone[0-9]*"), key=_position):
        thousandths = whole(_text(zone / "temp"))
        if thousandths is not None:
            yield f"{_text(zone / 'type') or 'zone'} {_position(zone)}", thousandths / 1000


def _load_average(root: Path) -> float | None:
    if averages := _text(root / "proc/loadavg"):
        return float(averages.split()[0])
    return os.getloadavg()[0] if hasattr(os, "getloadavg") and root == ROOT else None


def _policy(folder: Path) -> CpuPolicy:
    fields = {name: _text(folder / name) for name in POLICY_FIELDS}
    return cpu_policy(folder.name, fields, _text(folder / "stats/time_in_state") or "")


def choose_cores(threads: int, *, allowed: Iterable[int], root: Path = ROOT) -> tuple[int, ...]:
    """Return a core for each thread: the fastest first, distinct physical cores first, high numbers first.

    The lowest-numbered core often handles the system's background work.

    Args:
        threads: number of cores to choose.
        allowed: numbers of the cores that this process may use.
        root: root of the file system to read.

    Raises:
        InputError: there are fewer cores than threads.
    """
    ordered = sorted(allowed, key=lambda core: (_speed(root, core), core), reverse=True)
    if threads > len(ordered):
        raise InputError(f"threads cannot be {threads}; expected at most {len(ordered)}, the cores of this process")
    alone: list[int] = []
    for core in ordered:
        if not _siblings(root, core) & set(alone):
            alone.append(core)
    return tuple((alone + [core for core in ordered if core not in alone])[:threads])


def _speed(root: Path, core: int) -> int:
    return whole(_text(root / _CPU / f"cpu{core}/cpufreq/cpuinfo_max_freq")) or 0


def _siblings(root: Path, core: int) -> set[int]:
    """Return the logical cores of the same physical core, which Linux lists as `0-1`, `0,4` or a mixture."""
    siblings = _text(root / _CPU / f"cpu{core}/topology/thread_siblings_list") or str(core)
    ranges = (part.partition("-") for part in siblings.split(","))
    return {core for first, _, last in ranges for core in range(int(first), int(last or first) + 1)}


def _position(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def _text(path: Path) -> str | None:
    """Return the content of a file; `None` if it is empty, does not exist, or the kernel cannot read the sensor."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
