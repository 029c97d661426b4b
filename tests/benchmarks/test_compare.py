"""Comparisons of stored measurements, and measuring in turn."""

import random
from typing import Any

import pytest

from fbnet_zoo.benchmarks.compare import compare, measure_pairs
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.errors import InputError
from tests.helpers.measurements import PHONE, measurement

A = ModelFile(path=__file__, name="a", target="executorch", precision="fp32")  # type: ignore[arg-type]
B = ModelFile(path=__file__, name="b", target="executorch", precision="int8")  # type: ignore[arg-type]


def in_turn(factor: float, *, pairs: int = 8, seed: int = 0) -> tuple[list[Measurement], list[Measurement]]:
    """A and B on a device that gets slower all the time; B takes `factor` times as long."""
    generator = random.Random(seed)
    clock = iter(range(1000))

    def measure(model: ModelFile) -> Measurement:
        minute = next(clock)
        base = (10 + minute) * (factor if model is B else 1)
        return measurement([base * generator.gauss(1, 0.002) for _ in range(9)], minute=minute, model=model.name)

    both = list(measure_pairs(measure, A, B, pairs=pairs))
    return [each for each in both if each.model == "a"], [each for each in both if each.model == "b"]


def test_pairs_are_measured_in_turn_and_the_turns_alternate() -> None:
    order = [each.model for each in measure_pairs(lambda model: measurement(model=model.name), A, B, pairs=5)]
    assert "".join(order) == "abbaabbaab"


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="4 pairs are too few for a confidence interval; measure at least 5"):
        next(measure_pairs(lambda model: measurement(), A, B, pairs=4))


def test_what_was_measured_in_turn_is_paired() -> None:
    a, b = in_turn(1.2)
    comparison = compare(a[::-1], b)
    assert comparison.ratio.pairs == 8
    assert comparison.ratio.differs
    assert comparison.ratio.ratio == pytest.approx(1.2, abs=0.03)
    assert (comparison.a.count, comparison.b.count) == (72, 72)


def test_equals_that_were_measured_in_turn_show_no_difference() -> None:
    assert compare(*in_turn(1.0)).ratio.verdict == "no difference shown"


def test_what_was_not_measured_in_turn_is_not_paired() -> None:
    a = [measurement([10.0, 10.1, 9.9, 10.0, 10.0], minute=minute) for minute in range(6)]
    b = [measurement([12.0, 12.1, 11.9, 12.0, 12.0], minute=10 + minute) for minute in range(6)]
    for first, second in ((a, b), (a[:3], b[:2]), (a[:1], b[:1])):
        ratio = compare(first, second).ratio
        assert ratio.pairs == 0
        assert ratio.ratio == pytest.approx(1.2)
        assert ratio.differs


def test_throttled_measurements_are_counted() -> None:
    slow = [measurement(throttled=True), measurement()]
    assert compare(slow, slow).throttled == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"threads": 4}, "differ in threads cannot be compared: 1 and 4"),
        ({"runtime": "onnxruntime"}, "differ in runtime cannot be compared: executor_runner and onnxruntime"),
        ({"affinity": "f0"}, "differ in affinity"),
        ({"device": PHONE.model_copy(update={"id": "ffffffff"})}, "differ in device .*0a1b2c3d.* and .*ffffffff"),
    ],
)
def test_different_conditions_cannot_be_compared(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        compare([measurement()], [measurement(**change)])


def test_files_of_different_formats_have_different_runtimes() -> None:
    samples = [10.0, 10.1, 9.9, 10.0, 10.0]
    other = measurement([2 * sample for sample in samples], target="onnx", runtime="onnxruntime")
    assert compare([measurement(samples)], [other]).ratio.ratio == pytest.approx(2)


def test_too_few_timings_cannot_be_compared() -> None:
    """One sample on each side would always show a difference."""
    with pytest.raises(InputError, match="1 timings are too few for a confidence interval"):
        compare([measurement([10.0])], [measurement([10.1])])


def test_a_side_without_measurements_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="got 1 of A and 0 of B"):
        compare([measurement()], [])
