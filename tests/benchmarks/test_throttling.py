"""When a device counts as throttled, and when it does not."""

import pytest

from fbnet_zoo.benchmarks.measure import CpuPolicy, DeviceState, was_throttled


def state(limit: int | None = None, **fields: object) -> DeviceState:
    policies = (CpuPolicy(name="policy0", cores=(0, 1)), CpuPolicy(name="policy2", cores=(2,), limit_khz=limit))
    return DeviceState.model_validate({"policies": policies, **fields})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (state(), state(), False),
        (state(2000), state(2000), False),
        (state(2000), state(1900), True),
        (state(1900), state(2000), False),
        (state(None), state(1900), False),
        (state(2000), state(None), False),
        (state(thermal_status=0), state(thermal_status=0), False),
        (state(thermal_status=0), state(thermal_status=1), True),
        (state(thermal_status=1), state(thermal_status=0), True),
        (state(throttle_events=7), state(throttle_events=7), False),
        (state(throttle_events=7), state(throttle_events=8), True),
        (state(throttle_events=None), state(throttle_events=1), True),
    ],
)
def test_throttling(before: DeviceState, after: DeviceState, expected: bool) -> None:
    """Before or during a measurement: a lower limit of a clock, a severity above none, or an event that was counted."""
    assert was_throttled(before, after) is expected


def test_clocks_are_compared_with_their_own_limit() -> None:
    before = DeviceState(
        policies=(CpuPolicy(name="a", cores=(0,), limit_khz=1), CpuPolicy(name="b", cores=(1,), limit_khz=9))
    )
    assert not was_throttled(before, before.model_copy(update={"policies": before.policies[::-1]}))
