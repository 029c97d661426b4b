"""Spaces as integers: positions, choices and definitions there and back, and which positions are one network."""

import math
import random
from itertools import product
from typing import Any

import numpy as np
import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.layers import walk
from fbnet_zoo.planner import plan
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.space import Choices, Space, list_spaces, load_space
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse
from fbnet_zoo.spec import ArchSpec
from tests.helpers import masked_spaces, search_spaces, space_texts

TEXTS = {
    "nano": search_spaces.NANO,
    "twins": search_spaces.TWINS,
    "nano_masked": masked_spaces.NANO,
    "plain_masked": masked_spaces.PLAIN,
    "small_masked": masked_spaces.SMALL,
    "small": space_texts.SMALL,
    "squeezed": space_texts.SQUEEZED,
}
SPACES = pytest.mark.parametrize("name", [*list_spaces(), *TEXTS])
COUNTABLE = pytest.mark.parametrize("name", ["nano", "small_masked", "small", "plain_masked", "squeezed"])


def space_of(name: str) -> Space:
    return parse(TEXTS[name], f"{name}.yaml") if name in TEXTS else load_space(name)


def encoding_of(name: str) -> Encoding:
    return Encoding(space_of(name))


def drawn(encoding: Encoding, count: int, seed: int = 0) -> list[Positions]:
    """Random positions, whatever their blocks take of them."""
    source = random.Random(seed)
    return [tuple(source.randrange(each) for each in encoding.counts) for _ in range(count)]


def every_position(encoding: Encoding) -> list[Positions]:
    return list(product(*map(range, encoding.counts)))


def ignores_a_value(space: Space) -> bool:
    """Whether a candidate takes less than another one of its layer."""
    return any(
        layer.options(candidate).keys() != layer.options().keys() for layer in space.layers for candidate in layer.ops
    )


class TestThereAndBack:
    @SPACES
    def test_from_choices(self, name: str) -> None:
        encoding = encoding_of(name)
        for seed in range(10):
            choices = encoding.space.sample(seed)
            positions = encoding.positions(choices)
            assert encoding.choices(positions) == choices
            assert encoding.definition(positions) == encoding.space.decode(choices)
            assert (encoding.canonical([positions]) == [positions]).all()

    @SPACES
    def test_from_positions(self, name: str) -> None:
        encoding = encoding_of(name)
        for positions in drawn(encoding, 10):
            choices = encoding.choices(positions)
            assert encoding.positions(choices) == tuple(encoding.canonical([positions])[0].tolist())
            assert encoding.space.encode(encoding.definition(positions)) == choices
            assert encoding.definition(positions, name="mine").name == "mine"

    @SPACES
    def test_options_are_what_the_choices_say(self, name: str) -> None:
        """Read from the texts of decisions and choices, by their words."""
        encoding = encoding_of(name)
        for positions in drawn(encoding, 5):
            taken = {
                decision.name: decision.options[position]
                for decision, position in zip(encoding.decisions, positions, strict=True)
            }
            choices = encoding.choices(positions)
            assert taken.get("input_size", str(choices.input_size)) == str(choices.input_size)
            assert taken.get("stem c") == (choices.stem_channels and str(choices.stem_channels))
            assert taken.get("head c") == (choices.head_channels and str(choices.head_channels))
            for layer, choice in zip(encoding.space.layers, choices.layers, strict=True):
                fields = {"e": choice.expansion, "se": choice.se_ratio, "c": choice.out_channels, "r": choice.repeats}
                fields |= {"rest k": choice.rest_kernel_size, "rest e": choice.rest_expansion}
                fields |= {"rest se": choice.rest_se_ratio}
                for letter, value in fields.items():
                    if value is not None:
                        assert taken[f"{layer.name} {letter}"] == f"{value:g}"
                block = encoding.blocks(positions)[layer.name]
                assert taken.get(layer.name, block) == block
                kernel = f"k{choice.kernel_size}" if choice.kernel_size else None
                assert block.endswith("_".join(filter(None, (choice.candidate, kernel))))

    @SPACES
    def test_skips_leave_their_layer_out(self, name: str) -> None:
        encoding = encoding_of(name)
        ops = {layer.name: layer.ops for layer in encoding.space.layers}
        for decision, skip in zip(encoding.decisions, encoding.skips, strict=True):
            expected = [each for each in decision.options if ops.get(decision.name, {}).get(each) == "skip"]
            assert ([] if skip is None else [decision.options[skip]]) == expected


class TestNetworks:
    @SPACES
    def test_canonical_positions_are_equal_where_networks_are(self, name: str) -> None:
        encoding, source = encoding_of(name), random.Random(1)
        network = drawn(encoding, 1)[0]
        near = [network]
        for _ in range(30):
            at = source.randrange(len(network))
            near.append((*near[-1][:at], source.randrange(encoding.counts[at]), *near[-1][at + 1 :]))
        rows = [tuple(row) for row in encoding.canonical(near).tolist()]
        names = [encoding.definition(positions).name for positions in near]
        assert len(set(zip(rows, names, strict=True))) == len(set(rows)) == len(set(names))

    @COUNTABLE
    def test_canonical_positions_are_those_of_all_networks(self, name: str) -> None:
        encoding = encoding_of(name)
        population = encoding.canonical(every_position(encoding))
        distinct = np.unique(population, axis=0).tolist()
        assert len(distinct) == encoding.space.size()
        assert len({encoding.definition(row).name for row in distinct[::7]}) == len(distinct[::7])
        if name in {"nano", "plain_masked"}:
            assert len(distinct) == math.prod(encoding.counts)

    @SPACES
    def test_positions_are_as_many_as_networks_where_no_block_ignores_a_value(self, name: str) -> None:
        encoding = encoding_of(name)
        positions = math.prod(encoding.counts)
        if ignores_a_value(encoding.space):
            assert positions > encoding.space.size()
        else:
            assert positions == encoding.space.size()

    @SPACES
    def test_populations(self, name: str) -> None:
        encoding = encoding_of(name)
        rows = drawn(encoding, 7)
        given = np.array(rows)
        found = encoding.canonical(given)
        assert (found.shape, found.dtype) == ((7, len(encoding.decisions)), np.int64)
        assert given.tolist() == [list(row) for row in rows]
        assert (encoding.canonical(found) == found).all()
        assert (encoding.canonical(rows) == found).all()
        assert encoding.canonical(rows[0]).tolist() == found[:1].tolist()

    @SPACES
    def test_sides_are_those_of_the_networks(self, name: str) -> None:
        encoding = encoding_of(name)
        for positions in drawn(encoding, 3):
            arch = encoding.definition(positions)
            sides = next(each for each in encoding.sides if each[0] == arch.input_size)
            before, inside = _walked(arch)
            assert sides[1] == before
            full, at = encoding.full(positions, 0), 0
            for layer, side in zip(encoding.layers, sides[2:], strict=True):
                rest = 0 if layer.rest is None else layer.rest.repeats[full[layer.axes[-1] + 1]]
                outputs = inside[at : at + 1 + rest]
                assert {size for size in outputs if size is not None} <= {side}
                at += 1 + rest
            assert at == len(inside)


def _walked(arch: ArchSpec) -> tuple[int, list[int | None]]:
    """Return the side of the stem's output and of every block's in the stages; `None` where nothing is done."""
    network = plan(arch)
    walked = list(walk(network, arch.input_size))
    stem = [layer.size_out for layer in walked if layer.name.startswith("stem")][-1]
    blocks = [f"stages.{stage.output_stride}.{at}." for stage in network.stages for at in range(len(stage.blocks))]
    sizes = [[layer.size_out for layer in walked if layer.name.startswith(block)] for block in blocks]
    return stem, [each[-1] if each else None for each in sizes]


class TestInputSize:
    @pytest.mark.parametrize("kind", [Encoding, CandidateEncoding])
    def test_size_that_the_space_does_not_offer(self, kind: type[Encoding]) -> None:
        space = load_space("digits_tiny")
        encoding = kind(space, 40)
        choices = space.sample(1)
        positions = encoding.positions(choices)
        assert encoding.input_size == 40
        assert encoding.definition(positions).input_size == 40
        assert encoding.choices(positions) == choices
        assert encoding.definition(positions) == space.decode(choices).model_copy(update={"input_size": 40})
        assert [sides[:3] for sides in encoding.sides] == [(40, 20, 20)]

    def test_fixed_size_is_no_decision(self) -> None:
        space = space_of("small")
        both, one = Encoding(space), Encoding(space, 32)
        assert both.decisions[0].name == "input_size"
        assert (both.input_size, one.input_size) == (48, 32)
        assert one.decisions == both.decisions[1:]
        assert one.definition([0] * len(one.counts)) == both.definition([0] * len(both.counts))
        assert one.choices([0] * len(one.counts)).input_size == 32
        assert one.sides == both.sides[:1]

    @pytest.mark.parametrize("size", [0, -32, 3, 10**9])
    def test_no_image_has_it(self, size: int) -> None:
        with pytest.raises(InputError, match="input_size"):
            Encoding(space_of("nano"), size)


class TestErrors:
    @pytest.mark.parametrize("call", ["choices", "definition"])
    @pytest.mark.parametrize(
        ("positions", "told"),
        [
            ((0, 0), r"^nano has 3 decisions, but 2 positions are given$"),
            ((), r"^nano has 3 decisions, but 0 positions are given$"),
            ((0,) * 4, r"^nano has 3 decisions, but 4 positions are given$"),
            ((0, 0, 2), r"^stages\.4\.1 has 2 options, but none at position 2$"),
            ((-1, 0, 0), r"^stages\.2\.0 has 3 options, but none at position -1$"),
        ],
    )
    def test_positions(self, call: str, positions: Positions, told: str) -> None:
        with pytest.raises(InputError, match=told):
            getattr(encoding_of("nano"), call)(positions)

    @pytest.mark.parametrize(
        ("update", "told"),
        [
            ({"space": "other"}, "the choices are for the space other, not for nano"),
            ({"input_size": 17}, "nano cannot choose input_size 17"),
            ({"head_channels": 8}, "nano cannot choose head_channels 8"),
            ({"layers": ()}, "nano has 3 layers"),
        ],
    )
    def test_choices(self, update: dict[str, Any], told: str) -> None:
        encoding = encoding_of("nano")
        choices: Choices = encoding.space.sample(0).model_copy(update=update)
        with pytest.raises(InputError, match=told):
            encoding.positions(choices)
