"""Successive halving (Jamieson and Talwalkar, arXiv:1502.07943): poor networks of a batch are not trained to the end.

All are trained for a few epochs, the better part of them for longer, and so on; the last ones for all epochs.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from fbnet_zoo.search.config import Halving
from fbnet_zoo.search.evaluator import Outcome

Train = Callable[[Sequence[int], int], Iterable[Outcome]]
"""Trains the networks at some places of the batch for a number of epochs in total; the outcomes are in order."""

log = logging.getLogger(__name__)


def rungs(epochs: int, halving: Halving) -> Iterator[int]:
    """Yield the numbers of epochs after which networks are compared, and that of a whole training.

    >>> list(rungs(10, Halving(epochs=1, factor=3)))
    [1, 3, 9, 10]
    """
    reached = halving.epochs
    while reached < epochs:
        yield reached
        reached *= halving.factor
    yield epochs


def halved(count: int, epochs: int, halving: Halving, train: Train) -> list[Outcome]:
    """Train a batch of networks, the poor ones only for a part of the epochs; return the outcomes in order.

    Args:
        count: number of networks.
        epochs: number of epochs of a whole training.
        halving: when networks are compared, and how many go on.
        train: trains networks.
    """
    outcomes: dict[int, Outcome] = {}
    alive: Sequence[int] = range(count)
    for reached in rungs(epochs, halving):
        for done, (place, outcome) in enumerate(zip(alive, train(alive, reached), strict=True), start=1):
            outcomes[place] = outcome
            log.info("successive halving: %d of %d networks trained for %s", done, len(alive), _epochs(reached))
        if reached < epochs:
            alive = _better(alive, outcomes, halving.factor)
    return [outcomes[place] for place in range(count)]


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"


def _better(places: Sequence[int], outcomes: dict[int, Outcome], factor: int) -> list[int]:
    """Return the places of the better part of the networks, in order; of equal ones, the first."""
    known = {place: top1 for place in places if (top1 := outcomes[place].top1) is not None}
    kept = math.ceil(len(known) / factor)
    return sorted(sorted(known, key=lambda place: (-known[place], place))[:kept])
