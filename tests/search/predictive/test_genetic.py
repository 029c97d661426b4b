"""Genetic search: it finds the best networks within the limits, and nothing beyond them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.search.cost import latency_cost, macs_cost, memory_cost, params_cost
from fbnet_zoo.search.limits import Costs, Limits, population_excess
from fbnet_zoo.search.predictive.genetic import Generation, GeneticConfig, generations, genetic_search
from fbnet_zoo.search.predictive.problem import Problem
from fbnet_zoo.search.predictive.within import limited_problem
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding, Population, Positions
from tests.helpers.masked_spaces import masked_space
from tests.helpers.search_oracles import twins

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Formed:
    """A cost by a formula of positions, in the space `twins`."""

    name: str
    formula: Callable[[Positions], float]
    unit: str = "ms"

    def of(self, positions: Sequence[int]) -> float:
        return self.formula(tuple(positions))

    def population(self, population: ArrayLike) -> Values:
        return np.array([self.formula(tuple(row)) for row in np.asarray(population).tolist()])

    @property
    def cheapest(self) -> Positions:
        return min(product(*map(range, twins().counts)), key=self.formula)

    @property
    def least(self) -> float:
        return self.formula(self.cheapest)


def unscored(population: Population) -> Values:
    raise AssertionError(f"{len(population)} networks are scored")


SEEDS = range(20)


class Formula:
    """Scores to which decisions add their shares, alone and in pairs: no decision can be made by itself."""

    def __init__(self, counts: tuple[int, ...], seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.own = [random.normal(size=count) for count in counts]
        self.pairs = [random.normal(size=(before, after)) for before, after in pairwise(counts)]

    def __call__(self, population: Population) -> Values:
        total = np.zeros(len(population))
        for at, values in enumerate(self.own):
            total += values[population[:, at]]
        for at, values in enumerate(self.pairs):
            total += values[population[:, at], population[:, at + 1]]
        return total


@cache
def tiny() -> Encoding:
    """Seven layers of six blocks: 279,936 networks."""
    return Encoding(load_space("digits_tiny"))


@cache
def costs() -> Costs:
    return {"macs": macs_cost(tiny(), num_classes=10), "params": params_cost(tiny(), num_classes=10)}


def share(share: float, names: tuple[str, ...] = ("macs",)) -> Limits:
    """Limits at a share of the range of costs."""
    return {name: (1 - share) * costs()[name].least + share * costs()[name].most for name in names}


def all_within(limits: Limits) -> Population:
    networks = np.array(list(product(*map(range, tiny().counts))))
    return networks[population_excess(networks, costs(), limits) == 0]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_the_best_of_all_networks_in_19_of_20_searches(seed: int) -> None:
    """4,000 evaluations of 279,936 networks, a part of them within both limits."""
    limits, score = share(0.3, ("macs", "params")), Formula(tiny().counts, seed)
    best = score(all_within(limits)).max()
    problem = limited_problem(tiny(), costs(), limits, score)
    found = [genetic_search(problem, GeneticConfig(population=100, generations=40, seed=seed)) for seed in SEEDS]
    assert max(each.evaluations for each in found) <= 4_200
    assert sum(each.scores[0][0] == best for each in found) >= 19
    assert all(score(np.array([each.best]))[0] == each.scores[0][0] for each in found)


def test_rates_follow_fitness() -> None:
    rates = GeneticConfig(crossover=(0.8, 0.9), mutation=(0.4, 0.5), least_mutation=0.01).rates
    fitness = np.array([3.0, 1.0, 1.0, -1.0])
    own = np.array([3.0, 2.0, 1.0, 0.5])
    assert rates.of_crossover(fitness, own) == pytest.approx([0, 0.4, 0.8, 0.9])
    assert rates.of_mutation(fitness, own) == pytest.approx([0.01, 0.2, 0.4, 0.5])
    assert rates.of_mutation(np.ones(3), np.ones(2)) == pytest.approx([0.4, 0.4])


class TestSeveralObjectives:
    def test_the_pareto_set_of_all_networks(self) -> None:
        """Score against cost, in a space of 1,296 networks: nearly all of the true set's hypervolume is found."""
        encoding, score = twins(), Formula(twins().counts)
        macs = macs_cost(encoding, num_classes=4)

        def both(population: Population) -> Values:
            return np.stack((score(population), -macs.population(population)), axis=1)

        everything = both(np.array(list(product(*map(range, encoding.counts)))))
        reference = tuple((everything.min(0) - 1).tolist())
        problem = limited_problem(encoding, {}, {}, both)
        found = genetic_search(problem, GeneticConfig(population=40, generations=25, reference=reference))
        true = everything[[not ((everything >= each).all(1) & (everything > each).any(1)).any() for each in everything]]
        assert {tuple(each) for each in found.front_scores} >= {tuple(each) for each in true.tolist()[:1]}
        assert found.hypervolumes[-1] >= 0.99 * area(true, reference)
        assert found.hypervolumes[-1] == pytest.approx(area(np.array(found.front_scores), reference))
        assert list(found.hypervolumes) == sorted(found.hypervolumes)
        assert len(found.hypervolumes) == 26

    @pytest.mark.parametrize("seeds", [3, pytest.param(10, marks=pytest.mark.slow)])
    def test_no_smaller_hypervolume_than_pymoo(self, seeds: int) -> None:
        limits, score, cost = share(0.6, ("params",)), Formula(tiny().counts), costs()["macs"]

        def both(population: Population) -> Values:
            return np.stack((score(population), -cost.population(population) / cost.most), axis=1)

        reference, found, theirs = (-20.0, -1.0), [], []
        for seed in range(seeds):
            config = GeneticConfig(population=60, generations=40, seed=seed, reference=reference)
            last = genetic_search(limited_problem(tiny(), costs(), limits, both), config)
            found.append(area(both(np.array(last.networks)), reference))
            theirs.append(area(pymoo_front(both, limits, seed), reference))
        assert np.mean(found) >= np.mean(theirs)


def area(scores: Values, reference: tuple[float, ...]) -> float:
    """The area above a reference point that two scores dominate, by strips."""
    x, y = (scores - reference).clip(0).T
    edges = np.unique(np.r_[0.0, x])
    heights = [y[x >= right].max() for right in edges[1:]]
    return float((np.diff(edges) * heights).sum())


def pymoo_front(both: Callable[[Population], Values], limits: Limits, seed: int) -> Values:
    """Scores of the last population of pymoo's NSGA-II, with its operators for integers."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Networks(PymooProblem):
        def __init__(self) -> None:
            upper = np.array(tiny().counts) - 1
            super().__init__(n_var=len(upper), n_obj=2, n_ieq_constr=1, xl=0, xu=upper, vtype=int)

        def _evaluate(self, x: Population, out: dict[str, Values], *_: object, **__: object) -> None:
            out["F"], out["G"] = -both(x), population_excess(x, costs(), limits)

    algorithm = NSGA2(
        pop_size=60,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    return -minimize(Networks(), algorithm, ("n_gen", 41), seed=seed).F


class TestLimits:
    def test_limits_that_no_network_satisfies_together(self) -> None:
        """One cost grows where the other falls, so that each limit can be satisfied, but not both."""
        opposed = {
            "fast": Formed(name="fast", formula=lambda row: 21.0 - sum(row)),
            "small": Formed(name="small", formula=lambda row: 1.0 + sum(row)),
        }
        with pytest.raises(InputError) as error:
            limited_problem(twins(), opposed, {"fast": 8.0, "small": 10.0}, unscored)
        assert "no network found satisfies fast <= 8 ms and small <= 10 ms together" in str(error.value)
        assert "the nearest one has fast 8 ms and small 14 ms" in str(error.value)
        problem = limited_problem(twins(), opposed, {"fast": 8.0, "small": 15.0}, lambda rows: -rows[:, 0] * 1.0)
        found = genetic_search(problem, GeneticConfig(population=20, generations=20))
        assert {sum(each) for each in found.networks} == {13, 14}

    def test_latency_on_two_devices(self) -> None:
        """By the shipped tables; the best network is that of all 279,936."""
        tables = ("host_xnnpack_digits_tiny", "ethosu55_128_digits_tiny")
        known = {name: latency_cost(tiny(), find_table(name), num_classes=10) for name in tables}
        limits = {name: 0.7 * cost.least + 0.3 * cost.most for name, cost in known.items()}
        score, everything = Formula(tiny().counts), np.array(list(product(*map(range, tiny().counts))))
        problem = limited_problem(tiny(), known, limits, score)
        found = genetic_search(problem, GeneticConfig(population=100, generations=60))
        assert all(known[name].of(each) <= limit for each in found.networks for name, limit in limits.items())
        assert found.scores[0][0] == score(everything[population_excess(everything, known, limits) == 0]).max()

    def test_a_single_limit_out_of_reach(self) -> None:
        least = costs()["macs"].least
        with pytest.raises(
            InputError, match=f"no network of the space satisfies macs <= 1 MACs: the lowest is {least:g}"
        ):
            limited_problem(tiny(), costs(), {"macs": 1.0}, unscored)

    def test_only_one_network_is_within_the_limits(self) -> None:
        limits = {name: cost.of((0,) * 7) for name, cost in costs().items()}
        limits["macs"] = costs()["macs"].least
        problem = limited_problem(tiny(), costs(), {"macs": limits["macs"]}, Formula(tiny().counts))
        found = genetic_search(problem, GeneticConfig(population=10, generations=5))
        assert all(costs()["macs"].of(each) == limits["macs"] for each in found.networks)

    @given(
        shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
        size=st.integers(2, 30),
        seed=st.integers(0, 10**6),
    )
    @with_settings(max_examples=12)
    def test_nothing_beyond_a_limit_is_scored(self, shares: tuple[float, ...], size: int, seed: int) -> None:
        encoding, names = Encoding(masked_space("small")), ("macs", "params", "memory")
        made = (macs_cost(encoding), params_cost(encoding), memory_cost(encoding))
        known = dict(zip(names, made, strict=True))
        limits = {
            name: (1 - part) * known[name].least + part * known[name].most
            for name, part in zip(names, shares, strict=True)
        }
        score, scored = Formula(encoding.counts, seed), []

        def noted(population: Population) -> Values:
            scored.extend(map(tuple, population.tolist()))
            return score(population)

        try:
            problem = limited_problem(encoding, known, limits, noted)
        except InputError:
            everything = np.array(list(product(*map(range, encoding.counts))))
            assert (population_excess(everything, known, limits) > 0).all()
            return
        found = genetic_search(problem, GeneticConfig(population=size, generations=6, seed=seed))
        assert all(known[name].of(each) <= limit for each in scored for name, limit in limits.items())
        assert {*found.networks, *found.front} <= set(scored)
        assert (encoding.canonical(scored) == scored).all()
        assert len(set(found.networks)) == len(found.networks) <= size
        assert found.scores[0][0] == max(score(np.array(scored))) == found.front_scores[0][0]


class TestResuming:
    @pytest.mark.parametrize("at", [0, 3, 7, 8])
    def test_a_resumed_search_is_that_which_was_not_interrupted(self, at: int) -> None:
        limits, score = share(0.4), Formula(tiny().counts)
        problem, config = limited_problem(tiny(), costs(), limits, score), GeneticConfig(population=12, generations=8)
        whole = list(generations(problem, config))
        saved = Generation.model_validate_json(whole[at].model_dump_json())
        assert saved == whole[at]
        assert list(generations(problem, config, after=saved)) == whole[at:]
        assert genetic_search(problem, config) == whole[-1]
        assert genetic_search(problem, config.model_copy(update={"seed": 1})) != whole[-1]
        assert [each.number for each in whole] == list(range(9))

    @pytest.mark.parametrize(
        "change", [{"networks": ((0,) * 6,)}, {"networks": ((6,) * 7,)}, {"networks": ((4,) * 7,)}]
    )
    def test_a_generation_of_another_search_is_refused(self, change: dict[str, tuple[Positions, ...]]) -> None:
        problem = limited_problem(tiny(), costs(), {"macs": costs()["macs"].least * 1.1}, Formula(tiny().counts))
        config = GeneticConfig(population=2, generations=1)
        other = genetic_search(problem, config).model_copy(update=change)
        with pytest.raises(InputError, match="the generation to resume after is of another search"):
            genetic_search(problem, config, after=other)


class TestLists:
    def test_a_list_is_scored_whole(self) -> None:
        networks = np.random.default_rng(0).integers(6, size=(300, 7))
        limits, score = share(0.4), Formula(tiny().counts)
        inside = np.unique(networks[population_excess(networks, costs(), limits) == 0], axis=0)
        problem = limited_problem(tiny(), costs(), limits, score, among=np.concatenate((networks, networks)))
        found = genetic_search(problem, GeneticConfig(population=10, generations=50))
        expected = inside[np.argsort(-score(inside))][:10]
        assert found.networks == tuple(map(tuple, expected.tolist()))
        assert found.evaluations == len(inside) > 20
        assert genetic_search(problem, GeneticConfig(population=10, generations=50), after=found) == found

    def test_a_list_without_a_network_within_the_limits(self) -> None:
        cost = costs()["macs"]
        networks = np.array([cost.dearest])
        problem = limited_problem(tiny(), costs(), {"macs": cost.most / 2}, unscored, among=networks)
        with pytest.raises(
            InputError, match="none of the 1 networks is within the limits; the nearest exceeds them by 100 %"
        ):
            genetic_search(problem, GeneticConfig())


class TestStarts:
    def test_initial_networks_are_in_the_first_population(self) -> None:
        inside, beyond = (1, 2, 3, 4, 5, 0, 1), costs()["macs"].dearest
        limits, score = {"macs": costs()["macs"].of(inside)}, Formula(tiny().counts)
        problem = limited_problem(tiny(), costs(), limits, score, initial=[inside, beyond])
        first = next(generations(problem, GeneticConfig(population=10)))
        assert inside in first.networks
        assert beyond not in first.networks
        with pytest.raises(InputError, match="digits_tiny has 7 decisions"):
            limited_problem(tiny(), costs(), limits, score, initial=[(0, 1)])

    def test_decisions_that_no_space_has(self) -> None:
        """A recipe beside an architecture: appended decisions, of which some have a single option."""
        counts = (*tiny().counts, 5, 1, 3)
        score = Formula(counts)
        problem = Problem(
            counts=counts,
            score=score,
            starts=np.array([(*costs()["macs"].cheapest, 0, 0, 0)]),
            excess=lambda rows: population_excess(rows[:, :7], costs(), share(0.3)),
            canonical=lambda rows: np.concatenate((tiny().canonical(rows[:, :7]), rows[:, 7:]), axis=1),
        )
        found = genetic_search(problem, GeneticConfig(population=60, generations=60))
        recipes = np.array(list(product(range(5), range(1), range(3))))
        inside = all_within(share(0.3))
        best = max(score(np.concatenate((inside, np.tile(each, (len(inside), 1))), axis=1)).max() for each in recipes)
        assert found.scores[0][0] == best

    def test_a_single_network(self) -> None:
        problem = Problem(counts=(1, 1), starts=np.zeros((1, 2), dtype=np.int64), score=lambda rows: rows.sum(1))
        found = genetic_search(problem, GeneticConfig(population=4, generations=3))
        assert (found.networks, found.evaluations) == (((0, 0),), 1)


class TestWrongScores:
    @pytest.mark.parametrize(
        ("score", "words"),
        [
            (
                lambda rows: np.full(len(rows), np.nan),
                "the score of the network at .* is nan; expected a finite number",
            ),
            (lambda rows: np.zeros(3), r"the score of 12 networks has the shape \(3,\); expected \(12,\)"),
            (lambda rows: 1.0, r"has the shape \(\)"),
        ],
    )
    def test_are_refused(self, score: Callable[[Population], Values], words: str) -> None:
        problem = Problem(counts=(6, 6, 6), starts=np.zeros((1, 3), dtype=np.int64), score=score)
        with pytest.raises(InputError, match=words):
            genetic_search(problem, GeneticConfig(population=12, generations=1))

    def test_a_reference_for_other_objectives(self) -> None:
        problem = limited_problem(tiny(), costs(), {}, Formula(tiny().counts))
        with pytest.raises(InputError, match="the reference has 2 values, but there are 1 objectives"):
            genetic_search(problem, GeneticConfig(reference=(0.0, 0.0)))
