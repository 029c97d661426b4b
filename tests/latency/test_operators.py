"""What is one operator, and what is not."""

from dataclasses import replace
from itertools import pairwise

import pytest

from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.operator_costs import operator_cost
from fbnet_zoo.latency.operators import block_operator, network_operators
from fbnet_zoo.planner import plan
from fbnet_zoo.plans import InvertedResidualPlan
from fbnet_zoo.registry import get_spec, list_models
from fbnet_zoo.space import load_space
from fbnet_zoo.space.operators import space_operators
from tests.helpers.latency_tables import conv


@pytest.mark.parametrize("name", list_models())
def test_all_multiply_accumulates_are_in_an_operator(name: str) -> None:
    spec = get_spec(name)
    macs = cost(spec).macs
    blocks = network_operators(spec)
    excited = sum(2 * each.se_channels * (each.middle_channels or 0) for each in blocks)
    assert sum(operator_cost(each).macs for each in blocks) + excited == macs
    assert sum(operator_cost(each).macs for each in network_operators(spec, level="layer")) == macs


@pytest.mark.parametrize("name", ["fbnet_c", "fbnetv3_a", "fbnetv2_f4", "chamnet_f"])
def test_outputs_have_the_size_of_the_next_input(name: str) -> None:
    blocks = network_operators(get_spec(name))[:-3]
    for block, following in pairwise(blocks):
        assert (block.output_size, block.out_channels) == (following.input_size, following.in_channels)


def test_bias_and_initial_values_make_no_other_operator() -> None:
    block = plan(get_spec("fbnet_a")).stages[1].blocks[0]
    assert isinstance(block, InvertedResidualPlan)
    assert block.expand is not None
    biased = replace(block, expand=replace(block.expand, bias=not block.expand.bias), zero_init=not block.zero_init)
    assert block_operator(biased, 112) == block_operator(block, 112)
    assert hash(block_operator(biased, 112)) == hash(block_operator(block, 112))


@pytest.mark.parametrize("field", ["kernel_size", "stride", "padding", "act"])
def test_everything_that_takes_time_does(field: str) -> None:
    block = plan(get_spec("fbnet_a")).stages[1].blocks[0]
    assert isinstance(block, InvertedResidualPlan)
    other = {"kernel_size": 5, "stride": 1, "padding": 2, "act": None}[field]
    depthwise = (replace(block.depthwise[0], **{field: other}),)
    assert block_operator(replace(block, depthwise=depthwise), 112) != block_operator(block, 112)
    assert block_operator(block, 56) != block_operator(block, 112)
    assert block_operator(replace(block, residual=True), 112) != block_operator(block, 112)


def test_layers_carry_what_is_folded_into_them() -> None:
    stem, first, *_ = network_operators(get_spec("fbnet_a"), level="layer")
    assert (stem.op, stem.act, stem.stride) == ("conv", "relu", 2)
    assert first.op == "conv"
    kinds = {each.op for each in network_operators(get_spec("fbnetv3_a"), level="layer")}
    assert kinds == {"conv", "add", "mul", "pool"}


@pytest.mark.parametrize("name", ["fbnet", "fbnet_cifar", "fbnet_96_035", "digits_tiny"])
def test_a_space_has_the_operators_of_its_networks(name: str) -> None:
    space = load_space(name)
    operators = set(space_operators(space, num_classes=10))
    assert not any(each.is_free for each in operators)
    for seed in range(5):
        networks = network_operators(space.decode(space.sample(seed)), num_classes=10)
        assert {each for each in networks if not each.is_free} <= operators


def test_a_resolved_network_needs_a_size() -> None:
    with pytest.raises(InputError, match="input_size is required"):
        network_operators(plan(get_spec("fbnet_a")))


def test_features_alone_have_no_classifier() -> None:
    assert network_operators(get_spec("fbnet_a"), num_classes=0)[-1].op == "pool"


def test_words() -> None:
    assert str(conv(kernel_size=3, padding=0, groups=2)) == "conv k3 g2 8->16, 8 px, padding 0, relu"
