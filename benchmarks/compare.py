"""Comparison of two models or files: the ratio of their times, with its confidence interval."""

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
        a: summary of all samples of A.
        b: summary of all samples of B.
        ratio: time of B over time of A.
        throttled: number of measurements during which the device was throttled.
    """

    a: Summary
    b: Summary
    ratio: Ratio
    throttled: int


def measure_pairs(
    measure: Callable[[ModelFile], Measurement], a: ModelFile, b: ModelFile, *, pairs: int = PAIRS
) -> Iterator[Measurement]:
    """Measure two models in turn, A B B A A B ..., so that slow drifts of the device affect both equally.

    Args:
        measure: function that times one model, such as `Device.run`.
        a: first model.
        b: second model.
        pairs: number of measurements of each (default: 10).

    Raises:
        InputError: there are fewer than five pairs.
    """
    if pairs < FEWEST:
        raise InputError(f"{pairs} pairs are too few for a confidence interval; measure at least {FEWEST}")
    for number in range(pairs):
        for model in (b, a) if number % 2 else (a, b):
            yield measure(model)


def compare(a: Sequence[Measurement], b: Sequence[Measurement], *, seed: int = 0) -> Comparison:
    """Compare stored measurements.

    If both sides were measured in turn at least five times, the two medians of each turn form a pair. Otherwise the
    samples of each side are pooled, and the interval does not account for differences between processes.

    Args:
        a: measurements of the first model.
        b: measurements of the second model, on the same device and under the same conditions; the runtime may differ
            only if the format does.
        seed: seed of the bootstrap (default: 0).

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
        raise InputError(f"a comparison needs measurements of both sides, got {len(a)} of A and {len(b)} of B")
    for name, value in _ALIKE.items():
        others = [value(measurement) for measurement in (*a, *b)]
        if other := [found for found in others if found != others[0]]:
            raise InputError(f"measurements that differ in {name} cannot be compared: {others[0]} and {other[0]}")
    for target in {measurement.target for measurement in a}:
        runtimes = sorted({measurement.runtime for measurement in (*a, *b) if measurement.target == target})
        if len(runtimes) > 1:
            raise InputError(f"measurements that differ in runtime cannot be compared: {' and '.join(runtimes)}")


def _name(device: DeviceInfo) -> str:
    known = (device.manufacturer, device.model, device.id, device.system)
    return ", ".join(part for part in known if part)


def _samples(measurements: Sequence[Measurement]) -> list[float]:
    return [sample for measurement in measurements for sample in measurement.samples_ms]


def _median(measurement: Measurement) -> float:
    return median(measurement.samples_ms)


def _pairs(a: Sequence[Measurement], b: Sequence[Measurement]) -> list[tuple[Measurement, Measurement]]:
    """Return one pair per turn, or an empty list if the two sides were not measured in turn."""
    if len(a) != len(b) or len(a) < FEWEST:
        return []
    by_date = [sorted(side, key=lambda measurement: measurement.date) for side in (a, b)]
    pairs = list(zip(*by_date, strict=True))
    in_turn = all(max(one.date for one in before) < min(one.date for one in after) for before, after in pairwise(pairs))
    return pairs if in_turn else []
