"""What this machine tells of itself: which one it is, how warm and how busy, and which cores to use.

Linux tells it in files; what another system does not tell is missing in the records.
"""

import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo

ROOT = Path("/")
_CPU = "sys/devices/system/cpu"

T = TypeVar("T")


def read_info(root: Path = ROOT) -> DeviceInfo:
    """Say which machine it is.

    Args:
        root: of the file system to read.
    """
    identity = _text(root / "etc/machine-id") or platform.node()
    return DeviceInfo(
        kind="host",
        id=hashlib.sha256(identity.encode()).hexdigest()[:8],
        soc=_processor(root),
        system=_system(),
        abis=(platform.machine(),),
        cores=os.cpu_count(),
        memory_mb=_megabytes(root, "MemTotal"),
    )


def _processor(root: Path) -> str | None:
    """Return the model of the processor; ARM's Linux tells only the board."""
    found = re.search(r"^(?:model name|Model|Hardware)\s*: *(.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else platform.processor() or None


def _system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def read_state(root: Path = ROOT) -> DeviceState:
    """Say what may change a timing, as it is now.

    Args:
        root: of the file system to read.
    """
    counts = [_number(path) for path in (root / _CPU).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return DeviceState(
        celsius=dict(_temperatures(root)),
        available_mb=_megabytes(root, "MemAvailable"),
        load_average=_load_average(root),
        throttle_events=sum(count or 0 for count in counts) if counts else None,
        policies=tuple(map(_policy, sorted((root / _CPU / "cpufreq").glob("policy[0-9]*"), key=_position))),
    )


def _temperatures(root: Path) -> Iterable[tuple[str, float]]:
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone[0-9]*"), key=_position):
        thousandths = _number(zone / "temp")
        if thousandths is not None:
            yield f"{_text(zone / 'type') or 'zone'} {_position(zone)}", thousandths / 1000


def _load_average(root: Path) -> float | None:
    if told := _text(root / "proc/loadavg"):
        return float(told.split()[0])
    return os.getloadavg()[0] if hasattr(os, "getloadavg") and root == ROOT else None


def _policy(folder: Path) -> CpuPolicy:
    number = partial(_in_folder, folder, _number)
    times = re.findall(r"^(\d+) (\d+)$", _text(folder / "stats/time_in_state") or "", re.MULTILINE)
    return CpuPolicy(
        name=folder.name,
        cores=tuple(int(core) for core in re.findall(r"\d+", _text(folder / "related_cpus") or "")),
        governor=_text(folder / "scaling_governor"),
        fastest_khz=number("cpuinfo_max_freq"),
        limit_khz=number("scaling_max_freq"),
        current_khz=number("scaling_cur_freq"),
        time_in_state={int(khz): int(time) for khz, time in times},
    )


def _in_folder(folder: Path, read: Callable[[Path], T], name: str) -> T:
    return read(folder / name)


def choose_cores(threads: int, *, allowed: Iterable[int], root: Path = ROOT) -> tuple[int, ...]:
    """Return a core for each thread: the fastest, those that share no physical core first, those of high numbers first.

    The first core often serves what the system does beside.

    Args:
        threads: how many cores are wanted.
        allowed: numbers of the cores that this process may use.
        root: of the file system to read.

    Raises:
        InputError: there are fewer cores than threads.
    """
    ordered = sorted(allowed, key=lambda core: (_speed(root, core), core), reverse=True)
    if threads > len(ordered):
        raise InputError(f"threads cannot be {threads}: this process may use {len(ordered)} cores; give at most that")
    alone: list[int] = []
    for core in ordered:
        if not _siblings(root, core) & set(alone):
            alone.append(core)
    return tuple((alone + [core for core in ordered if core not in alone])[:threads])


def _speed(root: Path, core: int) -> int:
    return _number(root / _CPU / f"cpu{core}/cpufreq/cpuinfo_max_freq") or 0


def _siblings(root: Path, core: int) -> set[int]:
    """Return the cores that share a physical one: `0-1`, `0,4` and mixtures of them."""
    told = _text(root / _CPU / f"cpu{core}/topology/thread_siblings_list") or str(core)
    ranges = (part.partition("-") for part in told.split(","))
    return {core for first, _, last in ranges for core in range(int(first), int(last or first) + 1)}


def _megabytes(root: Path, name: str) -> float | None:
    found = re.search(rf"^{name}: *(\d+)", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return round(int(found[1]) / 1024, 1) if found else None


def _position(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def _number(path: Path) -> int | None:
    told = _text(path) or ""
    return int(told) if re.fullmatch(r"-?\d+", told) else None


def _text(path: Path) -> str | None:
    """Return what a file says; nothing where it does not exist, and where the kernel refuses to read the sensor."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
