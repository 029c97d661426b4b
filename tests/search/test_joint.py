"""Pairs of architecture and recipe: the recipe is appended, and nothing about the architecture changes."""

import numpy as np
import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.cost import macs_cost, memory_cost, params_cost
from fbnet_zoo.search.joint import JointEncoding, recipe_of
from fbnet_zoo.space import Space, load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import parse
from fbnet_zoo.train import Recipe
from tests.helpers.search_spaces import NANO

RECIPE = """\
recipe:
  optimizer: [sgd, rmsprop]
  lr: {first: 0.01, last: 0.03, step: 0.01}
  ema_decay: [null, 0.99]
  label_smoothing: 0.2
"""


def space(text: str = RECIPE) -> Space:
    return parse(NANO + text, "nano.yaml")


def joint() -> JointEncoding:
    return JointEncoding(space())


def test_decisions_about_the_recipe_follow_those_of_the_network() -> None:
    encoding, plain = joint(), Encoding(space())
    assert encoding.decisions[: len(plain.decisions)] == plain.decisions
    added = {each.name: each.options for each in encoding.decisions[len(plain.decisions) :]}
    assert added == {
        "recipe.optimizer": ("sgd", "rmsprop"),
        "recipe.lr": ("0.01", "0.02", "0.03"),
        "recipe.ema_decay": ("null", "0.99"),
    }
    assert encoding.counts == (*plain.counts, 2, 3, 2)


def test_a_recipe_has_the_chosen_values_and_the_fixed_ones() -> None:
    encoding, base = joint(), Recipe(lr=0.5, weight_decay=0.1)
    network = (0,) * len(Encoding(space()).counts)
    found = recipe_of(encoding, (*network, 1, 2, 0), base)
    assert found == base.model_copy(
        update={"optimizer": "rmsprop", "lr": 0.03, "ema_decay": None, "label_smoothing": 0.2}
    )
    assert recipe_of(Encoding(space()), network, base) == base


def test_pairs_of_one_network_have_its_definition_and_costs_but_names_of_their_own() -> None:
    encoding, plain = joint(), Encoding(space())
    pairs = np.array([(1, 0, 1, 0, 0, 0), (1, 0, 1, 1, 2, 1)])
    network = tuple(pairs[0, :3].tolist())
    definitions = [encoding.definition(each) for each in pairs.tolist()]
    expected = plain.definition(network)
    assert {each.model_copy(update={"name": "x"}) for each in definitions} == {
        expected.model_copy(update={"name": "x"})
    }
    assert len({each.name for each in definitions} | {expected.name}) == 3
    assert encoding.definition(pairs[0].tolist(), name="mine").name == "mine"
    for make in (macs_cost, params_cost, memory_cost):
        costs, own = make(encoding), make(plain)
        assert costs.population(pairs).tolist() == [own.of(network)] * 2 == [costs.of(each) for each in pairs.tolist()]
        assert costs.least == own.least


def test_positions_of_choices_have_the_first_recipe() -> None:
    encoding = joint()
    assert encoding.positions(encoding.choices((1, 2, 0, 1, 1, 1))) == (1, 2, 0, 0, 0, 0)


@pytest.mark.parametrize("positions", [(0, 0, 0), (0,) * 7, (0, 0, 0, 0, 3, 0)])
def test_wrong_positions_are_refused(positions: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"decisions, but|has 3 options, but none at position 3"):
        joint().definition(positions)


def test_a_space_without_a_recipe_is_itself() -> None:
    encoding, plain = JointEncoding(load_space("fbnet")), Encoding(load_space("fbnet"))
    assert encoding.decisions == plain.decisions


def test_values_that_no_recipe_has_are_refused() -> None:
    with pytest.raises(InputError, match="lr"):
        JointEncoding(space("recipe:\n  lr: [0.1, -1]\n"))
