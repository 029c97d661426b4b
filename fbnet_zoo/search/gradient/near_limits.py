"""Networks near the limits, proposed by a model of accuracies: what P(theta) leaves of the budget is spent here.

The multipliers hold the expectation over P(theta) at a limit. The networks drawn from it lie on both sides, and those
that are cut down to the limit leave some of it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.search.gradient.accuracy_model import AccuracyModel, Values
from fbnet_zoo.search.limits import NEAR, Costs, Limits, population_excess, population_used
from fbnet_zoo.space.encoding import Encoding, Population, Positions

_PAIRS = 20_000
"""Largest number of pairs of changes that are looked at in a step."""

Accuracies = Mapping[Positions, float]
"""Evaluated network, in canonical form, to its accuracy, percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The networks of a space that are within limits.

    Attributes:
        encoding: encoding of the space.
        costs: costs, those that the limits name among them.
        limits: limits on them, at least one.
    """

    encoding: Encoding
    costs: Costs
    limits: Limits

    def holds(self, networks: Population) -> NDArray[np.bool_]:
        """Return whether each network is within the limits, (networks,)."""
        return population_excess(networks, self.costs, self.limits) == 0

    def used(self, networks: Population) -> NDArray[np.float64]:
        """Return the largest share of a limit that each network uses, (networks,)."""
        return population_used(networks, self.costs, self.limits)

    def near(self, network: Positions, generator: np.random.Generator) -> Population:
        """Return networks within the limits that differ from one in a decision or two; of the latter, some if many."""
        changed = _changed(np.array(network), [len(each.options) for each in self.encoding.decisions], generator)
        near = self.encoding.canonical(changed)
        return near[self.holds(near)]


def standard_error(top1: float, images: int) -> float:
    """Return the standard error, percent, of an accuracy in percent on some images; it is never taken for 0."""
    right = min(max(top1 / 100, 0.02), 0.98)
    return 100 * math.sqrt(right * (1 - right) / images)


def preferred(known: Accuracies, region: Region, images: int) -> Positions | None:
    """Return the most accurate network within the limits, or one near the limits that may be as accurate.

    Accuracies within two standard errors of the highest may be lower by chance, whereas what is left of the budget is
    certain.

    Args:
        known: evaluated networks.
        region: the limits.
        images: number of images that the accuracies were measured on.
    """
    within = [each for each in known if region.holds(np.array([each]))[0]]
    if not within:
        return None
    best = max(within, key=lambda each: known[each])
    least = known[best] - 2 * standard_error(known[best], images)
    near = [each for each in within if known[each] >= least and region.used(np.array([each]))[0] >= NEAR]
    return max(near, key=lambda each: known[each], default=best)


def proposed(
    model: AccuracyModel, known: Accuracies, region: Region, *, count: int, generator: np.random.Generator
) -> list[Positions]:
    """Return networks within the limits that are worth evaluating next; none if there is no other near the best.

    Args:
        model: fitted to the known accuracies.
        known: evaluated networks, in canonical form.
        region: where to look.
        count: largest number of networks.
        generator: source of random numbers.
    """
    within = [each for each in known if region.holds(np.array([each]))[0]]
    if not within:
        return []
    best = max(within, key=lambda each: known[each])
    values = itertools.chain([model.expected()], (model.drawn(generator) for _ in range(count - 1)))
    found = dict.fromkeys(climbed(each, best, region, generator) for each in values)
    new = [each for each in found if each not in known]
    return new or list(itertools.islice(_unknown(model.drawn(generator), best, known, region, generator), count))


def climbed(values: Values, start: Positions, region: Region, generator: np.random.Generator) -> Positions:
    """Return a network within the limits near which none has a higher predicted accuracy.

    The start must be within the limits.
    """
    here, scale = start, 100 * sum(float(np.ptp(each)) for each in values)

    def merit(networks: Population) -> NDArray[np.float64]:
        return _sums(values, networks) - scale * np.maximum(0.0, NEAR - region.used(networks))

    while len(near := region.near(here, generator)):
        merits = merit(near)
        if merits.max() <= merit(np.array([here]))[0] + 1e-9:
            break
        here = _positions(near[merits.argmax()])
    return here


def _unknown(
    values: Values, best: Positions, known: Accuracies, region: Region, generator: np.random.Generator
) -> Iterator[Positions]:
    """Yield networks near the best that are not known, the most accurate by the values first."""
    near = region.near(best, generator)
    near = near[region.used(near) >= NEAR]
    for row in near[np.argsort(-_sums(values, near), kind="stable")]:
        if (network := _positions(row)) not in known:
            yield network


def _positions(row: NDArray[np.int64]) -> Positions:
    return tuple(row.tolist())


def _sums(values: Values, networks: Population) -> NDArray[np.float64]:
    return np.sum([each[networks[:, decision]] for decision, each in enumerate(values)], axis=0)


def _changed(network: NDArray[np.int64], counts: Sequence[int], generator: np.random.Generator) -> Population:
    """Return the networks that differ in one decision or two; of the latter, some if there are many."""
    single = np.array([(at, to) for at, count in enumerate(counts) for to in range(count) if to != network[at]])
    first, second = np.triu_indices(len(single), 1)
    apart = single[first, 0] != single[second, 0]
    first, second = first[apart], second[apart]
    if len(first) > _PAIRS:
        some = generator.choice(len(first), _PAIRS, replace=False)
        first, second = first[some], second[some]
    near = np.tile(network, (len(single) + len(first), 1))
    rows = np.arange(len(near))
    near[rows[: len(single)], single[:, 0]] = single[:, 1]
    for half in (first, second):
        near[rows[len(single) :], single[half, 0]] = single[half, 1]
    return near
