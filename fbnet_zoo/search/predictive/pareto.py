"""Pareto sets of networks with several scores, all of them higher is better.

Non-dominated sorting and crowding are those of NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2),
2002, sections III-A and III-B); the hypervolume is computed by exclusive contributions (While, Bradstreet and Barone,
16(1), 2012).
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""Scores of networks, (networks, objectives)."""


def dominates(first: Scores, second: Scores) -> NDArray[np.bool_]:
    """Return which networks are better in one score and worse in none, (first networks, second networks)."""
    better, least = np.zeros((2, len(first), len(second)), dtype=np.bool_)
    least[:] = True
    for own, other in zip(first.T, second.T, strict=True):
        better |= own[:, None] > other
        least &= own[:, None] >= other
    return better & least


def ranks(scores: Scores) -> NDArray[np.int64]:
    """Return the number of each network's front, (networks,): 0 for those that none dominates.

    >>> ranks(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])).tolist()
    [0, 0, 1]
    """
    if scores.shape[1] == 1:
        return np.unique(-scores[:, 0], return_inverse=True)[1].astype(np.int64)
    beaten = dominates(scores, scores)
    found, by = np.full(len(scores), -1), beaten.sum(0)
    front = 0
    while (now := (by == 0) & (found < 0)).any():
        found[now] = front
        by = by - beaten[now].sum(0)
        front += 1
    return found


def crowding(scores: Scores, front: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far apart each network's neighbors in its front are, (networks,); infinite at the ends of a front."""
    total = np.zeros(len(scores))
    for values in scores.T:
        order = np.lexsort((values, front))
        inner, own = values[order], front[order]
        first = np.r_[True, own[1:] != own[:-1]]
        last = np.r_[first[1:], True]
        spans = (inner[last] - inner[first])[np.cumsum(first) - 1]
        gaps = np.r_[inner[1:], 0.0] - np.r_[0.0, inner[:-1]]
        shares = np.divide(gaps, spans, out=np.zeros(len(gaps)), where=spans > 0)
        total[order] += np.where(first | last, np.inf, shares)
    return total


def best_first(scores: Scores) -> NDArray[np.int64]:
    """Return the networks in order, (networks,): by front, within a front the least crowded first."""
    front = ranks(scores)
    return np.argsort(front, kind="stable") if scores.shape[1] == 1 else np.lexsort((-crowding(scores, front), front))


def undominated(scores: Scores) -> NDArray[np.int64]:
    """Return the networks that none dominates, one of each kind of equals, the largest sum of scores first."""
    left, found = np.argsort(-scores.sum(1), kind="stable"), []
    while len(left):
        found.append(left[0])
        left = left[(scores[left] > scores[left[0]]).any(1)]
    return np.array(found, dtype=np.int64)


def hypervolume(scores: Scores, reference: NDArray[np.float64]) -> float:
    """Return the volume that networks dominate above a reference point, (objectives,).

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
    3.0
    """
    above = scores[(scores > reference).all(1)]
    if scores.shape[1] == 1:
        return float((above - reference).max(initial=0.0))
    kept = above[undominated(above)]
    if scores.shape[1] == 2:
        width, height = (kept[np.argsort(-kept[:, 0])] - reference).T
        return float((width * np.diff(height, prepend=0.0)).sum())
    return sum(gained(each, kept[:at], reference) for at, each in enumerate(kept))


def gained(point: NDArray[np.float64], known: Scores, reference: NDArray[np.float64]) -> float:
    """Return the volume that a network with scores `point`, (objectives,), adds to that of known ones."""
    if not (point > reference).all():
        return 0.0
    return float((point - reference).prod()) - hypervolume(np.minimum(known, point), reference)
