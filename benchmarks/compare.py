"""Two models or two files: which one is faster, and whether that was shown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.stats import FEWEST, Ratio, Summary, paired_ratio, summarize, unpaired_ratio

PAIRS = 10

_ALIKE: dict[str, Callable[[Measurement], object]] = {
    "device": lambda measurement: _name(measurement.device),
    "threads": lambda measurement: measurement.threads,
    "affinity": lambda measurement: measurement.affinity,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two sides and their ratio.

    Attributes:
        a: all samples of A.
        b: all samples of B.
        ratio: of the times, B over A.
        throttled: how many of the measurements were taken while the device slowed itself down.
    """

    a: Summary
    b: Summary
    ratio: Ratio
    throttled: int


def measure_pairs(
    measure: Callable[[ModelFile], Measurement], a: ModelFile, b: ModelFile, *, pairs: int = PAIRS
) -> Iterator[Measurement]:
    """Measure two models in turn, A B B A A B ..., so that slow changes of the device meet both alike.

    Args:
        measure: times one model, as `Device.run` does.
        a: one model.
        b: the other.
        pairs: how often each is measured.

    Raises:
        InputError: there are too few pairs for a comparison.
    """
    if pairs < FEWEST:
        raise InputError(f"{pairs} pairs carry no interval; measure at least {FEWEST}")
    for number in range(pairs):
        for model in (b, a) if number % 2 else (a, b):
            yield measure(model)


def compare(a: Sequence[Measurement], b: Sequence[Measurement], *, seed: int = 0) -> Comparison:
    """Compare stored measurements.

    Where both sides were measured in turn at least five times, the medians of each turn are a pair. Otherwise all
    samples of a side are put together, and the interval does not know how processes differ from each other.

    Args:
        a: of one model.
        b: of the other, on the same device and under the same conditions; a file of another format has another
            runtime.
        seed: of the intervals.

    Raises:
        InputError: a side has fewer than five timings, or the conditions differ.
    """
    _check_alike(a, b)
    first, second = _samples(a), _samples(b)
    if pairs := _pairs(a, b):
        ratio = paired_ratio([_median(left) for left, _ in pairs], [_median(right) for _, right in pairs], seed=seed)
    else:
        ratio = unpaired_ratio(first, second, seed=seed)
    return Comparison(
        a=summarize(first, seed=seed),
        b=summarize(second, seed=seed),
        ratio=ratio,
        throttled=sum(measurement.throttled for measurement in (*a, *b)),
    )


def _check_alike(a: Sequence[Measurement], b: Sequence[Measurement]) -> None:
    if not a or not b:
        raise InputError(f"a comparison needs measurements of both sides, not {len(a)} of A and {len(b)} of B")
    for name, value in _ALIKE.items():
        others = [value(measurement) for measurement in (*a, *b)]
        if other := [found for found in others if found != others[0]]:
            raise InputError(f"measurements of different {name} cannot be compared: {others[0]} and {other[0]}")
    for target in {measurement.target for measurement in a}:
        runtimes = sorted({measurement.runtime for measurement in (*a, *b) if measurement.target == target})
        if len(runtimes) > 1:
            raise InputError(f"measurements of different runtime cannot be compared: {' and '.join(runtimes)}")


def _name(device: DeviceInfo) -> str:
    known = (device.manufacturer, device.model, device.id, device.system)
    return ", ".join(part for part in known if part)


def _samples(measurements: Sequence[Measurement]) -> list[float]:
    return [sample for measurement in measurements for sample in measurement.samples_ms]


def _median(measurement: Measurement) -> float:
    return median(measurement.samples_ms)


def _pairs(a: Sequence[Measurement], b: Sequence[Measurement]) -> list[tuple[Measurement, Measurement]]:
    """Return the turns in which both were measured, or nothing if they were not measured in turn."""
    if len(a) != len(b) or len(a) < FEWEST:
        return []
    by_date = [sorted(side, key=lambda measurement: measurement.date) for side in (a, b)]
    pairs = list(zip(*by_date, strict=True))
    in_turn = all(max(one.date for one in before) < min(one.date for one in after) for before, after in pairwise(pairs))
    return pairs if in_turn else []
