"""Costs of spaces with ranges: against whole networks, against enumeration, and their gradients."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.operators import Level, Operator, network_operators
from fbnet_zoo.latency.table import Calibration, LatencyTable, OperatorLatency, network_ms
from fbnet_zoo.search.cost import CostMetric, cost_metric, latency_cost, macs_cost, params_cost
from fbnet_zoo.search.dmasking.cost import MaskedCost, effective_shapes
from fbnet_zoo.search.dnas.cost import CandidateCost
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.gradient.sampling import log_probabilities, project
from fbnet_zoo.search.limits import excess
from fbnet_zoo.search.prices import Counts
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import ArchSpec
from tests.helpers.masked_spaces import every_position, masked_space
from tests.helpers.search_spaces import nano_space, one_hot

COUNTS = pytest.mark.parametrize(("metric", "count"), [(macs_cost, "macs"), (params_cost, "params")])
Make = Callable[..., CostMetric]


def probabilities(encoding: Encoding, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, generator=generator, dtype=torch.double).softmax(0) for count in encoding.counts]


def small() -> Encoding:
    return Encoding(masked_space("small"))


def small_table(level: Level = "block") -> LatencyTable:
    """A table with every operator of the networks of the small space, and a correction; times follow from shapes."""
    encoding, found = small(), set[Operator]()
    for positions in every_position(encoding):
        operators = network_operators(encoding.definition(positions), level=level, num_classes=4)
        found |= {each for each in operators if not each.is_free}
    latencies = tuple(
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
        operators=latencies,
    )


class TestNetworks:
    @COUNTS
    @pytest.mark.parametrize(
        "name", ["nano", "plain", "digits_masking", pytest.param("fbnetv2_f", marks=pytest.mark.slow)]
    )
    def test_counts_are_exact(self, name: str, metric: Make, count: str) -> None:
        encoding = Encoding(masked_space(name))
        found = metric(encoding, num_classes=7, in_channels=1)
        masked = MaskedCost(metric=found)
        for seed in range(20):
            choices = encoding.space.sample(seed)
            positions = encoding.positions(choices)
            expected = getattr(cost(encoding.space.decode(choices), in_channels=1, num_classes=7), count)
            assert found.of(positions) == expected >= found.least
            if name != "fbnetv2_f":
                assert float(masked.expected([mask.double() for mask in one_hot(encoding, positions)])) == expected

    @COUNTS
    def test_least_is_that_of_all(self, metric: Make, count: str) -> None:
        encoding = small()
        found = metric(encoding, num_classes=4)
        costs = {}
        for positions in every_position(encoding):
            costs[positions] = getattr(cost(encoding.definition(positions), num_classes=4), count)
            assert found.of(positions) == costs[positions]
        assert found.least == min(costs.values()) == costs[found.cheapest]

    def test_without_ranges_they_are_those_of_candidates(self) -> None:
        ours, theirs = (macs_cost(kind(nano_space()), num_classes=4) for kind in (Encoding, CandidateEncoding))
        assert (ours.least, ours.name, ours.unit) == (theirs.least, theirs.name, theirs.unit)
        assert all(ours.of(each) == theirs.of(each) for each in every_position(ours.encoding))
        masks = probabilities(ours.encoding)
        expected = float(CandidateCost(metric=theirs).expected(masks))
        assert float(MaskedCost(metric=ours).expected(masks)) == pytest.approx(expected, rel=1e-12)

    def test_latency_of_a_published_table(self) -> None:
        """Of differences to a skip, for a space without ranges."""
        space, table = load_space("fbnet_cifar"), find_table("pixel3")
        ours, theirs = (latency_cost(kind(space), table, num_classes=100) for kind in (Encoding, CandidateEncoding))
        assert ours.least == theirs.least
        for seed in range(3):
            own, their = (each.encoding.positions(space.sample(seed)) for each in (ours, theirs))
            assert ours.of(own) == theirs.of(their)

    @pytest.mark.parametrize("level", ["block", "layer"])
    def test_latency_of_a_table_with_ranges(self, level: Level) -> None:
        encoding, table = small(), small_table(level)
        found = latency_cost(encoding, table, num_classes=4)
        latencies = {}
        for positions in every_position(encoding)[::5]:
            latencies[positions] = network_ms(table, encoding.definition(positions), num_classes=4)
            assert found.of(positions) == latencies[positions]
        assert found.least <= min(latencies.values())

    def test_latency_of_a_corrected_table_is_exact_in_masks(self) -> None:
        """Slope and intercept are part of it."""
        encoding = small()
        found = latency_cost(encoding, small_table(), num_classes=4)
        for positions in every_position(encoding)[::7]:
            masks = [mask.double() for mask in one_hot(encoding, positions)]
            assert float(MaskedCost(metric=found).expected(masks)) == pytest.approx(found.of(positions), rel=1e-12)

    def test_table_that_lacks_an_operator(self) -> None:
        with pytest.raises(InputError, match="the latency table pixel3 has no figure for"):
            latency_cost(small(), find_table("pixel3"), num_classes=4)

    def test_what_does_not_add_up_is_refused(self) -> None:
        class Root(Counts):
            def network(self, arch: ArchSpec) -> float:
                return math.sqrt(Counts.network(self, arch))

        with pytest.raises(InputError, match=r"the macs of the network at .* its blocks add up to"):
            cost_metric(small(), Root(name="macs", in_channels=3, num_classes=4))


class TestExpectation:
    @COUNTS
    def test_is_that_over_all_networks(self, metric: Make, count: str) -> None:
        """Each network's own count, weighed with the product of its options' probabilities."""
        encoding = small()
        found = MaskedCost(metric=metric(encoding, num_classes=4))
        shares = probabilities(encoding)
        total = 0.0
        for positions in every_position(encoding):
            weight = math.prod(float(share[each]) for share, each in zip(shares, positions, strict=True))
            total += weight * getattr(cost(encoding.definition(positions), num_classes=4), count)
        assert float(found.expected(shares)) == pytest.approx(total, rel=1e-10)
        single = found.expected([share.float() for share in shares])
        assert single.dtype == torch.float32
        assert float(single) == pytest.approx(total, rel=1e-6)

    def test_of_masks_for_each_image_it_is_the_mean(self) -> None:
        encoding = Encoding(masked_space("nano"))
        found = MaskedCost(metric=macs_cost(encoding, num_classes=4))
        each = [probabilities(encoding, seed) for seed in range(5)]
        rows = [torch.stack(masks) for masks in zip(*each, strict=True)]
        mean = sum(float(found.expected(masks)) for masks in each) / 5
        assert float(found.expected(rows)) == pytest.approx(mean)

    @COUNTS
    def test_gradients_are_the_finite_differences(self, metric: Make, count: str) -> None:
        found = metric(Encoding(masked_space("nano")), num_classes=4)
        masked, masks = MaskedCost(metric=found), [each.requires_grad_() for each in probabilities(found.encoding)]
        assert torch.autograd.gradcheck(lambda *own: masked.expected(own) / found.least, masks, atol=1e-6)

    def test_effective_shapes_give_the_papers_formula_where_costs_are_linear(self) -> None:
        """k^2 h w C_in C_out of the stem's successor, a convolution, for one image size."""
        found = macs_cost(Encoding(masked_space("plain")), num_classes=4)
        shares = probabilities(found.encoding)
        shapes = {shape.name: shape for shape in effective_shapes(found.encoding, shares)}
        widths = torch.tensor([6.0, 8.0, 10.0], dtype=torch.double)
        assert shapes["stages.2.1"].channels == pytest.approx(float(shares[2] @ widths))
        assert (shapes["stem"].channels, shapes["stem"].size, shapes["head"].size) == (8, 6, 1)
        only = [share.clone() for share in shares]
        at = [decision.name for decision in found.encoding.decisions].index("stages.4.0")
        only[at] = torch.tensor([0.0, 1.0], dtype=torch.double)
        layer = MaskedCost(metric=replace(found, terms=found.terms[3:4]))
        before, after = shapes["stages.2.1"], shapes["stages.4.0"]
        expected = 9 * after.size**2 * before.channels * after.channels
        assert float(layer.expected(only)) == pytest.approx(expected)

    def test_effective_sizes(self) -> None:
        encoding = Encoding(masked_space("nano"))
        shares = probabilities(encoding)
        shapes = effective_shapes(encoding, shares)
        smaller, larger = shares[0].tolist()
        assert [shape.name for shape in shapes] == ["stem", "stages.2.0", "stages.4.0", "stages.4.1", "head"]
        sizes = [smaller * a + larger * b for a, b in ((6, 8), (6, 8), (3, 4), (3, 4))]
        assert [shape.size for shape in shapes] == pytest.approx([*sizes, 1])


class TestProjection:
    @pytest.mark.parametrize("seed", range(5))
    def test_reachable_limits_are_kept_where_no_single_change_saves(self, seed: int) -> None:
        """Skips between equal channels are cheapest together: a change of one of them costs a convolution."""
        encoding = Encoding(masked_space("digits_masking"))
        found = macs_cost(encoding, num_classes=10)
        logs = log_probabilities(probabilities(encoding, seed))
        positions = encoding.positions(encoding.space.sample(seed))
        for factor in (1.0, 1.001, 1.05, 1.5):
            limits = {"macs": factor * found.least}
            kept = project(logs, positions, {"macs": found}, limits)
            assert kept is not None
            assert not excess(kept, {"macs": found}, limits)
