"""Regularized evolution: it finds more than random search, its parents and children are what the paper says."""

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.search import mutation
from fbnet_zoo.search.cost import macs_cost
from fbnet_zoo.search.drawing import draw_networks
from fbnet_zoo.search.evaluator import Evaluator
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.limits import Limits
from fbnet_zoo.search.mutation import Change, Nearest, evolve
from fbnet_zoo.space.encoding import Encoding, Positions
from tests.helpers.marks import first_is_quick
from tests.helpers.masked_spaces import masked_space
from tests.helpers.search_oracles import Known, accuracy, evaluations, oracle, twins
from tests.helpers.search_spaces import nano_space

BUDGET, SEEDS = 120, range(12)
TWINS = list(product(range(6), repeat=4))
BEST = max(TWINS, key=accuracy)


def config(seed: int = 0, budget: int = BUDGET, limits: Limits | None = None) -> EvolutionConfig:
    return EvolutionConfig(budget=budget, population=12, sample=4, seed=seed, limits=dict(limits or {}))


def distance(first: Positions, second: Positions) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


def evolved(folder: Path, seed: int, known: Evaluator) -> list[Positions]:
    asked = evaluations(known, folder / f"{seed}", twins())
    evolve(asked, config(seed))
    return [each.positions for each in asked.done]


@pytest.mark.parametrize("table", first_is_quick([False, True]), ids=["any network", "of a table"])
def test_it_finds_the_best_more_often_than_random_networks(tmp_path: Path, table: bool) -> None:
    assert len({accuracy(each) for each in TWINS}) == len(TWINS)
    known = oracle(tmp_path / "known.csv", twins(), TWINS) if table else Known()
    found = [BEST in evolved(tmp_path, seed, known) for seed in SEEDS]
    random_ = [BEST in draw_networks(twins(), {}, {}, count=BUDGET, seed=seed) for seed in SEEDS]
    assert sum(found) > len(SEEDS) / 2 > 2 * sum(random_)


def test_parents_are_among_the_youngest_and_children_one_step_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The population is the last 12 networks; parents are the best of 4 that are drawn."""
    asked, seen = evaluations(Known(), tmp_path, twins()), []
    child = Change.child

    def spy(self: Change, parent: Positions) -> Positions | None:
        young = [each.positions for each in asked.done[-12:]]
        seen.append((sorted(young, key=accuracy).index(parent), child(self, parent), parent))
        return seen[-1][1]

    monkeypatch.setattr(mutation.Change, "child", spy)
    evolve(asked, config())
    assert len(seen) == BUDGET - 12
    assert [each.positions for each in asked.done[12:]] == [made for _, made, _ in seen]
    assert {distance(made, parent) for _, made, parent in seen} == {1}
    ranks = [rank for rank, _, _ in seen]
    assert sum(ranks) / len(ranks) > 7  # of 0 to 11: the mean is 5.5 for any network, 8.8 for the best of four


def test_budget_is_spent_on_different_networks_within_the_limits(tmp_path: Path) -> None:
    macs = macs_cost(twins(), num_classes=4)
    limits = {"macs": 0.6 * macs.least + 0.4 * macs.most}
    known = Known()
    asked = evaluations(known, tmp_path, twins(), {"macs": macs})
    evolve(asked, config(limits=limits))
    networks = [each.positions for each in asked.done]
    assert len(set(networks)) == len(networks) == BUDGET
    assert known.asked == networks
    assert all(macs.of(each) <= limits["macs"] for each in networks)


def test_networks_that_differ_in_what_is_ignored_are_evaluated_once(tmp_path: Path) -> None:
    encoding = Encoding(masked_space("small"))
    asked = evaluations(Known(), tmp_path, encoding)
    evolve(asked, config(budget=150))
    networks = [each.positions for each in asked.done]
    assert (encoding.canonical(networks) == networks).all()
    assert len({encoding.definition(each).name for each in networks}) == 150


@pytest.mark.parametrize("population", [3, 18])
def test_all_networks_of_a_small_space(tmp_path: Path, population: int) -> None:
    """Where there are fewer than the budget asks for, it ends with all; the first population must exist."""
    asked = evaluations(Known(), tmp_path, Encoding(nano_space()))
    evolve(asked, EvolutionConfig(budget=1000, population=population, sample=2))
    assert sorted(each.positions for each in asked.done) == list(product(range(3), range(3), range(2)))
    with pytest.raises(
        InputError, match="18 of 100,000 random networks of nano are within the limits, but 19 are needed"
    ):
        evolve(
            evaluations(Known(), tmp_path / "more", Encoding(nano_space())), EvolutionConfig(population=19, sample=1)
        )


class TestNearest:
    """Where a table knows some of the networks only."""

    @pytest.mark.parametrize("seed", range(3))
    def test_only_networks_of_the_table(self, tmp_path: Path, seed: int) -> None:
        rows = random.Random(seed).sample(TWINS, 90)
        known = oracle(tmp_path / "known.csv", twins(), rows)
        asked = evaluations(known, tmp_path / "run", twins(), {"energy": known.costs()[0]})
        evolve(asked, config(seed, budget=40, limits={"energy": 4.0}))
        networks = [each.positions for each in asked.done]
        assert set(networks) <= set(rows)
        assert len(set(networks)) == len(networks) == 40
        assert all(each.costs["energy"] <= 4 for each in asked.done)

    def test_children_are_as_near_as_any_that_is_left(self, tmp_path: Path) -> None:
        rows = random.Random(7).sample(TWINS, 60)
        known = oracle(tmp_path / "known.csv", twins(), rows)
        energy = known.costs()[0]
        asked = evaluations(known, tmp_path / "run", twins(), {"energy": energy})
        nearest = Nearest(asked, {"energy": 4.5}, random.Random(0), known.candidates)
        left, parent = {row for row in rows if energy.of(row) <= 4.5}, rows[0]
        while left:
            child = nearest.child(parent)
            assert child in left
            assert distance(child, parent) == min(distance(row, parent) for row in left)
            asked.top1(child)
            left.remove(child)
            parent = child
        assert nearest.child(parent) is None

    def test_ties_are_broken_by_chance(self, tmp_path: Path) -> None:
        known = oracle(tmp_path / "known.csv", twins(), TWINS)
        asked = evaluations(known, tmp_path / "run", twins())
        children = {Nearest(asked, {}, random.Random(seed), known.candidates).child((0, 0, 0, 0)) for seed in range(20)}
        assert children == {(0, 0, 0, 0)}
        asked.top1((0, 0, 0, 0))
        children = {Nearest(asked, {}, random.Random(seed), known.candidates).child((0, 0, 0, 0)) for seed in range(20)}
        assert len(children) > 5
        assert {distance(child, (0, 0, 0, 0)) for child in children if child} == {1}

    def test_table_smaller_than_the_budget(self, tmp_path: Path) -> None:
        known = oracle(tmp_path / "known.csv", twins(), TWINS[:20])
        asked = evaluations(known, tmp_path / "run", twins())
        evolve(asked, config(budget=100))
        assert sorted(each.positions for each in asked.done) == TWINS[:20]


class TestChange:
    def test_other_networks_where_no_neighbour_is_left(self, tmp_path: Path) -> None:
        asked = evaluations(Known(), tmp_path, twins())
        parent, change = (0, 0, 0, 0), Change(asked, {}, random.Random(0))
        for at, position in product(range(4), range(6)):
            asked.top1(tuple(position if index == at else 0 for index in range(4)))
        found = change.child(parent)
        assert found is not None
        assert distance(found, parent) > 1
        assert not asked.has(found)

    def test_every_option_is_reached(self, tmp_path: Path) -> None:
        asked = evaluations(Known(), tmp_path, twins())
        change = Change(asked, {}, random.Random(0))
        made = np.array([change.child((5, 4, 3, 2)) for _ in range(400)])
        assert [sorted(set(made[:, at].tolist())) for at in range(4)] == [list(range(6))] * 4


def test_sample_larger_than_the_population() -> None:
    with pytest.raises(ValueError, match="a sample of 5 exceeds the population of 4; lower 'sample'"):
        EvolutionConfig(population=4, sample=5)


def test_defaults_are_the_papers() -> None:
    assert (EvolutionConfig().population, EvolutionConfig().sample, EvolutionConfig().train_epochs) == (100, 25, 25)
    assert EvolutionConfig.usual("folder") == EvolutionConfig()
    assert EvolutionConfig.usual("digits").budget < 100
