"""Errors of predictions are those on networks that were not fitted: neither worse nor better."""

import numpy as np
import pytest

from fbnet_zoo.latency.calibration import calibrate
from fbnet_zoo.latency.predictor import evaluate, fit_predictor
from fbnet_zoo.stats import mape, spearman
from tests.helpers.latency_tables import published

NETWORKS = [operators for operators, _ in published()]
FITTED = 20


@pytest.fixture(scope="module")
def noisy() -> list[float]:
    """Latencies with a third of noise, which nothing predicts."""
    noise = np.random.default_rng(5).lognormal(0, 0.35, len(NETWORKS))
    return [latencies["raspi4"] * each for (_, latencies), each in zip(published(), noise, strict=True)]


def test_a_predictor_is_tested_on_the_others(noisy: list[float]) -> None:
    """The share of noise is an error from below and from above; on the fitted networks it would be smaller."""
    seeds = range(2)
    found = evaluate(NETWORKS, noisy, samples=FITTED, seeds=seeds)
    assert (found.samples, found.held_out) == (FITTED, len(NETWORKS) - FITTED)
    for seed, rank, error in zip(seeds, found.spearman, found.mape, strict=True):
        order = np.random.default_rng(seed).permutation(len(NETWORKS)).tolist()
        known, others = order[:FITTED], order[FITTED:]
        fitted = fit_predictor([NETWORKS[at] for at in known], [noisy[at] for at in known])
        inside = mape(fitted.predict([NETWORKS[at] for at in known]).tolist(), [noisy[at] for at in known])
        predicted = fitted.predict([NETWORKS[at] for at in others]).tolist()
        truth = [noisy[at] for at in others]
        assert error == pytest.approx(mape(predicted, truth))
        assert rank == pytest.approx(spearman(predicted, truth))
        assert 20 < error < 80
        assert inside < 0.95 * error


def test_a_calibration_is_tested_on_the_network_that_it_leaves_out() -> None:
    """Each error is that of a line through the others, written out."""
    generator = np.random.default_rng(2)
    sums = generator.uniform(1, 9, 6)
    measured = (2 * sums + 3) * generator.lognormal(0, 0.05, 6)
    found = calibrate(sums.tolist(), measured.tolist())
    predicted = []
    for left_out in range(6):
        rest = [at for at in range(6) if at != left_out]
        weights = 1 / measured[rest]
        slope, intercept = np.polyfit(sums[rest], measured[rest], 1, w=weights)
        predicted.append(slope * sums[left_out] + intercept)
    assert found.mape == pytest.approx(mape(predicted, measured.tolist()))
    assert found.spearman == pytest.approx(spearman(predicted, measured.tolist()))
    slope, intercept = np.polyfit(sums, measured, 1, w=1 / measured)
    assert (found.slope, found.intercept_ms) == (pytest.approx(slope), pytest.approx(intercept))
    assert mape((slope * sums + intercept).tolist(), measured.tolist()) < found.mape < found.sum_mape
