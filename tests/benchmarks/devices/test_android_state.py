"""What devices print of themselves, in the forms that Android versions have; texts in the layout of AOSP's tools."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbnet_zoo.benchmarks.devices.android_state import fast_cores, parse_info, parse_state
from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState

BATTERY = """== battery
Current Battery Service state:
  AC powered: false
  USB powered: false
  Wireless powered: false
  Max charging current: 500000
  Charge counter: 3170000
  status: 3
  health: 2
  present: true
  level: 7
  scale: 100
  voltage: 3831
  temperature: -25
  technology: Li-ion
"""
THERMAL = """== thermal
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 4
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=30.0, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=41.25, mType=3, mName=VIRTUAL-SKIN, mStatus=2}
\tTemperature{mValue=-3.5, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
"""


def test_state_is_read_from_what_android_prints() -> None:
    state = parse_state(BATTERY + THERMAL + "== memory\nMemTotal:  8000000 kB\nMemAvailable:  2097152 kB\n")
    assert (state.battery_percent, state.battery_celsius, state.charging) == (7, -2.5, False)
    assert state.thermal_status == 2
    assert state.celsius == {"VIRTUAL-SKIN": 41.25, "battery": -3.5}
    assert state.available_mb == 2048.0


@pytest.mark.parametrize("text", ["", "== battery\n== thermal\n== memory\n", "sh: dumpsys: not found\n"])
def test_what_is_not_told_is_missing(text: str) -> None:
    assert parse_state(text) == DeviceState()


def test_policies_may_hide_parts() -> None:
    state = parse_state("== policy0\nrelated_cpus: 0 1\nscaling_governor: \ncpuinfo_max_freq: 1800000\n== policy2\n")
    assert state.policies == (
        CpuPolicy(name="policy0", cores=(0, 1), fastest_khz=1_800_000),
        CpuPolicy(name="policy2", cores=()),
    )


def test_info_takes_the_newer_names_first() -> None:
    text = "[ro.board.platform]: [old]\n[ro.soc.model]: [SM8650]\n[ro.product.cpu.abi]: [armeabi-v7a]\n== cores\n8\n"
    info = parse_info(text, "serial")
    assert (info.soc, info.abis, info.cores, info.system) == ("SM8650", ("armeabi-v7a",), 8, None)
    assert parse_info("[ro.board.platform]: [old]\n", "serial").soc == "old"


def test_devices_are_told_apart_without_their_serials() -> None:
    first, second = (parse_info("", serial) for serial in ("R58M123", "R58M124"))
    assert first.id != second.id
    assert "R58M" not in first.model_dump_json()
    assert first.abis == ()


clusters = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4)


@given(clusters, st.integers(1, 10))
def test_the_cores_chosen_are_whole_clusters_none_faster_and_enough(sizes: list[tuple[int, int]], threads: int) -> None:
    policies, first = [], 0
    for count, speed in sizes:
        policies.append(CpuPolicy(name=str(first), cores=tuple(range(first, first + count)), fastest_khz=speed))
        first += count
    mask = fast_cores(policies, threads)
    slowest = min(speed for _, speed in sizes)
    faster = sum(count for count, speed in sizes if speed > slowest)
    if faster < threads:
        assert mask is None
        return
    assert mask is not None
    chosen = {core for core in range(first) if int(mask, 16) >> core & 1}
    assert len(chosen) >= threads
    used = [policy for policy in policies if chosen & set(policy.cores)]
    left = [policy for policy in policies if policy not in used]
    assert chosen == {core for policy in used for core in policy.cores}
    assert min(policy.fastest_khz or 0 for policy in used) >= max(policy.fastest_khz or 0 for policy in left)
    slowest_used = min(used, key=lambda policy: policy.fastest_khz or 0)
    assert any(
        len(chosen) - len(policy.cores) < threads for policy in used if policy.fastest_khz == slowest_used.fastest_khz
    ), "one cluster fewer would not do"


def test_unknown_clocks_choose_nothing() -> None:
    assert fast_cores([], 1) is None
    assert fast_cores([CpuPolicy(name="0", cores=(0,)), CpuPolicy(name="1", cores=(1,), fastest_khz=5)], 1) is None
