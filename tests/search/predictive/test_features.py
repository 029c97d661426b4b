"""What a predictor sees of networks: equal networks look equal, and statistics are known of all."""

import numpy as np
import pytest
import torch

from fbnet_zoo.search.cost import macs_cost, params_cost
from fbnet_zoo.search.predictive.encoder import EncoderFeatures
from fbnet_zoo.search.predictive.features import DecisionFeatures, StatisticFeatures, joined, random_networks
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from tests.helpers.search_oracles import twins
from tests.helpers.search_spaces import nano_space

SPACES = pytest.mark.parametrize("name", ["fbnetv3", "chamnet", "fbnetv2_f", "digits_tiny"])


@SPACES
def test_options_of_a_decision_are_at_most_1_apart(name: str) -> None:
    encoding = Encoding(load_space(name))
    features = DecisionFeatures.of(encoding)
    for at, count in enumerate(encoding.counts):
        rows = np.zeros((count, len(encoding.counts)), dtype=np.int64)
        rows[:, at] = np.arange(count)
        seen = features(rows)
        distances = np.linalg.norm(seen[:, None] - seen, axis=2)
        assert distances.max() <= 1 + 1e-9


@SPACES
def test_different_networks_look_different_and_equal_ones_equal(name: str) -> None:
    encoding = Encoding(load_space(name))
    networks = np.unique(encoding.canonical(random_networks(encoding, 200, generator=np.random.default_rng(1))), axis=0)
    seen = DecisionFeatures.of(encoding)(networks)
    assert len(np.unique(seen, axis=0)) == len(networks)


def test_statistics_are_standardized_logarithms() -> None:
    encoding = Encoding(load_space("digits_masking"))
    costs = [macs_cost(encoding), params_cost(encoding)]
    features = StatisticFeatures.of(encoding, costs, seed=3)
    networks = random_networks(encoding, 1000, generator=np.random.default_rng(3))
    seen = features(networks)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-9)
    logs = np.log([costs[1].of(each) for each in networks[:20].tolist()])
    assert np.corrcoef(seen[:20, 1], logs)[0, 1] == pytest.approx(1)


def test_a_statistic_that_is_the_same_everywhere_says_nothing() -> None:
    encoding = Encoding(nano_space(), 16)
    costs = [macs_cost(encoding)]
    one = np.zeros((5, len(encoding.counts)), dtype=np.int64)
    features = StatisticFeatures(costs=tuple(costs), middle=np.log([costs[0].of(one[0])]), scale=np.ones(1))
    assert not features(one).any()


def test_the_encoder_learns_what_networks_cost_and_leaves_random_numbers_alone() -> None:
    encoding = Encoding(load_space("chamnet"))
    costs, before = [macs_cost(encoding), params_cost(encoding)], torch.get_rng_state()
    features = EncoderFeatures.pretrained(encoding, costs, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert features.error < 0.15  # of standard deviations, on networks that it was not trained with
    networks = random_networks(encoding, 300, generator=np.random.default_rng(5))
    seen = joined(features)(networks)
    assert seen.shape == (300, 24)
    assert 0.5 < seen.var(0).sum() < 2
    targets = StatisticFeatures.of(encoding, costs, seed=0)(networks)
    for target in targets.T:  # a linear function of the embedding
        fit = np.linalg.lstsq(np.column_stack((seen, np.ones(300))), target, rcond=None)[0]
        assert np.corrcoef(seen @ fit[:-1], target)[0, 1] > 0.98
    np.testing.assert_array_equal(EncoderFeatures.pretrained(encoding, costs, seed=0)(networks), features(networks))


def test_twins_have_categories() -> None:
    assert DecisionFeatures.of(twins())(np.zeros((1, 4), dtype=np.int64)).shape == (1, 24)
