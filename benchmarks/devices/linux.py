"""The files of `/proc` and `/sys` that this machine and Android devices have in common."""

import re
from collections.abc import Mapping

from fbnet_zoo.benchmarks.measure import CpuPolicy

POLICY_FIELDS = ("related_cpus", "scaling_governor", "cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq")


def cpu_policy(name: str, fields: Mapping[str, str | None], times: str) -> CpuPolicy:
    """Return a cpufreq policy.

    Args:
        name: name of its folder.
        fields: content of the files `POLICY_FIELDS`, as far as they exist.
        times: text that contains the lines of `stats/time_in_state`.
    """
    return CpuPolicy(
        name=name,
        cores=tuple(int(core) for core in re.findall(r"\b[0-9]{1,4}\b", fields.get("related_cpus") or "")),
        governor=fields.get("scaling_governor") or None,
        fastest_khz=whole(fields.get("cpuinfo_max_freq")),
        limit_khz=whole(fields.get("scaling_max_freq")),
        current_khz=whole(fields.get("scaling_cur_freq")),
        time_in_state={
            int(khz): int(time) for khz, time in re.findall(r"^([0-9]{1,18}) ([0-9]{1,18})$", times, re.MULTILINE)
        },
    )


def memory_mb(meminfo: str | None, name: str) -> float | None:
    """Return an entry of `/proc/meminfo`, MB of 2^20 bytes.

    >>> memory_mb("MemTotal:  2048 kB", "MemTotal")
    2.0
    """
    found = re.search(rf"^{name}: *(\d+)", meminfo or "", re.MULTILINE)
    kilobytes = whole(found[1]) if found else None
    return None if kilobytes is None else round(kilobytes / 1024, 1)


def whole(text: str | None) -> int | None:
    """Return the whole number of up to 18 digits that a text consists of, or `None`.

    >>> whole("-12"), whole("1.2"), whole("9" * 5000)
    (-12, None, None)
    """
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,18}", text) else None


def decimal(text: str | None) -> float | None:
    """Return the number with up to 12 digits on either side of the point that a text consists of, or `None`.

    >>> decimal("-12.5"), decimal("1.2.3"), decimal("nan")
    (-12.5, None, None)
    """
    return float(text) if text and re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", text) else None
