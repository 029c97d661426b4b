"""Squeeze-excite left open: in equal blocks, among candidates, and in the blocks after the first."""

import json
from itertools import product

import pytest

from fbnet_zoo import arch_file, cost
from fbnet_zoo.blocks import InvertedResidual, SqueezeExcitation
from fbnet_zoo.errors import DefinitionError, InputError
from fbnet_zoo.layers import walk_blocks
from fbnet_zoo.model import FBNet
from fbnet_zoo.planner import plan
from fbnet_zoo.plans import IdentityPlan
from fbnet_zoo.search.cost import params_cost
from fbnet_zoo.search.dmasking import MaskedSupernet
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.space import Choices, LayerChoice, Space, load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import parse
from tests.helpers.published_accuracies import known_networks
from tests.helpers.space_texts import SMALL, SQUEEZED, SQUEEZED_SIZE, every_point


@pytest.fixture(scope="module")
def space() -> Space:
    return parse(SQUEEZED, "squeezed.yaml")


@pytest.fixture(scope="module")
def points(space: Space) -> list[Choices]:
    return list(every_point(space))


def test_every_network_is_counted_and_another_one(space: Space, points: list[Choices]) -> None:
    assert space.size() == SQUEEZED_SIZE == len(points) == len(set(points))
    some = points[::17]
    assert len({arch_file.dump(space.decode(choices, name="any")) for choices in some}) == len(some)


def test_definitions_lead_back(space: Space, points: list[Choices]) -> None:
    for choices in points[::37]:
        arch = space.decode(choices)
        assert space.encode(arch) == choices
        assert space.encode(arch_file.parse(arch_file.dump(arch))) == choices
        assert Choices.model_validate_json(choices.model_dump_json()) == choices


def choices_of(*ratios: float) -> Choices:
    first, second, third, rest = ratios
    layers = (
        LayerChoice(kernel_size=3, expansion=2, se_ratio=first, repeats=2),
        LayerChoice(candidate="fused", se_ratio=second, out_channels=8),
        LayerChoice(se_ratio=third, repeats=3, rest_se_ratio=rest),
    )
    return Choices(space="squeezed", input_size=12, layers=layers)


def test_rows_of_a_definition(space: Space) -> None:
    text = arch_file.dump(space.decode(choices_of(0.25, 0, 0.5, 0)))
    assert [line.strip() for line in text.splitlines() if line.startswith("    - ")] == [
        "- {op: ir, k: 3, e: 2, c: 4, r: 2, se: 0.25}",
        "- {op: fused_ir, k: 3, e: 2, c: 8}",
        "- {op: ir, k: 3, e: 2, c: 8, s: 2, se: 0.5}",
        "- {op: ir, k: 5, e: 2, c: 8, r: 2}",
    ]
    assert str(choices_of(0.25, 0, 0.5, 0)).endswith("k3 e2 se0.25 r2, fused se0 c8, se0.5 r3 rest se0")


@pytest.mark.parametrize("ratios", [(0, 0.5, 0.25, 0.25), (0.25, 0, 0.5, 0)])
def test_networks_as_built(space: Space, ratios: tuple[float, ...]) -> None:
    """Hidden channels are the share of the block's input: 4 to 8, and of 8 for the blocks of the rest."""
    network = FBNet(space.decode(choices_of(*ratios)))
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    hidden = [each.se.reduce.out_channels if isinstance(each.se, SqueezeExcitation) else 0 for each in blocks]
    inputs, of_block = (4, 4, 4, 8, 8, 8), (ratios[0], ratios[0], ratios[1], ratios[2], ratios[3], ratios[3])
    assert hidden == [int(channels * ratio) for channels, ratio in zip(inputs, of_block, strict=True)]


def test_operators_are_the_blocks_of_all_networks(space: Space, points: list[Choices]) -> None:
    operators = [(space.plan(each), each.size_in) for each in space.operators()]
    assert len(set(operators)) == len(operators)
    found = set()
    for choices in points[::7]:  # prime to all numbers of options
        arch = space.decode(choices)
        built = walk_blocks(plan(arch), arch.input_size)
        found |= {(block, size) for _, block, size in built if not isinstance(block, IdentityPlan)}
    assert found == set(operators)


def test_decisions(space: Space) -> None:
    decisions = {each.name: each.options for each in Encoding(space).decisions}
    assert list(decisions) == [
        *("stages.2.0", "stages.2.0 e", "stages.2.0 se", "stages.2.0 r"),
        *("stages.2.1", "stages.2.1 se", "stages.2.1 c"),
        *("stages.4.0 se", "stages.4.0 r", "stages.4.0 rest se"),
    ]
    assert decisions["stages.2.0 se"] == ("0", "0.25")
    assert decisions["stages.4.0 rest se"] == ("0", "0.25", "0.5")


def test_a_skip_has_no_ratio(space: Space) -> None:
    encoding = Encoding(space)
    at = [decision.name for decision in encoding.decisions].index("stages.2.1")
    rows = [[2 if index == at else ratio if index == at + 1 else 0 for index in range(10)] for ratio in (0, 1)]
    assert encoding.canonical(rows)[0].tolist() == encoding.canonical(rows)[1].tolist()
    assert encoding.choices(rows[1]).layers[1] == LayerChoice(candidate="skip", out_channels=4)


def test_ratios_that_are_not_offered(space: Space) -> None:
    with pytest.raises(InputError, match=r"^stages\.2\.0 cannot choose 0\.5 for 'se_ratio'; expected 0 or 0\.25$"):
        space.decode(choices_of(0.5, 0, 0.5, 0))
    text = arch_file.dump(space.decode(choices_of(0.25, 0, 0.5, 0), name="mine")).replace("se: 0.25", "se: 0.75")
    told = r"row 1 of stage 2, .* offers a block with k 3 or 5, e 1 or 2, c 4, se 0 or 0\.25, s 1$"
    with pytest.raises(InputError, match=told):
        space.encode(arch_file.parse(text))


def test_methods_that_do_not_support_it(space: Space) -> None:
    with pytest.raises(InputError, match=r"squeezed leaves 'expansion' and .*'se_ratio' of stages\.2\.0 open; dnas"):
        CandidateEncoding(space)
    with pytest.raises(InputError, match=r"squeezed has several blocks \('r'\) in stages\.2\.0, which channel masks"):
        MaskedSupernet(space)
    single = "\n".join(line for line in SQUEEZED.splitlines() if ", r:" not in line)
    single = single.replace("  4:\n", "  4:\n    - {e: 1, c: 8, s: 2}\n")
    with pytest.raises(
        InputError, match=r"leaves squeeze-excite \('se'\) of stages\.2\.0 open, which channel masks do"
    ):
        MaskedSupernet(parse(single, "single.yaml"))


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (
            "k3: {k: 3}",
            "k3: {k: 3, se: 0.5}",
            "14: 'se_ratio' is open in the row and given in its candidates; remove one",
        ),
        ("se: [0, 0.5]", "se: [0.5, 0]", "14: the values 0.5, 0.0 are not in strictly increasing order; sort them"),
        ("se: [0, 0.25]", "se: [0, 25]", "13: 'se_ratio' cannot be 25: "),
        (
            "{op: ir, k: [3, 5], e: [1, 2]",
            "{op: conv, k: [3, 5]",
            "13: 'se_ratio' does not apply to op 'conv' in a stage",
        ),
        (
            "{op: conv, k: 1, c: 8}",
            "{op: ir_pool, e: 2, c: 8, se: [0, 0.5]}",
            "17: only 'c' of a stem or head can be open",
        ),
    ],
)
def test_mistakes_in_a_file(right: str, wrong: str, told: str) -> None:
    assert right in SQUEEZED
    with pytest.raises(DefinitionError) as caught:
        parse(SQUEEZED.replace(right, wrong, 1), "squeezed.yaml")
    assert str(caught.value).startswith(f"squeezed.yaml:{told}")


def test_fixed_ratio_of_the_rest() -> None:
    text = "\n".join(
        line for line in SQUEEZED.splitlines() if "c: [4, 8]" not in line and "    - {op: ir, k: 3" not in line
    )
    text = (
        text.replace("r: [1, 2]}", "r: [2, 3], rest: {se: 0}}").replace("  4:\n", "").replace("candidates:", "others:")
    )
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("others", "  k3", "  fused", "  skip")))
    encoding = Encoding(parse(text, "fixed.yaml"))
    assert [each.name for each in encoding.decisions] == [f"stages.2.0{kind}" for kind in ("", " e", " se", " r")]
    metric = params_cost(encoding)
    for row in product(*map(range, encoding.counts)):
        arch = encoding.definition(row)
        assert [each.se_ratio for each in arch.stages[0].blocks] == [(0, 0.25)[row[2]], 0]
        assert metric.of(row) == metric.population([row])[0] == cost(arch).params
        assert encoding.positions(encoding.space.encode(arch)) == row


def test_records_of_fixed_ratios_stay_the_same() -> None:
    """A fixed ratio is written as a number, and choices name ratios only where they are open."""
    rows = json.loads(parse(SMALL, "small.yaml").spec.model_dump_json(exclude_unset=True))["stages"][1]["blocks"]
    assert rows[1]["se_ratio"] == 0.25
    rows = json.loads(parse(SQUEEZED, "s.yaml").spec.model_dump_json(exclude_unset=True))["stages"][0]["blocks"]
    assert rows[0]["se_ratio"] == [0, 0.25]
    assert not any("se_ratio" in key for key in json.loads(LayerChoice(repeats=2).model_dump_json()))
    assert json.loads(LayerChoice(se_ratio=0).model_dump_json())["se_ratio"] == 0


class TestAccelNasbench:
    """The networks have the numbers of parameters that were published."""

    def test_size(self) -> None:
        assert load_space("accel_nasbench").size() == 48**7

    def test_published_parameters(self) -> None:
        encoding, rows = Encoding(load_space("accel_nasbench")), known_networks()
        assert len({tuple(row.values()) for row in rows}) == 100
        for row in rows:
            chosen = [each.options.index(row[each.name]) for each in encoding.decisions]
            assert cost(encoding.definition(chosen)).params == int(row["params"])

    def test_decisions(self) -> None:
        decisions = Encoding(load_space("accel_nasbench")).decisions
        layers = [f"stages.{each}" for each in ("2.0", "4.0", "8.0", "16.0", "16.1", "32.0", "32.1")]
        expected = {"": ("k3", "k5"), " e": ("1", "4", "6"), " se": ("0", "0.25"), " r": ("1", "2", "3", "4")}
        pairs = product(layers, expected.items())
        assert [(each.name, each.options) for each in decisions] == [
            (layer + kind, options) for layer, (kind, options) in pairs
        ]
