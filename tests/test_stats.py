"""Statistics of timings, against numpy where it has them, against the plain definition where not."""

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbnet_zoo.errors import InputError
from fbnet_zoo.stats import (
    Ratio,
    bootstrap_interval,
    find_outliers,
    kendall,
    paired_ratio,
    spearman,
    summarize,
    trimmed_mean,
    unpaired_ratio,
    warmup_length,
)

timings = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60)
enough = st.lists(st.floats(0.01, 1e4), min_size=5, max_size=60)


def lognormal(seed: int, size: int, median: float = 10.0, sigma: float = 0.1) -> list[float]:
    generator = random.Random(seed)
    return [median * generator.lognormvariate(0, sigma) for _ in range(size)]


def percentile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


@given(timings)
def test_percentiles_and_means_are_those_of_the_definition(samples: list[float]) -> None:
    summary = summarize(samples)
    assert summary.count == len(samples)
    assert summary.median == pytest.approx(statistics.median(samples))
    assert summary.mean == pytest.approx(statistics.fmean(samples))
    for value, share in ((summary.p10, 0.1), (summary.p90, 0.9), (summary.p99, 0.99)):
        assert value == pytest.approx(percentile(samples, share))
    if len(samples) < 5:
        assert (summary.low, summary.high) == (None, None)
    else:
        assert (summary.low, summary.high) == bootstrap_interval(samples)


@given(timings)
def test_trimmed_mean_leaves_out_a_tenth_at_each_end(samples: list[float]) -> None:
    count = len(samples)
    kept = sorted(samples)[count // 10 : max(1, count * 9 // 10)]
    assert trimmed_mean(samples) == pytest.approx(statistics.fmean(kept))


def test_interval_agrees_with_a_plain_bootstrap() -> None:
    samples = lognormal(1, 30)
    generator = random.Random(2)
    medians = sorted(statistics.median(generator.choices(samples, k=len(samples))) for _ in range(4000))
    low, high = bootstrap_interval(samples, resamples=4000)
    assert low == pytest.approx(medians[100], rel=0.004)
    assert high == pytest.approx(medians[3900], rel=0.004)


def test_interval_holds_the_true_median_as_often_as_it_says() -> None:
    intervals = [bootstrap_interval(lognormal(seed, 25), resamples=400, seed=seed) for seed in range(300)]
    share = statistics.fmean(low <= 10.0 <= high for low, high in intervals)
    assert 0.90 <= share <= 0.99


@given(enough, st.integers(0, 5))
def test_interval_is_the_same_for_the_same_seed_and_grows_with_the_unit(samples: list[float], seed: int) -> None:
    interval = bootstrap_interval(samples, seed=seed)
    assert min(samples) <= interval[0] <= interval[1] <= max(samples)
    assert interval == bootstrap_interval(samples, seed=seed)
    doubled = bootstrap_interval([2 * sample for sample in samples], seed=seed)
    assert doubled == pytest.approx((2 * interval[0], 2 * interval[1]))


def test_interval_of_another_statistic() -> None:
    samples = lognormal(3, 50)
    low, high = bootstrap_interval(samples, statistic=lambda rows: rows.mean(axis=1), confidence=0.9)
    error = statistics.stdev(samples) / len(samples) ** 0.5
    mean = statistics.fmean(samples)
    assert (low, high) == pytest.approx((mean - 1.645 * error, mean + 1.645 * error), rel=0.02)


@given(timings)
def test_outliers_are_those_of_the_definition(samples: list[float]) -> None:
    median = statistics.median(samples)
    distances = [abs(sample - median) for sample in samples]
    spread = 1.4826 * statistics.median(distances) or 1.2533 * statistics.fmean(distances)
    clear = [number for number, distance in enumerate(distances) if distance > 3.5 * spread * (1 + 1e-9)]
    unclear = [number for number, distance in enumerate(distances) if distance > 3.5 * spread * (1 - 1e-9)]
    assert set(clear) <= set(find_outliers(samples)) <= set(unclear)


def test_outliers_among_equal_samples_are_found() -> None:
    assert find_outliers([5.0] * 20) == ()
    assert find_outliers([5.0] * 20 + [9.0]) == (20,)


@given(st.integers(0, 15), st.floats(1.2, 50))
def test_warmup_is_as_long_as_the_slow_start(slow: int, times: float) -> None:
    steady = [9.9, 10.0, 10.1] * 10
    assert warmup_length([times * sample for sample in steady[:slow]] + steady[slow:]) == slow


def test_warmup_of_short_and_of_steady_lists() -> None:
    assert warmup_length([7.0]) == 0
    assert warmup_length([7.0, 7.0]) == 0
    assert warmup_length([9.0, 7.0]) == 1
    assert warmup_length([10.0, 10.0, 99.0, 10.0, 10.0, 10.0]) == 0, "a late outlier is no warm-up"


def test_paired_ratio_sees_through_what_both_share() -> None:
    drift = np.linspace(1, 3, 20)
    noise = np.random.default_rng(0).normal(1, 0.002, size=(2, 20))
    ratio = paired_ratio((10 * drift * noise[0]).tolist(), (10.3 * drift * noise[1]).tolist())
    assert ratio.ratio == pytest.approx(1.03, abs=0.003)
    assert ratio.low < 1.03 < ratio.high
    assert ratio.differs
    assert ratio.pairs == 20
    assert not unpaired_ratio((10 * drift).tolist(), (10.3 * drift).tolist()).differs


def test_no_difference_is_shown_between_equals() -> None:
    wrong = sum(paired_ratio(lognormal(seed, 20), lognormal(seed + 1000, 20)).differs for seed in range(200))
    assert wrong <= 20, "the interval leaves 1 out in about one case of twenty"
    assert paired_ratio([1.0, 2.0] * 3, [1.0, 2.0] * 3).verdict == "no difference shown"


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=5, max_size=30))
def test_swapping_the_sides_keeps_the_verdict_of_clear_cases(pairs: list[tuple[float, float]]) -> None:
    a, b = [first for first, _ in pairs], [second for _, second in pairs]
    ratio = paired_ratio(a, b)
    assert ratio.low <= ratio.high
    assert min(second / first for first, second in pairs) <= ratio.low
    assert ratio.ratio == pytest.approx(statistics.median(second / first for first, second in pairs))
    assert paired_ratio(a, [3 * second for second in b]).ratio == pytest.approx(3 * ratio.ratio)


def test_unpaired_ratio_of_clearly_different_sides() -> None:
    ratio = unpaired_ratio(lognormal(1, 40), lognormal(2, 30, median=15.0))
    assert ratio.low < 1.5 < ratio.high
    assert ratio.pairs == 0
    assert "B takes" in ratio.verdict


def test_interval_that_touches_one_shows_nothing() -> None:
    assert not Ratio(ratio=1.1, low=1.0, high=1.2, pairs=9).differs


@pytest.mark.parametrize("levels", [2, 3, 50])
def test_rank_correlation_is_that_of_average_ranks(levels: int) -> None:
    """Equal values share the average of their places; the correlation is Pearson's."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(other < each for other in values) + sum(other == each for other in values) / 2 for each in values]

    a, b = np.random.default_rng(levels).integers(0, levels, (2, 12)).astype(float).tolist()
    assert spearman(a, b) == pytest.approx(np.corrcoef(ranks(a), ranks(b))[0, 1])
    assert spearman([1.0, 1.0, 2.0], [3.0, 3.0, 3.0]) == 0


@pytest.mark.parametrize("levels", [2, 3, 50])
def test_kendalls_correlation_counts_pairs(levels: int) -> None:
    """Concordant pairs minus discordant ones; a pair that is tied in one list counts for the other alone."""
    a, b = np.random.default_rng(levels).integers(0, levels, (2, 12)).astype(float).tolist()
    pairs = [(a[i] - a[j], b[i] - b[j]) for i in range(12) for j in range(i)]
    agree, differ = sum(x * y > 0 for x, y in pairs), sum(x * y < 0 for x, y in pairs)
    scale = math.sqrt(sum(x != 0 for x, _ in pairs) * sum(y != 0 for _, y in pairs))
    assert kendall(a, b) == pytest.approx((agree - differ) / scale)
    assert kendall([1.0, 1.0, 2.0], [3.0, 3.0, 3.0]) == 0


@pytest.mark.parametrize("samples", [[], [float("nan")], [1.0, float("inf")], [[1.0]]])
def test_lists_that_are_no_timings_are_refused(samples: list[float]) -> None:
    for function in (summarize, trimmed_mean, bootstrap_interval, find_outliers, warmup_length):
        with pytest.raises(InputError, match="at least one finite number"):
            function(samples)


def test_ratios_refuse_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="as many timings of A as of B, got 1 and 2"):
        paired_ratio([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="above 0"):
        paired_ratio([0.0] * 5, [1.0] * 5)
    with pytest.raises(InputError, match="above 0"):
        unpaired_ratio([1.0] * 5, [-1.0] * 5)
    for function in (paired_ratio, unpaired_ratio):
        with pytest.raises(InputError, match="4 timings are too few for a confidence interval; measure at least 5"):
            function([1.0] * 4, [1.0] * 4)
