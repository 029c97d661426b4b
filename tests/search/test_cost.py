"""Costs of networks and populations: to the last digit those of whole networks, and the cheapest of all."""

import math
import random
from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest

from fbnet_zoo import complexity
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.operators import Level, Operator
from fbnet_zoo.latency.table import Calibration, LatencyTable, network_ms
from fbnet_zoo.planner import plan
from fbnet_zoo.search.cost import CostMetric, additive_cost, latency_cost, macs_cost, memory_cost, params_cost
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.space import Space, load_space
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse
from fbnet_zoo.spec import ArchSpec
from tests.helpers import latency_tables, masked_spaces, search_spaces, space_texts

SHARED = """\
name: shared
family: chamnet
summary: Image sizes, depths from 1 on, and blocks after the first that have the kernel or the expansion of the first.
input_size: [9, 16]
defaults: {op: ir, act: relu, keep_expand: true}
stem: {op: conv, k: 3, c: 4, s: 2}
stages:
  2:
    - {k: [3, 5], e: [1, 2], c: [4, 8], r: [1, 2]}
  4:
    - {k: 3, e: [1, 3], c: [8, 12], s: 2, r: [2, 4], se: 0.25, rest: {k: [3, 5]}}
head: {op: ir_pool, e: 2, c: 8}
"""
OWN = """\
name: own
family: fbnetv3
summary: Blocks after the first that have a kernel and an expansion of their own.
input_size: 16
defaults: {op: ir, act: relu}
stem: {op: conv, k: 3, c: 4, s: 2}
stages:
  2:
    - {k: [3, 5], e: 2, c: [4, 8], r: [2, 3], rest: {e: [1, 2]}}
  4:
    - {k: [3, 5], e: [1, 2], c: 8, s: 2, r: [2, 3], rest: {k: [3, 5], e: [1, 2]}}
head: {op: conv, k: 1, c: 12}
"""
TEXTS = {
    "shared": SHARED,
    "own": OWN,
    "squeezed": space_texts.SQUEEZED,
    "small_masked": masked_spaces.SMALL,
    "nano": search_spaces.NANO,
}

Make = Callable[..., CostMetric]
COUNTS: dict[str, Make] = {"macs": macs_cost, "params": params_cost, "peak_activations": memory_cost}
COUNTED = pytest.mark.parametrize("count", COUNTS)
LARGE = ("chamnet", "fbnetv3", "fbnet_cifar")
SPACES = [*TEXTS, "digits_masking", "digits_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
COUNTABLE = pytest.mark.parametrize("name", TEXTS)


def space_of(name: str) -> Space:
    return parse(TEXTS[name], f"{name}.yaml") if name in TEXTS else load_space(name)


def drawn(encoding: Encoding, count: int, seed: int = 0) -> list[Positions]:
    """Random positions, whatever their blocks take of them."""
    source = random.Random(seed)
    return [tuple(source.randrange(each) for each in encoding.counts) for _ in range(count)]


def every_position(encoding: Encoding) -> list[Positions]:
    return list(product(*map(range, encoding.counts)))


class Formula(LatencyTable):
    """A table of all operators: their times follow from shapes, and add up to other digits in another order."""

    def operator_ms(self, operator: Operator) -> float:
        if operator.is_free:
            return 0.0
        kernel, expansion = operator.kernel_size or 1, operator.expansion or 0.7
        size, channels = operator.input_size**1.3, operator.in_channels**0.5 * operator.out_channels**0.7
        return 1e-3 * size * channels * kernel**0.9 * expansion**0.8 + 0.1


def formula(level: Level = "block", *, calibrated: bool = False) -> Formula:
    usual = latency_tables.table(1.0, kind="estimate", level=level)
    fit = Calibration(slope=1.37, intercept_ms=0.21, networks=5, mape=1.0, spearman=1.0, sum_mape=2.0)
    return Formula.model_validate(usual.model_dump() | {"calibration": fit if calibrated else None})


class TestCounts:
    @COUNTED
    @pytest.mark.parametrize("name", SPACES)
    def test_are_those_of_the_networks(self, name: str, count: str) -> None:
        encoding = Encoding(space_of(name))
        metric, rows = COUNTS[count](encoding, num_classes=7, in_channels=1), drawn(encoding, 12)
        costs = [complexity.cost(encoding.definition(row), in_channels=1, num_classes=7) for row in rows]
        expected = [getattr(cost, count) for cost in costs]
        assert [metric.of(row) for row in rows] == expected
        assert metric.population(np.array(rows)).tolist() == expected
        assert metric.population(encoding.canonical(rows)).tolist() == expected
        assert metric.of(metric.cheapest) <= min(expected) <= max(expected) <= metric.of(metric.dearest)

    @COUNTED
    def test_are_those_at_another_image_size(self, count: str) -> None:
        encoding = CandidateEncoding(load_space("fbnet"), 40)
        metric, rows = COUNTS[count](encoding), drawn(encoding, 3)
        costs = [complexity.cost(encoding.space.decode(encoding.choices(row)), 40) for row in rows]
        assert metric.population(rows).tolist() == [getattr(cost, count) for cost in costs]

    def test_names_and_units(self) -> None:
        encoding = Encoding(space_of("nano"))
        found = [(metric.name, metric.unit) for metric in (make(encoding) for make in COUNTS.values())]
        assert found == [("macs", "MACs"), ("params", "parameters"), ("memory", "values")]

    def test_populations_of_any_length(self) -> None:
        metric = macs_cost(Encoding(space_of("own")))
        rows = drawn(metric.encoding, 1)
        assert metric.population(rows).shape == (1,)
        assert metric.population(np.zeros((0, len(rows[0])), dtype=np.int64)).shape == (0,)
        assert metric.population(rows * 300).tolist() == [metric.of(rows[0])] * 300

    def test_large_populations_of_small_integers(self) -> None:
        metric = latency_cost(Encoding(space_of("own")), formula("layer", calibrated=True), num_classes=4)
        rows = drawn(metric.encoding, 5000)
        known = {row: metric.of(row) for row in set(rows)}
        assert metric.population(np.array(rows, dtype=np.uint8)).tolist() == [known[row] for row in rows]


@cache
def counted(name: str) -> dict[Positions, complexity.Cost]:
    """The cost of every network of a space, each counted whole."""
    encoding = Encoding(space_of(name))
    return {row: complexity.cost(encoding.definition(row), num_classes=4) for row in every_position(encoding)}


class TestEnumeration:
    @COUNTED
    @COUNTABLE
    def test_every_network(self, name: str, count: str) -> None:
        costs = {positions: getattr(cost, count) for positions, cost in counted(name).items()}
        metric = COUNTS[count](Encoding(space_of(name)), num_classes=4)
        assert metric.population(list(costs)).tolist() == list(costs.values())
        assert metric.least == costs[metric.cheapest] == min(costs.values())
        assert metric.most == costs[metric.dearest] == max(costs.values())

    @pytest.mark.parametrize("level", ["block", "layer"])
    @COUNTABLE
    def test_latency_of_every_network(self, name: str, level: Level) -> None:
        encoding, table = Encoding(space_of(name)), formula(level, calibrated=True)
        metric, rows = latency_cost(encoding, table, num_classes=4), every_position(encoding)
        found = metric.population(rows)
        for row, value in list(zip(rows, found.tolist(), strict=True))[::11]:
            assert value == metric.of(row) == network_ms(table, encoding.definition(row), num_classes=4)
        assert metric.least == pytest.approx(found.min(), rel=1e-12)
        assert metric.most == pytest.approx(found.max(), rel=1e-12)


class TestLatency:
    @pytest.mark.parametrize(("level", "calibrated"), [("block", False), ("layer", True)])
    @pytest.mark.parametrize(("name", "size"), [("chamnet", 96), ("fbnetv3", 72), ("digits_masking", None)])
    def test_is_that_of_the_networks(self, name: str, size: int | None, level: Level, calibrated: bool) -> None:
        encoding, table = Encoding(space_of(name), size), formula(level, calibrated=calibrated)
        metric, rows = latency_cost(encoding, table, num_classes=7, in_channels=1), drawn(encoding, 12)
        definitions = [encoding.definition(row) for row in rows]
        plans = [plan(arch, in_channels=1, num_classes=7) for arch in definitions]
        pairs = zip(plans, definitions, strict=True)
        expected = [network_ms(table, network, arch.input_size) for network, arch in pairs]
        assert [metric.of(row) for row in rows] == expected
        assert metric.population(rows).tolist() == expected

    @pytest.mark.parametrize("kind", [Encoding, CandidateEncoding])
    @pytest.mark.parametrize("name", ["pixel3", "raspi4", "eyeriss", "fpga", "ethosu55_128_fbnet_cifar"])
    def test_is_that_of_the_shipped_tables(self, name: str, kind: type[Encoding]) -> None:
        """Four of differences to a skip, one with a correction."""
        encoding, table = kind(load_space("fbnet_cifar")), find_table(name)
        assert (table.calibration is not None) == name.startswith("ethosu") == (table.relative_to is None)
        metric, rows = latency_cost(encoding, table, num_classes=100), drawn(encoding, 12)
        expected = [network_ms(table, encoding.definition(row), num_classes=100) for row in rows]
        assert [metric.of(row) for row in rows] == expected
        assert metric.population(rows).tolist() == expected

    def test_is_that_of_a_corrected_relative_table(self) -> None:
        fit = Calibration(slope=2.1, intercept_ms=3.3, networks=5, mape=1.0, spearman=1.0, sum_mape=2.0)
        table = find_table("pixel3").model_copy(update={"calibration": fit})
        encoding = Encoding(load_space("fbnet_cifar"))
        metric, rows = latency_cost(encoding, table, num_classes=100), drawn(encoding, 5)
        expected = [network_ms(table, encoding.definition(row), num_classes=100) for row in rows]
        assert metric.population(rows).tolist() == expected

    @pytest.mark.parametrize("name", ["chamnet", "fbnetv3"])
    def test_table_that_lacks_an_operator(self, name: str) -> None:
        with pytest.raises(InputError, match="the latency table pixel3 has no figure for"):
            latency_cost(Encoding(load_space(name)), find_table("pixel3"))


class TestAdditive:
    SHARES = ((0.0, 1.25, 4.0), (3.0, 0.5, 0.0), (0.0, 2.0))

    def measure(self, arch: ArchSpec) -> float:
        positions = Encoding(space_of("nano")).positions(space_of("nano").encode(arch))
        return 10 + sum(shares[at] for shares, at in zip(self.SHARES, positions, strict=True))

    def test_is_what_is_measured(self) -> None:
        encoding = Encoding(space_of("nano"))
        metric, rows = additive_cost(encoding, self.measure, name="energy", unit="mJ"), every_position(encoding)
        expected = [self.measure(encoding.definition(row)) for row in rows]
        assert (metric.name, metric.unit) == ("energy", "mJ")
        assert [metric.of(row) for row in rows] == pytest.approx(expected)
        assert metric.population(rows).tolist() == [metric.of(row) for row in rows]
        assert (metric.cheapest, metric.dearest) == ((0, 2, 0), (2, 0, 1))
        assert (metric.least, metric.most) == pytest.approx((min(expected), max(expected)))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_no_number_is_refused(self, value: float) -> None:
        with pytest.raises(InputError, match="the energy of the network at"):
            additive_cost(Encoding(space_of("nano")), lambda _: value, name="energy", unit="mJ")
