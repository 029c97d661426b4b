"""Fronts, crowding and hypervolumes against counting by hand and against pymoo."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from fbnet_zoo.search.predictive.pareto import best_first, crowding, gained, hypervolume, ranks, undominated

Scores = NDArray[np.float64]
OBJECTIVES = pytest.mark.parametrize("objectives", [1, 2, 3, 4])


def points(count: int, objectives: int, seed: int = 0) -> Scores:
    """Scores with equal values, and equal networks, among them."""
    return np.random.default_rng(seed).integers(8, size=(count, objectives)).astype(np.float64)


def beats(first: Scores, second: Scores) -> bool:
    return bool((first >= second).all() and (first > second).any())


@OBJECTIVES
def test_fronts_are_peeled_one_after_another(objectives: int) -> None:
    scores = points(60, objectives)
    left, expected, front = set(range(60)), np.zeros(60, dtype=int), 0
    while left:
        now = {at for at in left if not any(beats(scores[other], scores[at]) for other in left)}
        expected[list(now)] = front
        left, front = left - now, front + 1
    assert ranks(scores).tolist() == expected.tolist()


@OBJECTIVES
def test_undominated_networks_are_one_of_each_kind(objectives: int) -> None:
    scores = points(60, objectives)
    found = scores[undominated(scores)].tolist()
    assert sorted(found) == sorted(np.unique(scores[ranks(scores) == 0], axis=0).tolist())


@pytest.mark.parametrize("objectives", [2, 3])
def test_crowding_is_that_of_pymoo(objectives: int) -> None:
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

    scores = np.random.default_rng(0).random((80, objectives))
    front = ranks(scores)
    found = crowding(scores, front)
    for number in range(front.max() + 1):
        own = scores[front == number]
        if len(own) > 2:  # all others are ends
            assert found[front == number] == pytest.approx(calc_crowding_distance(-own) * objectives)  # a mean there
    order = best_first(scores)
    for first, second in pairwise(order):
        assert (front[first], -found[first]) <= (front[second], -found[second])


@OBJECTIVES
def test_hypervolume_is_the_share_of_a_grid(objectives: int) -> None:
    """All scores are whole numbers: the cells of a grid that any network covers are counted."""
    scores, reference = points(12, objectives) - 1, np.zeros(objectives)
    cells = np.stack(np.meshgrid(*[np.arange(7) + 0.5] * objectives), -1).reshape(-1, objectives)
    covered = (scores[:, None] > cells).all(2).any(0)
    assert hypervolume(scores, reference) == pytest.approx(covered.sum())


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_is_that_of_pymoo(objectives: int) -> None:
    from pymoo.indicators.hv import HV

    scores = np.random.default_rng(1).random((50, objectives))
    reference = np.full(objectives, 0.1)
    expected = float(HV(ref_point=-reference)(-scores))
    assert hypervolume(scores, reference) == pytest.approx(expected)
    known = hypervolume(scores[:-10], reference)
    for at in range(40, 50):
        known += gained(scores[at], scores[:at], reference)
    assert known == pytest.approx(expected)


def test_no_network_covers_nothing() -> None:
    assert hypervolume(np.zeros((0, 2)), np.zeros(2)) == hypervolume(np.zeros((1, 3)), np.zeros(3)) == 0
