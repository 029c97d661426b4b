"""Costs of the networks of a space: one at a time, or a population at once.

Values equal those of `fbnet_zoo.cost` and of a latency table's sum to the last digit: LAT(a) = sum_l LAT(b_l) (FBNet,
Wu et al., arXiv:1812.03443). Block costs are computed once, for each combination of the values they depend on.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo import planner
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.layers import block_layers
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.search.cheapest import cheapest
from fbnet_zoo.search.prices import Counts, PeakActivations, Prices, Summands, TableLatency
from fbnet_zoo.search.terms import Term
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.slots import SIZE, STEM, EncodedLayer, EncodedRest
from fbnet_zoo.spec import ArchSpec

Measure = Callable[[ArchSpec], float]
"""Returns the cost of a network of the space."""

_CHECKED = 4
"""Number of networks on which the sum over blocks is checked against the cost of the whole network."""

_TOLERANCE = 1e-9

_AT_ONCE = 4096
"""Networks whose costs are added up at once, so that what is computed with stays in the processor's cache."""

_EXACT = 2.0**53
"""Sums of integers below it are exact in double precision, in any order."""


@dataclass(frozen=True, kw_only=True)
class CostMetric:
    """A cost of the networks of a space.

    Attributes:
        name: name of the cost, such as `latency`.
        unit: unit of all values.
        encoding: encoding of the space.
        terms: costs of stem, layers and head, in the order of summation.
        peak: whether the cost is the largest term instead of the sum.
        constant: cost of every network beside its terms.
        slope: factor on the sum of terms and constant.
        intercept: added after the factor.
    """

    name: str
    unit: str
    encoding: Encoding
    terms: tuple[Term, ...]
    peak: bool = False
    constant: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network."""
        full, total = self.encoding.full(positions, 0), 0.0
        for term in self.terms:
            for value in term.summands(full):
                total = max(total, value) if self.peak else total + value
        return self.slope * (self.constant + total) + self.intercept

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of a population, (networks,), each equal to the result of `of`.

        Args:
            population: positions, (networks, decisions).
        """
        rows = np.asarray(population)
        total = np.zeros(len(rows))
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE].T.astype(np.int64, order="C")
            own = total[start : start + _AT_ONCE]
            for term in self._tables:
                for values in term.columns(part):
                    self._join(own, values, out=own)
        return self.slope * (self.constant + total) + self.intercept

    @property
    def _join(self) -> np.ufunc:
        return np.maximum if self.peak else np.add

    @cached_property
    def _tables(self) -> tuple[Term, ...]:
        """The terms of the decisions, each with a single summand if the order of summation cannot change a digit."""
        tables = tuple(term.of_decisions(self.encoding.decided) for term in self.terms)
        exact = self.peak or (
            all((table.values == np.rint(table.values)).all() for table in tables)
            and sum(float(np.abs(table.values).sum(-1).max()) for table in tables) < _EXACT
        )
        return tuple(table.joined(self._join) for table in tables) if exact else tables

    @cached_property
    def cheapest(self) -> Positions:
        """Positions of the network with the lowest cost."""
        return cheapest(self.encoding, self.terms, join=self._join)

    @cached_property
    def dearest(self) -> Positions:
        """Positions of the network with the highest cost."""
        negated = tuple(replace(term, values=-term.values) for term in self.terms)
        return cheapest(self.encoding, negated, join=np.minimum if self.peak else np.add)

    @property
    def least(self) -> float:
        """The lowest cost of any network."""
        return self.of(self.cheapest)

    @property
    def most(self) -> float:
        """The highest cost of any network."""
        return self.of(self.dearest)


@dataclass(frozen=True, kw_only=True)
class AdditiveCost(CostMetric):
    """A cost that is a sum of independent contributions, one term for each decision, in order."""

    @cached_property
    def cheapest(self) -> Positions:
        """Positions of the network with the lowest cost."""
        return tuple(int(term.values.argmin()) for term in self.terms)

    @cached_property
    def dearest(self) -> Positions:
        """Positions of the network with the highest cost."""
        return tuple(int(term.values.argmax()) for term in self.terms)


def latency_cost(
    encoding: Encoding,
    table: LatencyTable,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    name: str = "latency",
) -> CostMetric:
    """Return the latency of a space's networks in ms, by a table with its correction.

    Args:
        encoding: encoding of the space.
        table: latency table of a device, with every operator of the space at its image sizes.
        num_classes: number of outputs of the classifier.
        in_channels: number of image channels.
        name: name of the cost (default: `latency`).

    Raises:
        InputError: the table lacks an operator, was measured with other classes or image channels, or gives the
            fastest network no latency above 0.
    """
    prices = TableLatency(table=table, in_channels=in_channels, num_classes=num_classes, name=name)
    fit, base = table.calibration, table.base_ms or 0.0
    slope, intercept = (1.0, 0.0) if fit is None else (fit.slope, fit.intercept_ms)
    metric = cost_metric(encoding, prices, constant=base, slope=slope, intercept=intercept)
    table.check_ms(metric.least)
    return metric


def macs_cost(encoding: Encoding, *, num_classes: int = 1000, in_channels: int = 3) -> CostMetric:
    """Return the multiply-accumulates of a space's networks for one image; arguments as in `latency_cost`.

    >>> from fbnet_zoo.space import load_space
    >>> metric = macs_cost(Encoding(load_space("digits_tiny")), num_classes=10)
    >>> metric.population([metric.cheapest]) == [metric.least]
    array([ True])
    """
    return cost_metric(encoding, Counts(name="macs", in_channels=in_channels, num_classes=num_classes))


def params_cost(encoding: Encoding, *, num_classes: int = 1000, in_channels: int = 3) -> CostMetric:
    """Return the number of trainable parameters of a space's networks; arguments as in `latency_cost`."""
    return cost_metric(encoding, Counts(name="params", in_channels=in_channels, num_classes=num_classes))


def memory_cost(encoding: Encoding, *, num_classes: int = 1000, in_channels: int = 3) -> CostMetric:
    """Return the peak activation memory of a space's networks, in values; arguments as in `latency_cost`."""
    return cost_metric(encoding, PeakActivations(in_channels=in_channels, num_classes=num_classes), peak=True)


def cost_metric(encoding: Encoding, prices: Prices, *, peak: bool = False, **affine: float) -> CostMetric:
    """Return a cost of a space's networks from the costs of their blocks; `affine` as in `CostMetric`.

    Raises:
        InputError: a block has no known cost, or the cost of a network is not the sum over its blocks.
    """
    terms = (_stem_term(encoding, prices), *_layer_terms(encoding, prices), _head_term(encoding, prices))
    metric = CostMetric(name=prices.name, unit=prices.unit, encoding=encoding, terms=terms, peak=peak, **affine)
    _check_samples(metric, prices.network)
    return metric


def additive_cost(encoding: Encoding, measure: Measure, *, name: str, unit: str) -> AdditiveCost:
    """Return a cost that is additive over decisions, found by changing one decision at a time.

    Args:
        encoding: encoding of the space.
        measure: returns the cost of a network.
        name: name of the cost.
        unit: unit of its values.

    Raises:
        InputError: the cost is not additive: changing several decisions does not add up.
    """
    first = [0] * len(encoding.counts)
    constant, terms = measure(encoding.definition(first)), []
    for at, (slot, count) in enumerate(zip(encoding.decided, encoding.counts, strict=True)):
        others = [[*first[:at], position, *first[at + 1 :]] for position in range(1, count)]
        beyond = [(0.0,), *((measure(encoding.definition(other)) - constant,) for other in others)]
        terms.append(Term.of((slot,), (count,), beyond))
    metric = AdditiveCost(name=name, unit=unit, encoding=encoding, terms=tuple(terms), constant=constant)
    _check_samples(metric, measure)
    return metric


@dataclass(frozen=True, kw_only=True)
class MeasuredCost:
    """A cost of whole networks that need not add up over anything; for the methods that evaluate networks.

    Attributes:
        name: name of the cost.
        unit: unit of its values.
        encoding: encoding of the space.
        measure: returns the cost of a network; it is asked once for each.
        cheapest: positions of the network with the fewest multiply-accumulates, which need not be that of lowest cost.
        least: 0, as the lowest cost is not known.
    """

    name: str
    unit: str
    encoding: Encoding
    measure: Measure
    cheapest: Positions
    least: float = 0.0
    _known: dict[Positions, float] = field(default_factory=dict)

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network.

        Raises:
            InputError: it is not a finite number.
        """
        network = tuple(self.encoding.canonical([tuple(positions)])[0].tolist())
        if network not in self._known:
            value = float(self.measure(self.encoding.definition(network)))
            if not math.isfinite(value):
                raise InputError(f"the {self.name} of the network at {network} is {value}; expected a finite number")
            self._known[network] = value
        return self._known[network]

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of a population, (networks,)."""
        return np.array([self.of(row) for row in np.asarray(population).tolist()])


def measured_cost(encoding: Encoding, measure: Measure, *, name: str, unit: str) -> MeasuredCost:
    """Return a cost of whole networks, for random search and evolution; arguments as in `additive_cost`."""
    cheapest = macs_cost(encoding).cheapest
    return MeasuredCost(name=name, unit=unit, encoding=encoding, measure=measure, cheapest=cheapest)


def _check_samples(metric: CostMetric, measure: Measure) -> None:
    encoding = metric.encoding
    for seed in range(_CHECKED):
        positions = encoding.positions(encoding.space.sample(seed))
        _check(metric, positions, measure(encoding.definition(positions)))


def _check(metric: CostMetric, positions: Positions, whole: float) -> None:
    total = metric.of(positions)
    if not abs(whole - total) <= _TOLERANCE * max(abs(whole), abs(total)):
        raise InputError(
            f"the {metric.name} of the network at {positions} is {whole:g} {metric.unit}, but its blocks add up to "
            f"{total:g}; a search needs a cost that adds up over blocks"
        )


def _stem_term(encoding: Encoding, prices: Prices) -> Term:
    stem = _frame(encoding, prices).stem
    stems = [replace(stem, out_channels=channels) for channels in encoding.slots[STEM].values]
    costs = [prices.block(each, sides[0]) for sides in encoding.sides for each in stems]
    return Term.of((SIZE, STEM), (len(encoding.sides), len(stems)), costs)


def _layer_terms(encoding: Encoding, prices: Prices) -> Iterator[Term]:
    """Yield the terms of the layers' blocks; equal layers share their values."""
    known: dict[object, Term] = {}
    for index, layer in enumerate(encoding.layers):
        before, after = (tuple(sides[at] for sides in encoding.sides) for at in (index + 1, index + 2))
        if not prices.sized:
            before, after = before[:1], after[:1]
        key = (tuple(layer.branches.values()), layer.before, layer.expansions, layer.se_ratios, layer.after, before)
        if key not in known:
            known[key] = _first_term(encoding, layer, before, prices)
        yield replace(known[key], axes=(SIZE, *layer.axes))
        if layer.rest is not None:
            yield _rest_term(encoding, layer, layer.rest, after, prices)


def _first_term(encoding: Encoding, layer: EncodedLayer, sides: Sequence[int], prices: Prices) -> Term:
    """Return the cost of the first block, by size, input channels, block, expansion, ratio and output channels."""
    parts = (layer.before, tuple(layer.branches.values()), layer.expansions, layer.se_ratios, layer.after)
    plans = [
        encoding.space.plan(branch.having(before, expansion, after, ratio))
        for before, branch, expansion, ratio, after in product(*parts)
    ]
    costs = [prices.block(plan, side) for side in sides for plan in plans]
    term = Term.of((SIZE, *layer.axes), (len(sides), *map(len, parts)), costs)
    return term.over_sizes(len(encoding.sides))


def _rest_term(
    encoding: Encoding, layer: EncodedLayer, rest: EncodedRest, sides: Sequence[int], prices: Prices
) -> Term:
    """Return the cost of one block after the first, by size, channels, kernel, expansion and ratio."""
    parts = (layer.after, rest.branches, rest.expansions, rest.se_ratios)
    plans = [
        encoding.space.plan(branch.having(channels, expansion, channels, ratio))
        for channels, branch, expansion, ratio in product(*parts)
    ]
    costs = [prices.block(plan, side) for side in sides for plan in plans]
    count, *axes = rest.axes
    term = Term.of((SIZE, *axes), (len(sides), *map(len, parts)), costs)
    return replace(term.over_sizes(len(encoding.sides)), repeated_by=count, repeats=rest.repeats)


def _head_term(encoding: Encoding, prices: Prices) -> Term:
    """Return the cost of head, pooling and classifier, by size, input channels and features."""
    frame, last = _frame(encoding, prices), encoding.layers[-1]
    heads = encoding.heads()
    costs = []
    for sides in encoding.sides:
        for row in heads:
            costs += [_head_price(replace(frame, head=head), sides[-1], prices) for head in row]
    return Term.of(
        (SIZE, last.axes[-1], len(encoding.slots) - 1), (len(encoding.sides), len(heads), len(heads[0])), costs
    )


def _head_price(network: NetworkPlan, side: int, prices: Prices) -> Summands:
    *_, last = block_layers("head", network.head, side)
    return (*prices.block(network.head, side), *prices.end(network, last.size_out))


def _frame(encoding: Encoding, prices: Prices) -> NetworkPlan:
    return planner.plan(encoding.space.frame, in_channels=prices.in_channels, num_classes=prices.num_classes)
