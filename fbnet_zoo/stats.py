"""Statistics of timings: center, spread, outliers and comparisons.

Bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), percentile method. Outliers: Iglewicz and
Hoaglin, How to Detect and Handle Outliers (1993), modified z-scores above 3.5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.errors import InputError

RESAMPLES = 2000
CONFIDENCE = 0.95
OUTLIER_SCORE = 3.5
FEWEST = 5
"""Fewer values are too few for a bootstrap interval: three have only ten distinct resamples."""

_DEVIATIONS_OF_MAD = 1.4826  # of a normal distribution: its standard deviation over its median absolute deviation
_DEVIATIONS_OF_MEAN = 1.2533  # the same, over its mean absolute deviation

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Summary statistics of timings, ms.

    Attributes:
        count: number of timings.
        low: lower end of the median's 95 % confidence interval; `None` for fewer than five timings.
        high: upper end of the same interval.
        trimmed_mean: mean of the middle 80 %.
        outliers: positions of outliers.
        warmup: number of slow timings at the start, compared with the second half; all statistics include them.
    """

    count: int
    median: float
    low: float | None
    high: float | None
    p10: float
    p90: float
    p99: float
    mean: float
    trimmed_mean: float
    outliers: tuple[int, ...]
    warmup: int


def summarize(samples: Sequence[float], *, seed: int = 0) -> Summary:
    """Return the summary statistics of timings, ms.

    Raises:
        InputError: the list is empty, or a timing is NaN or infinite.

    >>> summary = summarize([9.0, 10.0, 10.0, 11.0, 50.0])
    >>> summary.median, summary.outliers
    (10.0, (4,))
    """
    values = _checked(samples)
    p10, p90, p99 = np.percentile(values, (10, 90, 99))
    low, high = bootstrap_interval(samples, seed=seed) if len(values) >= FEWEST else (None, None)
    return Summary(
        count=len(values),
        median=float(np.median(values)),
        low=low,
        high=high,
        p10=float(p10),
        p90=float(p90),
        p99=float(p99),
        mean=float(values.mean()),
        trimmed_mean=trimmed_mean(samples),
        outliers=find_outliers(samples),
        warmup=warmup_length(samples),
    )


def trimmed_mean(samples: Sequence[float]) -> float:
    """Return the mean without the lowest and the highest tenth, as in ExecuTorch's benchmark app.

    >>> trimmed_mean([1, 2, 2, 2, 2, 2, 2, 2, 2, 99])
    2.0
    """
    values = np.sort(_checked(samples))
    return float(values[len(values) // 10 : max(1, len(values) * 9 // 10)].mean())


def bootstrap_interval(
    samples: Sequence[float],
    *,
    statistic: Callable[[Floats], Floats] = lambda resamples: np.median(resamples, axis=1),
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap confidence interval of a statistic.

    Args:
        samples: timings.
        statistic: function of an array `(resamples, len(samples))` that returns one value per row (default: median).
        confidence: confidence level (default: 0.95).
        resamples: number of resamples (default: 2000).
        seed: seed of the random resampling (default: 0).

    Raises:
        InputError: there are fewer than five samples, or one is NaN or infinite.
    """
    values = _checked(samples, fewest=FEWEST)
    return _interval(statistic(_redrawn(values, resamples, np.random.default_rng(seed))), confidence)


def find_outliers(samples: Sequence[float], *, score: float = OUTLIER_SCORE) -> tuple[int, ...]:
    """Return the positions of samples more than `score` robust standard deviations from the median.

    >>> find_outliers([10.0, 10.1, 9.9, 10.0, 30.0])
    (4,)
    """
    values = _checked(samples)
    distances = np.abs(values - np.median(values))
    return tuple(int(position) for position in np.flatnonzero(distances > score * _deviation(values)))


def warmup_length(samples: Sequence[float], *, score: float = OUTLIER_SCORE) -> int:
    """Return the number of slow samples at the start.

    A sample is slow if it exceeds the median of the second half by `score` robust standard deviations. The warm-up ends
    at the first sample that is not slow, and at the latest before the second half.

    >>> warmup_length([54.0, 12.0, 10.8, 10.9, 10.8, 10.7, 10.9, 10.8])
    2
    """
    values = _checked(samples)
    steady = values[len(values) // 2 :]
    slow = values[: len(values) // 2] > np.median(steady) + score * _deviation(steady)
    return int(np.argmin(np.append(slow, False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of B over time of A.

    Attributes:
        ratio: estimate; above 1, B is slower.
        low: lower end of its 95 % confidence interval.
        high: upper end of the same interval.
        pairs: number of pairs; 0 if the samples are not paired.
    """

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 1."""
        return not self.low <= 1 <= self.high

    @property
    def verdict(self) -> str:
        """The result in words.

        >>> Ratio(ratio=1.02, low=0.98, high=1.05, pairs=10).verdict
        'no difference shown'
        >>> Ratio(ratio=1.25, low=1.2, high=1.3, pairs=10).verdict
        'B takes 1.250 times as long as A (1.200 to 1.300)'
        """
        if not self.differs:
            return "no difference shown"
        return f"B takes {self.ratio:.3f} times as long as A ({self.low:.3f} to {self.high:.3f})"


def paired_ratio(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Ratio:
    """Compare paired timings: the median of `b / a` over the pairs, with a bootstrap interval.

    Raises:
        InputError: the lists have fewer than five values or different lengths, or a value is not positive and finite.

    >>> paired_ratio([10.0, 20.0, 40.0, 10.0, 20.0], [11.0, 22.0, 44.0, 11.0, 22.0]).verdict
    'B takes 1.100 times as long as A (1.100 to 1.100)'
    """
    if len(a) != len(b):
        raise InputError(f"expected as many timings of A as of B, got {len(a)} and {len(b)}")
    ratios = _positive(b) / _positive(a)
    low, high = bootstrap_interval(ratios.tolist(), seed=seed)
    return Ratio(ratio=float(np.median(ratios)), low=low, high=high, pairs=len(ratios))


def unpaired_ratio(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Ratio:
    """Compare unpaired timings: the ratio of the medians, with a bootstrap interval that resamples both sides.

    Raises:
        InputError: a list has fewer than five values, or a value is not positive and finite.
    """
    generator = np.random.default_rng(seed)
    first, second = _positive(a), _positive(b)
    medians = [np.median(_redrawn(values, RESAMPLES, generator), axis=1) for values in (first, second)]
    low, high = _interval(medians[1] / medians[0], CONFIDENCE)
    return Ratio(ratio=float(np.median(second) / np.median(first)), low=low, high=high, pairs=0)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation, -1 to 1; ties get their average rank, and a constant list has correlation 0.

    Raises:
        InputError: the lists have different lengths or fewer than two values, or a value is NaN or infinite.

    >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
    0.8
    """
    first, second = _paired(a, b)
    return _cosine(*(_ranks(values) - (len(values) - 1) / 2 for values in (first, second)))


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Kendall's rank correlation, tau-b, -1 to 1; a constant list has correlation 0.

    Raises:
        InputError: the lists have different lengths or fewer than two values, or a value is NaN or infinite.

    >>> round(kendall([1, 2, 3, 4], [10, 20, 40, 30]), 3)
    0.667
    """
    return _cosine(*(np.sign(np.subtract.outer(values, values)).ravel() for values in _paired(a, b)))


def mape(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """Return the mean absolute percentage error of predictions.

    Raises:
        InputError: the lists have different lengths, or a measured value is not positive.

    >>> mape([10.0, 30.0], [10.0, 20.0])
    25.0
    """
    first, second = _checked(predicted), _checked(measured)
    if len(first) != len(second) or (second <= 0).any():
        raise InputError("a percentage error needs as many predictions as measurements, and measurements above 0")
    return float(np.mean(np.abs(first / second - 1))) * 100


def _paired(a: Sequence[float], b: Sequence[float]) -> tuple[Floats, Floats]:
    first, second = _checked(a, fewest=2), _checked(b, fewest=2)
    if len(first) != len(second):
        raise InputError(f"a correlation needs two lists of the same length, got {len(first)} and {len(second)}")
    return first, second


def _cosine(left: Floats, right: Floats) -> float:
    scale = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / scale if scale else 0.0


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[inverse]


def _redrawn(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    return values[generator.integers(0, len(values), size=(resamples, len(values)))]


def _interval(statistics: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(statistics, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def _deviation(values: Floats) -> float:
    distances = np.abs(values - np.median(values))
    spread = _DEVIATIONS_OF_MAD * float(np.median(distances))
    return spread or _DEVIATIONS_OF_MEAN * float(distances.mean())  # more than half are equal


def _checked(samples: Sequence[float], *, fewest: int = 1) -> Floats:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError("timings must be a list of at least one finite number")
    if len(values) < fewest:
        raise InputError(f"{len(values)} timings are too few for a confidence interval; measure at least {fewest}")
    return values


def _positive(samples: Sequence[float]) -> Floats:
    values = _checked(samples, fewest=FEWEST)
    if (values <= 0).any():
        raise InputError("a ratio needs timings above 0")
    return values
