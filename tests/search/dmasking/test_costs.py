"""Costs of spaces with ranges: against whole networks, against enumeration, and their gradients."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.operators import Level, Operator, network_operators
from fbnet_zoo.latency.table import Calibration, LatencyTable, OperatorLatency, network_ms
from fbnet_zoo.search.dmasking.cost import (
    MaskedMetric,
    effective_shapes,
    masked_latency,
    masked_macs,
    masked_metric,
    masked_params,
)
from fbnet_zoo.search.dmasking.points import MaskedPoints
from fbnet_zoo.search.dmasking.prices import Counts
from fbnet_zoo.search.dnas.cost import latency_cost, macs_cost
from fbnet_zoo.search.dnas.points import positions_of
from fbnet_zoo.search.gradient.sampling import excess, log_probabilities, project
from fbnet_zoo.space import load_space
from fbnet_zoo.spec import ArchSpec
from tests.helpers.masked_spaces import every_position, masked_space
from tests.helpers.search_spaces import nano_space

COUNTS = pytest.mark.parametrize(("metric", "count"), [(masked_macs, "macs"), (masked_params, "params")])
Make = Callable[..., MaskedMetric]


def probabilities(metric: MaskedMetric, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(slot.values) for slot in metric.points.open_slots]
    return [torch.randn(size, generator=generator, dtype=torch.double).softmax(0) for size in sizes]


def one_hot(metric: MaskedMetric, positions: tuple[int, ...]) -> list[Tensor]:
    slots = metric.points.open_slots
    return [torch.eye(len(slot.values))[position] for slot, position in zip(slots, positions, strict=True)]


def small_table(level: Level = "block") -> LatencyTable:
    """A table with every operator of the networks of the small space, and a correction; times follow from shapes."""
    space = masked_space("small")
    found: set[Operator] = set()
    points = MaskedPoints(space)
    for positions in every_position(points):
        arch = space.decode(points.choices(positions))
        found |= {each for each in network_operators(arch, level=level, num_classes=4) if not each.is_free}
    operators = tuple(
        OperatorLatency(operator=each, median_ms=each.input_size**1.3 * each.in_channels**0.5 * each.out_channels**0.7)
        for each in sorted(found, key=str)
    )
    fit = Calibration(slope=1.5, intercept_ms=2.0, networks=5, mape=1.0, spearman=1.0, sum_mape=2.0)
    return LatencyTable(
        name="small",
        device=DeviceInfo(kind="host", id="none"),
        kind="estimate",
        level=level,
        source="made up",
        calibration=fit,
        operators=operators,
    )


class TestNetworks:
    @COUNTS
    @pytest.mark.parametrize("name", ["nano", "plain", "digits_masking", "fbnetv2_f"])
    def test_counts_are_exact(self, name: str, metric: Make, count: str) -> None:
        space = masked_space(name)
        found = metric(space, num_classes=7, in_channels=1)
        for seed in range(20):
            choices = space.sample(seed)
            positions = found.points.positions(choices)
            expected = getattr(cost(space.decode(choices), in_channels=1, num_classes=7), count)
            assert found.of(positions) == expected >= found.base
            if name != "fbnetv2_f":
                assert float(found.expected([mask.double() for mask in one_hot(found, positions)])) == expected

    @COUNTS
    def test_base_is_the_least_of_all(self, metric: Make, count: str) -> None:
        space = masked_space("small")
        found = metric(space, num_classes=4)
        costs = {}
        for positions in every_position(found.points):
            costs[positions] = getattr(cost(space.decode(found.points.choices(positions)), num_classes=4), count)
            assert found.of(positions) == costs[positions]
        assert found.base == min(costs.values()) == costs[found.fastest]

    def test_without_ranges_they_are_those_of_candidates(self) -> None:
        space = nano_space()
        ours, theirs = masked_macs(space, num_classes=4), macs_cost(space, num_classes=4)
        assert (ours.base, ours.name, ours.unit) == (theirs.base, theirs.name, theirs.unit)
        assert all(ours.of(each) == theirs.of(each) for each in every_position(ours.points))

    def test_latency_of_a_published_table(self) -> None:
        """Of differences to a skip, for a space without ranges."""
        space, table = load_space("fbnet_cifar"), find_table("pixel3")
        ours, theirs = masked_latency(space, table, num_classes=100), latency_cost(space, table, num_classes=100)
        assert ours.base == pytest.approx(theirs.base)
        for seed in range(3):
            positions = positions_of(space, space.sample(seed))
            assert ours.of(positions) == pytest.approx(theirs.of(positions))

    @pytest.mark.parametrize("level", ["block", "layer"])
    def test_latency_of_a_table_with_ranges(self, level: Level) -> None:
        space, table = masked_space("small"), small_table(level)
        found = masked_latency(space, table, num_classes=4)
        latencies = {}
        for positions in every_position(found.points)[::5]:
            arch = space.decode(found.points.choices(positions))
            latencies[positions] = network_ms(table, arch, num_classes=4)
            assert found.of(positions) == pytest.approx(latencies[positions], rel=1e-12)
        assert found.base <= min(latencies.values())

    def test_table_that_lacks_an_operator(self) -> None:
        with pytest.raises(InputError, match="the latency table pixel3 has no figure for"):
            masked_latency(masked_space("small"), find_table("pixel3"), num_classes=4)

    def test_what_does_not_add_up_is_refused(self) -> None:
        class Root(Counts):
            def whole(self, arch: ArchSpec) -> float:
                return math.sqrt(Counts.whole(self, arch))

        with pytest.raises(InputError, match=r"the macs of the network at .* its layers add up to"):
            masked_metric(masked_space("small"), Root(name="macs", in_channels=3, num_classes=4))


class TestExpectation:
    @COUNTS
    def test_is_that_over_all_networks(self, metric: Make, count: str) -> None:
        """Each network's own count, weighed with the product of its options' probabilities."""
        space = masked_space("small")
        found = metric(space, num_classes=4)
        shares = probabilities(found)
        total = 0.0
        for positions in every_position(found.points):
            weight = math.prod(float(share[each]) for share, each in zip(shares, positions, strict=True))
            choices = found.points.choices(positions)
            total += weight * getattr(cost(space.decode(choices), num_classes=4), count)
        assert float(found.expected(shares)) == pytest.approx(total, rel=1e-10)
        single = found.expected([share.float() for share in shares])
        assert single.dtype == torch.float32
        assert float(single) == pytest.approx(total, rel=1e-6)

    def test_of_masks_for_each_image_it_is_the_mean(self) -> None:
        found = masked_macs(masked_space("nano"), num_classes=4)
        each = [probabilities(found, seed) for seed in range(5)]
        rows = [torch.stack(masks) for masks in zip(*each, strict=True)]
        mean = sum(float(found.expected(masks)) for masks in each) / 5
        assert float(found.expected(rows)) == pytest.approx(mean)

    @COUNTS
    def test_gradients_are_the_finite_differences(self, metric: Make, count: str) -> None:
        found = metric(masked_space("nano"), num_classes=4)
        masks = [share.requires_grad_() for share in probabilities(found)]
        assert torch.autograd.gradcheck(lambda *own: found.expected(own) / found.base, masks, atol=1e-6)

    def test_effective_shapes_give_the_papers_formula_where_costs_are_linear(self) -> None:
        """k^2 h w C_in C_out of the stem's successor, a convolution, for one image size."""
        found = masked_macs(masked_space("plain"), num_classes=4)
        shares = probabilities(found)
        shapes = {shape.name: shape for shape in effective_shapes(found.points, shares)}
        widths = torch.tensor([6.0, 8.0, 10.0], dtype=torch.double)
        assert shapes["stages.2.1"].channels == pytest.approx(float(shares[2] @ widths))
        assert (shapes["stem"].channels, shapes["stem"].size, shapes["head"].size) == (8, 6, 1)
        only = [share.clone() for share in shares]
        only[found.points.open_slots.index(found.points.slots[8])] = torch.tensor([0.0, 1.0], dtype=torch.double)
        table = found.tables[3]
        full = found.points.full(only, torch.ones(1, dtype=torch.double))
        before, after = shapes["stages.2.1"], shapes["stages.4.0"]
        expected = 9 * after.size**2 * before.channels * after.channels
        assert float(table.expected(full)) == pytest.approx(expected)

    def test_effective_sizes(self) -> None:
        found = masked_macs(masked_space("nano"), num_classes=4)
        shares = probabilities(found)
        shapes = effective_shapes(found.points, shares)
        smaller, larger = shares[0].tolist()
        assert [shape.name for shape in shapes] == ["stem", "stages.2.0", "stages.4.0", "stages.4.1", "head"]
        sizes = [smaller * a + larger * b for a, b in ((6, 8), (6, 8), (3, 4), (3, 4))]
        assert [shape.size for shape in shapes] == pytest.approx([*sizes, 1])


class TestProjection:
    @pytest.mark.parametrize("seed", range(5))
    def test_reachable_limits_are_kept_where_no_single_change_saves(self, seed: int) -> None:
        """Skips between equal channels are cheapest together: a change of one of them costs a convolution."""
        found = masked_macs(masked_space("digits_masking"), num_classes=10)
        logs = log_probabilities(probabilities(found, seed))
        positions = found.points.positions(found.points.space.sample(seed))
        for factor in (1.0, 1.001, 1.05, 1.5):
            limits = {"macs": factor * found.base}
            kept = project(logs, positions, {"macs": found}, limits)
            assert kept is not None
            assert not excess(kept, {"macs": found}, limits)
