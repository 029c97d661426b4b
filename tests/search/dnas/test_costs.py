"""Masks, costs, the objective, and the projection to limits."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.table import network_ms
from fbnet_zoo.search.cost import AdditiveCost, additive_cost, latency_cost, macs_cost, params_cost
from fbnet_zoo.search.dnas.cost import CandidateCost
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.gradient.config import Multipliers, ProductPenalty, SumPenalty, Temperature
from fbnet_zoo.search.gradient.gumbel import draw_masks, gumbel_noise
from fbnet_zoo.search.gradient.objective import Objective
from fbnet_zoo.search.gradient.sampling import draw_positions, log_probabilities, log_probability, project
from fbnet_zoo.search.limits import excess
from fbnet_zoo.search.terms import Term
from fbnet_zoo.space import load_space
from fbnet_zoo.spec import ArchSpec
from tests.helpers.search_spaces import POINTS, nano_space, nano_supernet, one_hot


def additive(name: str, unit: str, constant: float, *layers: tuple[float, ...]) -> AdditiveCost:
    """Return a cost of the nano space: `constant` and, for each layer, what its candidate costs."""
    encoding = CandidateEncoding(nano_space())
    pairs = zip(encoding.decided, layers, strict=True)
    terms = tuple(Term.of((slot,), (len(costs),), [(cost,) for cost in costs]) for slot, costs in pairs)
    return AdditiveCost(name=name, unit=unit, encoding=encoding, terms=terms, constant=constant)


METRIC = additive("latency", "ms", 2.0, (0.0, 1.5, 0.5), (4.0, 0.0, 1.0), (0.0, 3.0))
COST = CandidateCost(metric=METRIC)
THETA = [torch.tensor(values) for values in ([0.3, -0.2, 1.0], [0.0, 0.5, -1.0], [2.0, 0.0])]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestMasks:
    def test_largest_is_drawn_with_its_probability(self) -> None:
        """The maximum of theta + Gumbel noise is a draw from softmax(theta)."""
        noise = gumbel_noise(THETA, generator(), images=20_000)
        for theta, mask in zip(THETA, draw_masks(THETA, noise, 1.0), strict=True):
            assert mask.shape == (20_000, len(theta))
            drawn = F.one_hot(mask.argmax(-1), len(theta)).float()
            torch.testing.assert_close(drawn.mean(0), theta.softmax(0), rtol=0, atol=0.015)

    @pytest.mark.parametrize("temperature", [5.0, 0.3])
    def test_soft_masks_are_the_formula(self, temperature: float) -> None:
        noise = gumbel_noise(THETA, generator())
        for theta, drawn, mask in zip(THETA, noise, draw_masks(THETA, noise, temperature), strict=True):
            powers = [math.exp((float(t) + float(g)) / temperature) for t, g in zip(theta, drawn, strict=True)]
            assert mask.tolist() == pytest.approx([power / sum(powers) for power in powers])

    def test_same_generator_same_draw(self) -> None:
        first, same, other = (gumbel_noise(THETA, generator(seed)) for seed in (0, 0, 1))
        assert all(map(torch.equal, first, same))
        assert not any(map(torch.equal, first, other))

    def test_temperature(self) -> None:
        paper = [Temperature().at(epoch) for epoch in range(91)]
        assert paper[0] == 5.0
        assert paper[1] / paper[0] == pytest.approx(0.956, abs=1e-3)
        assert paper[90] == pytest.approx(0.087, abs=1e-3)
        assert Temperature(start=1.0, decay=0.5, floor=0.3).at(2) == 0.3


class TestCosts:
    @pytest.mark.parametrize("seed", range(3))
    def test_latency_is_that_of_the_table(self, seed: int) -> None:
        space, table = load_space("fbnet_cifar"), find_table("pixel3")
        choices, encoding = space.sample(seed), CandidateEncoding(space)
        expected = network_ms(table, space.decode(choices), num_classes=100)
        found = latency_cost(encoding, table, num_classes=100).of(encoding.positions(choices))
        assert found == expected

    @pytest.mark.parametrize(("metric", "count"), [(macs_cost, "macs"), (params_cost, "params")])
    def test_counts_are_exact(self, metric: type, count: str) -> None:
        encoding = CandidateEncoding(nano_space(), 24)
        found = metric(encoding, num_classes=4, in_channels=1)
        values = {}
        for positions in POINTS:
            counted = cost(encoding.definition(positions), in_channels=1, num_classes=4)
            values[positions] = getattr(counted, count)
            assert found.of(positions) == values[positions]
        assert found.least == values[found.cheapest] == min(values.values())
        assert found.most == values[found.dearest] == max(values.values())

    def test_calibration_is_part_of_it(self) -> None:
        table = find_table("pixel3")
        fit = {"slope": 2.0, "intercept_ms": 3.0, "networks": 5, "mape": 1.0, "spearman": 1.0, "sum_mape": 2.0}
        calibrated = type(table).model_validate(table.model_dump() | {"calibration": fit})
        encoding = CandidateEncoding(load_space("fbnet_cifar"))
        plain, own = (latency_cost(encoding, each, num_classes=100) for each in (table, calibrated))
        assert own.dearest == plain.dearest
        assert own.most == pytest.approx(2 * plain.most + 3)
        for position, beyond in enumerate(CandidateCost(metric=plain).beyond):
            assert CandidateCost(metric=own).beyond[position] == pytest.approx([2 * each for each in beyond])

    def test_expectation_is_that_over_all_networks(self) -> None:
        shares = [theta.double().softmax(0) for theta in THETA]
        total = sum(float(shares[0][a] * shares[1][b] * shares[2][c]) * METRIC.of((a, b, c)) for a, b, c in POINTS)
        assert float(COST.expected(shares)) == pytest.approx(total)
        assert COST.expected(shares).dtype == torch.float64

    def test_one_hot_masks_cost_what_the_network_does(self) -> None:
        supernet = nano_supernet()
        rows = [
            torch.stack(masks) for masks in zip(*(one_hot(supernet.encoding, each) for each in POINTS), strict=True)
        ]
        for positions in POINTS:
            assert float(COST.expected(one_hot(supernet.encoding, positions))) == METRIC.of(positions)
        mean = sum(map(METRIC.of, POINTS)) / len(POINTS)
        assert float(COST.expected(rows)) == pytest.approx(mean)

    def test_what_does_not_add_up_is_refused(self) -> None:
        def root(arch: ArchSpec) -> float:
            return cost(arch).macs ** 0.5

        with pytest.raises(
            InputError, match=r"the root of the network at .* its blocks add up to .* adds up over blocks"
        ):
            additive_cost(CandidateEncoding(nano_space()), root, name="root", unit="MACs")


def objective(
    penalty: ProductPenalty | SumPenalty | None, limits: dict[str, float] | None = None, **keeping: float
) -> Objective:
    return Objective([METRIC], penalty, limits or {}, Multipliers(**keeping))


class TestObjective:
    LOSSES = pytest.mark.parametrize(
        ("penalty", "slope"),
        [
            (ProductPenalty(unit=0.5), lambda ce, lat: ce * 0.2 * 0.6 * math.log(lat / 0.5) ** -0.4 / lat),
            (ProductPenalty(), lambda ce, lat: ce * 0.2 * 0.6 * math.log(1000 * lat) ** -0.4 / lat),
            (SumPenalty(alpha=0.3, beta=0.5), lambda _, lat: 0.3 * 0.5 * lat**-0.5),
        ],
    )

    @LOSSES
    def test_gradient_of_theta_is_the_analytic_one(self, penalty: ProductPenalty | SumPenalty, slope: object) -> None:
        """dL/dtheta_j = dL/dLAT * m_j (c_j - sum_i m_i c_i) / tau, for a cross-entropy that stays."""
        assert callable(slope)
        theta = [each.double().requires_grad_() for each in THETA]
        masks = draw_masks(theta, gumbel_noise(theta, generator()), 1.7)
        latency, ce = COST.expected(masks), torch.tensor(1.3, dtype=torch.float64)
        loss = objective(penalty)(ce, {"latency": latency}, {}, torch.zeros(0))
        for mask, costs, found in zip(masks, COST.beyond, torch.autograd.grad(loss, theta), strict=True):
            own = torch.tensor(costs, dtype=torch.float64)
            expected = slope(1.3, latency.item()) * mask * (own - (mask * own).sum()) / 1.7
            torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)

    def test_value_of_equation_2(self) -> None:
        loss = objective(ProductPenalty())(torch.tensor(2.0), {"latency": torch.tensor(20.0)}, {}, torch.zeros(0))
        assert float(loss) == pytest.approx(2.0 * 0.2 * math.log(20_000) ** 0.6)

    @pytest.mark.parametrize("penalty", [ProductPenalty(), SumPenalty(), None])
    def test_gradient_of_theta_is_the_finite_difference(self, penalty: ProductPenalty | SumPenalty | None) -> None:
        """Through the whole supernet, where the masks mix the outputs and weigh the costs."""
        supernet = nano_supernet().double().eval()
        images, classes = torch.randn(3, 3, 16, 16, dtype=torch.float64, generator=generator()), torch.tensor([0, 1, 3])
        noise = gumbel_noise(supernet.theta, generator(1))
        loss = objective(penalty, {"latency": 2.1})

        def run(*theta: Tensor) -> Tensor:
            masks = draw_masks(theta, noise, 2.0)
            ce = F.cross_entropy(supernet(images, masks), classes)
            expected = {"latency": COST.expected([each.softmax(-1) for each in theta])}
            return loss(ce, {"latency": COST.expected(masks)}, expected, torch.tensor([0.4], dtype=torch.float64))

        theta = [each.double().requires_grad_() for each in THETA]
        assert torch.autograd.gradcheck(run, theta, eps=1e-6, atol=1e-6)

    def test_multipliers_find_the_constrained_optimum(self) -> None:
        """Of (x - 3)^2 with x at most 1: x = 1, and lambda = 4, the slope there."""
        keeping, x, multipliers = Multipliers(rate=0.1), torch.tensor(2.0, requires_grad=True), torch.zeros(1)
        for _ in range(600):
            over = (x - 1)[None]
            (slope,) = torch.autograd.grad((x - 3) ** 2 + keeping(over, multipliers), x)
            multipliers = keeping.updated(over, multipliers)
            x = (x - 0.05 * slope).detach().requires_grad_()
        assert x.item() == pytest.approx(1, abs=1e-3)
        assert float(multipliers) == pytest.approx(4, abs=1e-2)

    def test_limit_that_is_kept_costs_nothing(self) -> None:
        loss = objective(None, {"latency": 10.0})
        costs = {"latency": torch.tensor(4.0)}
        assert float(loss(torch.tensor(1.5), costs, costs, torch.zeros(1))) == 1.5
        assert loss.updated(costs, torch.zeros(1)).tolist() == [0.0]

    def test_limits_come_down_step_by_step(self) -> None:
        loss = objective(None, {"latency": 2.0}, approach=0.5)
        limits = [loss.easing({"latency": 6.0}, done)["latency"] for done in (0.0, 0.25, 0.5, 1.0)]
        assert limits == [6.0, 4.0, 2.0, 2.0]
        assert loss.easing({"latency": 1.5}, 0.0) == {"latency": 2.0}
        costs, eased = {"latency": torch.tensor(4.0)}, {"latency": 4.0}
        assert float(loss(torch.tensor(1.5), costs, costs, torch.zeros(1), eased)) == 1.5
        assert float(loss(torch.tensor(1.5), costs, costs, torch.zeros(1))) > 1.5

    def test_unreachable_limit_ends_at_once(self) -> None:
        with pytest.raises(InputError, match=r"satisfies latency <= 1\.9 ms: the lowest is 2 ms; raise the limit"):
            objective(None, {"latency": 1.9})
        objective(None, {"latency": 2.0})

    def test_limit_on_something_else(self) -> None:
        with pytest.raises(InputError, match="a limit is on 'macs', which is not a known cost; expected latency"):
            objective(None, {"macs": 5.0})

    def test_unit_that_is_too_large(self) -> None:
        with pytest.raises(InputError, match="of any network is 2 ms, not above the penalty's unit of 3 ms"):
            objective(ProductPenalty(unit=3.0))


class TestSampling:
    LOGS = log_probabilities(THETA)

    def test_probabilities_add_up(self) -> None:
        assert sum(math.exp(log_probability(self.LOGS, positions)) for positions in POINTS) == pytest.approx(1)

    def test_draws_follow_them(self) -> None:
        source = generator()
        counts = Counter(draw_positions(THETA, source) for _ in range(4000))
        for positions in POINTS:
            share = math.exp(log_probability(self.LOGS, positions))
            assert counts[positions] / 4000 == pytest.approx(share, abs=0.03)

    @pytest.mark.parametrize("limit", [2.0, 2.6, 4.0, 5.5, 9.0, 20.0])
    @pytest.mark.parametrize("positions", POINTS[::5], ids=str)
    def test_projection_keeps_the_limit_as_near_as_one_change_gets(
        self, positions: tuple[int, ...], limit: float
    ) -> None:
        metrics, limits = {"latency": METRIC}, {"latency": limit}
        found = project(self.LOGS, positions, metrics, limits)
        assert found is not None
        assert METRIC.of(found) <= limit
        for other in POINTS:
            if sum(a != b for a, b in zip(found, other, strict=True)) == 1 and METRIC.of(other) <= limit:
                assert log_probability(self.LOGS, other) <= log_probability(self.LOGS, found)

    def test_limits_that_no_network_keeps_together(self) -> None:
        other = additive("params", "parameters", 1.0, (9.0, 0.0, 9.0), (0.0,) * 3, (0.0,) * 2)
        metrics, limits = {"latency": METRIC, "params": other}, {"latency": 2.2, "params": 5.0}
        assert all(excess(positions, metrics, limits) for positions in POINTS)
        assert project(self.LOGS, (0, 0, 0), metrics, limits) is None
