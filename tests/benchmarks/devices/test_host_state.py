"""What a machine tells of itself, read from folders that look like a Linux system."""

from pathlib import Path

import pytest

from fbnet_zoo.benchmarks.devices.host_state import choose_cores, read_info, read_state
from fbnet_zoo.benchmarks.measure import was_throttled
from fbnet_zoo.errors import InputError

CPU = "sys/devices/system/cpu"


def write(root: Path, **files: object) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """Two cores of two threads each, of which core 0 and 2 share one; the second is faster."""
    write(tmp_path, **{"proc/meminfo": "MemTotal:  4194304 kB\nMemAvailable:  1048576 kB", "etc/machine-id": "0123"})
    write(tmp_path, **{"proc/loadavg": "0.75 0.5 0.25 1/99 1234", "proc/cpuinfo": "model name\t: Fast 9000"})
    for core, fastest in enumerate((2_000_000, 3_000_000, 2_000_000, 3_000_000)):
        write(
            tmp_path,
            **{
                f"{CPU}/cpu{core}/topology/thread_siblings_list": f"{core % 2},{core % 2 + 2}",
                f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq": fastest,
                f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count": core,
                f"{CPU}/cpufreq/policy{core}/related_cpus": core,
                f"{CPU}/cpufreq/policy{core}/scaling_governor": "powersave",
                f"{CPU}/cpufreq/policy{core}/scaling_max_freq": fastest - 1,
                f"{CPU}/cpufreq/policy{core}/scaling_cur_freq": 800_000,
                f"{CPU}/cpufreq/policy{core}/cpuinfo_max_freq": fastest,
            },
        )
    write(tmp_path, **{f"{CPU}/cpufreq/policy0/stats/time_in_state": "800000 12\n2000000 3"})
    for zone, (kind, temp) in enumerate((("acpitz", "41500"), ("x86_pkg_temp", "55000"), ("iwlwifi", "no data"))):
        write(tmp_path, **{f"sys/class/thermal/thermal_zone{zone}/type": kind})
        write(tmp_path, **{f"sys/class/thermal/thermal_zone{zone}/temp": temp})
    return tmp_path


def test_state(laptop: Path) -> None:
    state = read_state(laptop)
    assert (state.available_mb, state.load_average, state.throttle_events) == (1024.0, 0.75, 0 + 1 + 2 + 3)
    assert state.celsius == {"acpitz 0": 41.5, "x86_pkg_temp 1": 55.0}
    assert [policy.name for policy in state.policies] == ["policy0", "policy1", "policy2", "policy3"]
    first = state.policies[0]
    assert (first.cores, first.governor, first.fastest_khz) == ((0,), "powersave", 2_000_000)
    assert (first.limit_khz, first.current_khz) == (1_999_999, 800_000)
    assert first.time_in_state == {800_000: 12, 2_000_000: 3}


def test_throttling_that_the_processor_counts_is_noticed(laptop: Path) -> None:
    before = read_state(laptop)
    assert not was_throttled(before, read_state(laptop))
    write(laptop, **{f"{CPU}/cpu3/thermal_throttle/core_throttle_count": 4})
    assert was_throttled(before, read_state(laptop))


def test_info(laptop: Path) -> None:
    info = read_info(laptop)
    assert (info.kind, info.soc, info.memory_mb) == ("host", "Fast 9000", 4096.0)
    assert info.id == "1be2e452"  # sha256 of the machine's identity
    assert "0123" not in info.model_dump_json()


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    state, info = read_state(tmp_path), read_info(tmp_path)
    assert (state.celsius, state.policies, state.available_mb, state.load_average) == ({}, (), None, None)
    assert (state.throttle_events, info.memory_mb) == (None, None)
    assert len(info.id) == 8


@pytest.mark.parametrize(
    ("threads", "cores"),
    [(1, (3,)), (2, (3, 2)), (3, (3, 2, 1)), (4, (3, 2, 1, 0))],
    ids=["fastest", "other_physical_core", "sibling", "all"],
)
def test_cores(laptop: Path, threads: int, cores: tuple[int, ...]) -> None:
    assert choose_cores(threads, allowed=range(4), root=laptop) == cores


def test_only_allowed_cores_are_chosen(laptop: Path) -> None:
    assert choose_cores(1, allowed={0}, root=laptop) == (0,)
    with pytest.raises(InputError, match="threads cannot be 3; expected at most 2, the cores of this process"):
        choose_cores(3, allowed={0, 2}, root=laptop)


def test_cores_of_a_system_that_tells_nothing_are_all_alike(tmp_path: Path) -> None:
    assert choose_cores(2, allowed={5, 6, 7}, root=tmp_path) == (7, 6)


def test_siblings_may_be_a_range(tmp_path: Path) -> None:
    for core in range(4):
        first = core // 2 * 2
        write(tmp_path, **{f"{CPU}/cpu{core}/topology/thread_siblings_list": f"{first}-{first + 1}"})
    assert choose_cores(2, allowed=range(4), root=tmp_path) == (3, 1)
