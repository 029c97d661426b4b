"""The predictor of accuracy against the formulas of Gaussian processes, written out."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.predictive.accuracy import AccuracyPredictor, Prediction, PredictorErrors
from fbnet_zoo.search.predictive.features import DecisionFeatures
from tests.helpers.search_oracles import accuracy, twins

NETWORKS = np.array(list(product(range(6), repeat=4)))
FEATURES = DecisionFeatures.of(twins())


def some(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(NETWORKS)[:count]


def judged(networks: np.ndarray, noise: float = 0.0, seed: int = 1) -> list[float]:
    drawn = np.random.default_rng(seed).normal(0, noise, len(networks)) if noise else np.zeros(len(networks))
    return [accuracy(each) + extra for each, extra in zip(networks.tolist(), drawn, strict=True)]


def fitted(networks: np.ndarray, noise: float = 0.5) -> tuple[AccuracyPredictor, np.ndarray]:
    top1 = judged(networks, noise)
    return AccuracyPredictor.fitted(FEATURES, networks, top1), np.array(top1)


def covariance(predictor: AccuracyPredictor) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The fitted kernel without noise, in percent squared."""
    return lambda a, b: predictor.process.kernel_.k1(FEATURES(a), FEATURES(b)) * predictor.scale**2


def posterior(
    predictor: AccuracyPredictor, known: np.ndarray, top1: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance without noise: Rasmussen and Williams, equations 2.23 and 2.24, about the predictor's mean."""
    kernel, noise = covariance(predictor), predictor.process.kernel_.k2.noise_level * predictor.scale**2
    inverse = np.linalg.inv(kernel(known, known) + (noise + 1e-10 * predictor.scale**2) * np.eye(len(known)))
    across = kernel(at, known)
    mean = predictor.middle + across @ inverse @ (top1 - predictor.middle)
    return mean, np.diagonal(kernel(at, at) - across @ inverse @ across.T)


def test_predictions_are_those_of_the_formula() -> None:
    known = some(30)
    predictor, top1 = fitted(known)
    mean, variance = posterior(predictor, known, top1, NETWORKS[:50])
    noise = predictor.process.kernel_.k2.noise_level * predictor.scale**2
    found = predictor.predict(NETWORKS[:50])
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.deviation**2, variance + noise, atol=1e-6)
    score = predictor.score(NETWORKS[:50], exploration=2.0)
    np.testing.assert_allclose(score, mean + 2 * np.sqrt(variance), atol=1e-6)


def test_errors_are_those_of_leaving_out_one_network_after_another() -> None:
    known = some(20)
    predictor, top1 = fitted(known)
    noise = predictor.process.kernel_.k2.noise_level * predictor.scale**2
    means, deviations = [], []
    for out in range(len(known)):
        kept = np.arange(len(known)) != out
        mean, variance = posterior(predictor, known[kept], top1[kept], known[out : out + 1])
        means.append(mean[0])
        deviations.append(np.sqrt(variance[0] + noise))
    expected = PredictorErrors.of(Prediction(mean=np.array(means), deviation=np.array(deviations)), top1.tolist())
    found = predictor.errors()
    assert found.mae == pytest.approx(expected.mae, abs=1e-6)
    assert (found.within_1, found.within_2) == (expected.within_1, expected.within_2)
    assert found.spearman == pytest.approx(expected.spearman)


@pytest.mark.parametrize("exploration", [0.0, 1.0, 5.0])
def test_a_batch_is_chosen_as_if_those_before_were_evaluated_as_predicted(exploration: float) -> None:
    known, pool = some(15), some(200, seed=9)
    predictor, top1 = fitted(known)
    found = predictor.batch(pool, 5, exploration=exploration)
    for count, row in enumerate(found):
        before = pool[found[:count]]
        believed = np.concatenate((top1, predictor.predict(before).mean)) if count else top1
        mean, variance = posterior(predictor, np.concatenate((known, before)), believed, pool)
        score = mean + exploration * np.sqrt(np.maximum(variance, 0))
        score[found[:count]] = -np.inf
        assert score[row] == pytest.approx(score.max(), abs=1e-5)


def test_a_batch_has_no_network_twice_and_at_most_all() -> None:
    predictor, _ = fitted(some(10))
    assert sorted(predictor.batch(NETWORKS[:4], 9, exploration=1.0)) == [0, 1, 2, 3]


def test_stated_deviations_are_right_on_average() -> None:
    """Of 300 networks whose accuracies are sums over decisions with noise of 1 point, learned from 60."""
    known, others = some(60), some(360)[60:]
    predictor, _ = fitted(known, noise=1.0)
    found = PredictorErrors.of(predictor.predict(others), judged(others, noise=1.0, seed=2))
    assert 0.55 < found.within_1 < 0.8
    assert 0.9 < found.within_2 <= 1
    assert found.spearman > 0.75


def test_equal_accuracies_are_predicted_everywhere() -> None:
    known = some(5)
    found = AccuracyPredictor.fitted(FEATURES, known, [70.0] * 5).predict(NETWORKS)
    np.testing.assert_allclose(found.mean, 70.0)
    assert np.isfinite(found.deviation).all()


def test_two_networks_are_too_few() -> None:
    with pytest.raises(InputError, match="needs at least 3 networks, got 2"):
        AccuracyPredictor.fitted(FEATURES, some(2), [50.0, 60.0])
