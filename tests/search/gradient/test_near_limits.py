"""Networks near the limits: the model of accuracies, what it proposes, and how near to the best network that leads."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fbnet_zoo.benchmarks.suites.constrained_optimum import NETWORKS, SHARES, STRENGTHS, Latency, Problem, searched
from fbnet_zoo.benchmarks.suites.constrained_optimum import SPACE as TEXT
from fbnet_zoo.search.gradient.accuracy_model import AccuracyModel
from fbnet_zoo.search.gradient.near_limits import Region, climbed, preferred, proposed
from fbnet_zoo.search.limits import NEAR
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse
from tests.helpers.marks import first_is_quick

EVEN = [[float(np.log(1 / 6))] * 6 for _ in range(7)]
PROBLEM = Problem(3)
LIMIT = PROBLEM.limit(0.35)


@pytest.fixture(scope="module")
def region() -> Region:
    encoding = Encoding(parse(TEXT, "space.yaml"))
    return Region(encoding=encoding, costs={"latency": Latency(PROBLEM)}, limits={"latency": LIMIT})


def values() -> list[np.ndarray]:
    """Percent that each option adds."""
    return list(np.random.default_rng(0).normal(0, 2, (7, 6)))


def accuracy(networks: np.ndarray) -> np.ndarray:
    return 60 + sum(each[networks[:, decision]] for decision, each in enumerate(values()))


def some(count: int, *, within: bool = False) -> list[Positions]:
    pool = NETWORKS[PROBLEM.costs <= LIMIT] if within else NETWORKS
    return [tuple(row) for row in np.random.default_rng(1).choice(pool, count, replace=False).tolist()]


def fitted(networks: Sequence[Positions], logs: Sequence[Sequence[float]] = EVEN, noise: float = 0.1) -> AccuracyModel:
    return AccuracyModel.fitted(logs, networks, accuracy(np.array(networks)).tolist(), noise=noise)


def predicted(model: AccuracyModel) -> np.ndarray:
    return sum((each[NETWORKS[:, at]] for at, each in enumerate(model.expected())), np.zeros(len(NETWORKS)))


class TestModel:
    def test_many_networks_give_what_each_option_adds(self) -> None:
        got, expected = predicted(fitted(some(400))), accuracy(NETWORKS)
        np.testing.assert_allclose(got - got.mean(), expected - expected.mean(), atol=0.5)

    def test_few_networks_are_read_in_the_light_of_theta(self) -> None:
        """The options are already in order of accuracy in theta; six evaluations determine the scale."""
        logs = [np.log(np.exp(each) / np.exp(each).sum()).tolist() for each in values()]
        got, expected = predicted(fitted(some(6), logs)), accuracy(NETWORKS)
        assert np.corrcoef(got, expected)[0, 1] > 0.95
        assert np.corrcoef(predicted(fitted(some(6))), expected)[0, 1] < 0.8

    def test_theta_that_is_wrong_is_not_believed(self) -> None:
        logs = [np.log(np.exp(-each) / np.exp(-each).sum()).tolist() for each in values()]
        assert np.corrcoef(predicted(fitted(some(60), logs)), accuracy(NETWORKS))[0, 1] > 0.9

    def test_draws_differ_less_the_more_is_known(self) -> None:
        def spread(count: int) -> float:
            model, generator = fitted(some(count), noise=1.0), np.random.default_rng(0)
            return float(np.std([np.concatenate(model.drawn(generator)) for _ in range(50)], axis=0).mean())

        assert spread(300) < spread(30) < spread(3)

    @pytest.mark.parametrize("count", [1, 2])
    def test_one_or_two_networks_are_enough(self, count: int) -> None:
        assert np.isfinite(predicted(fitted(some(count)))).all()


class TestPreferred:
    """Of 900 images and 64 %, the standard error is 1.6 %."""

    def networks(self, region: Region) -> tuple[Positions, Positions, Positions]:
        """Return a network far below the limit, one near it and one above it."""
        used = region.used(NETWORKS)
        kinds = (used < 0.9, (used > 0.96) & (used < 1), used > 1)
        return tuple(tuple(NETWORKS[np.flatnonzero(each)[0]].tolist()) for each in kinds)

    @pytest.mark.parametrize(("behind", "expected"), [(3.0, "near"), (3.5, "far")])
    def test_the_budget_is_spent_where_accuracies_cannot_be_told_apart(
        self, region: Region, behind: float, expected: str
    ) -> None:
        far, near, above = self.networks(region)
        found = preferred({far: 64.0, near: 64 - behind, above: 90.0}, region, 900)
        assert found == {"far": far, "near": near}[expected]

    def test_more_images_tell_more_apart(self, region: Region) -> None:
        far, near, _ = self.networks(region)
        assert preferred({far: 64.0, near: 62.0}, region, 900) == near
        assert preferred({far: 64.0, near: 62.0}, region, 9000) == far

    def test_no_network_within_the_limits(self, region: Region) -> None:
        *_, above = self.networks(region)
        assert preferred({above: 90.0}, region, 900) is None


def test_climbing_ends_at_the_best_within_the_limit(region: Region) -> None:
    """Of a sum without interactions, the best by enumeration; of several starts, most reach it and none passes it."""
    within = PROBLEM.costs <= LIMIT
    best = accuracy(NETWORKS)[within & (PROBLEM.costs >= NEAR * LIMIT)].max()
    ends = [climbed(values(), start, region, np.random.default_rng(0)) for start in some(10, within=True)]
    got = accuracy(np.array(ends))
    assert max(region.costs["latency"].of(end) for end in ends) <= LIMIT
    assert min(region.costs["latency"].of(end) for end in ends) >= NEAR * LIMIT
    assert got.max() == pytest.approx(best)
    assert np.median(got) > best - 1


class TestProposals:
    def test_are_new_near_the_limit_and_within_it(self, region: Region) -> None:
        known = dict(zip(some(12, within=True), accuracy(np.array(some(12, within=True))).tolist(), strict=True))
        found = proposed(fitted(list(known)), known, region, count=6, generator=np.random.default_rng(0))
        assert 1 <= len(set(found)) == len(found) <= 6
        assert not set(found) & set(known)
        assert all(NEAR * LIMIT <= region.costs["latency"].of(each) <= LIMIT for each in found)
        assert accuracy(np.array(found)).max() > max(known.values())

    def test_when_the_best_is_known_are_others_near_it(self, region: Region) -> None:
        start = climbed(values(), some(1, within=True)[0], region, np.random.default_rng(0))
        known = dict(
            zip([start, *some(400, within=True)], accuracy(np.array([start, *some(400, within=True)])), strict=True)
        )
        model = fitted(list(known), noise=1e-3)
        found = proposed(model, known, region, count=4, generator=np.random.default_rng(0))
        assert found
        assert not set(found) & set(known)

    def test_there_are_none_where_no_network_is_within_the_limits(self, region: Region) -> None:
        dearest = tuple(PROBLEM.cost.argmax(1).tolist())
        model = fitted([dearest])
        assert proposed(model, {dearest: 50.0}, region, count=4, generator=np.random.default_rng(0)) == []


@pytest.mark.parametrize(("strength", "share"), first_is_quick(itertools.product(reversed(STRENGTHS), SHARES)))
def test_a_search_finds_almost_the_best_and_spends_its_budget(strength: str, share: float) -> None:
    given: dict[str, Any] = {"share": share, "strength": STRENGTHS[strength], "candidates": 48}
    scores, used = np.transpose([searched(Problem(seed), **given) for seed in range(2)])
    assert scores.mean() > 0.95
    assert 0.95 < used.min() <= used.max() <= 1


@pytest.mark.slow
def test_networks_that_are_only_drawn_are_worse() -> None:
    given: dict[str, Any] = {"share": 0.15, "strength": STRENGTHS["gentle"]}
    drawn, all_ = ([searched(Problem(seed), candidates=count, **given)[0] for seed in range(2)] for count in (1, 48))
    assert sum(drawn) < sum(all_)
