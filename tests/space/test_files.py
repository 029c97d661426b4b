"""Space files: what a mistake is answered with, word for word; damage is read or refused, and nothing else."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fbnet_zoo.errors import DefinitionError
from fbnet_zoo.space.files import parse
from fbnet_zoo.space.schema import space_schema
from tests.helpers.paths import ROOT
from tests.helpers.space_texts import SMALL
from tests.test_arch_file import GROUPS
from tests.test_arch_file_random import VALUES, places

FILES = sorted((ROOT / "arch_defs" / "spaces").glob("*.yaml"))
LAYERS, NARROW, DEEP = SMALL.splitlines()[12], SMALL.splitlines()[14], SMALL.splitlines()[15]
KEYS = "act, bias, c, candidates, depthwise_groups, depthwise_repeats, divisor, dw, dwg, e, expansion, g, groups, k, "
KEYS += (
    "keep_expand, kernel_size, layers, linear_depthwise, op, out_channels, r, repeats, rest, s, se, se_act, se_gate, "
)
KEYS += "se_of, se_ratio, stride"
WORD = "expected a lower-case word of letters, digits and underscores"
VARIANT = "expected a mapping for a variant, with parts of the space such as 'head'"
STRIDES = "the strides of the stem and of all rows up to its end must multiply to 4, in one stage only"
ENDS_OPEN = "the channels of the stem are open in the space; a variant cannot have its own"
SAME_KEY = "a row has both 'k' and 'kernel_size', which are the same; keep one"
UPWARDS = "expected whole steps upwards"
AT_MOST = "expected at most 256,"
RAISE = "a limit that protects this machine and can be raised with FBNET_ZOO_LIMITS=options"
BOTH = "a row has both 'layers', which choose separately, and 'r', which are equal; keep one"
SOME_SAY = "only some candidates have 'expansion'; give it in all of them, or in the row"
ROW_FORM = "expected a mapping for a row, such as {op: conv, k: 3, c: 16}"
STEM = SMALL.splitlines()[9]

MISTAKES = [
    # keys
    (LAYERS, LAYERS.replace("layers", "layer"), "13: unknown key 'layer'; did you mean 'layers'?"),
    (LAYERS, LAYERS.replace("e: [1, 2.5]", "pad: 1"), "13: unknown key 'pad'; expected one of " + KEYS),
    ("k3: {k: 3}", "k3: {k: 3, c: 8}", "7: unknown key 'c'; did you mean 'act'?"),
    ("k3: {k: 3}", "K3: {k: 3}", f"7: 'name' cannot be 'K3': {WORD}"),
    ("k3: {k: 3}", "k3: {k: 3, name: k3}", "7: unknown key 'name': the name is the key of the entry; remove it"),
    ("wide: {head", "wide: {name: wide, head", "19: unknown key 'name': the name is the key of the entry; remove it"),
    ("candidates:\n", "candidate:\n", "6: unknown key 'candidate'; did you mean 'candidates'?"),
    (
        "rest: {e: [1, 2]}",
        "rest: {c: 8}",
        "16: unknown key 'c'; expected one of e, expansion, k, kernel_size, se, se_ratio",
    ),
    ("head: {op: conv, k: 1, c: 64}", "heads: {}", "19: unknown key 'heads'; did you mean 'head'?"),
    (DEEP, DEEP.replace("k: [3", "kernel_size: 3, k: [3"), f"16: {SAME_KEY}"),
    ("name: small\n", "", "1: 'name' is missing; add it"),
    (LAYERS, LAYERS.replace(", c: 16", ""), "13: 'out_channels' is missing; add it"),
    ("  4:\n", "  3:\n", "14: 'output_stride' cannot be '3': expected 1, 2, 4, 8, 16 or 32"),
    ("  4:\n", "  4: []\n  8:\n", "14: stage 4 has no rows; add one, or remove the stage"),
    # values
    ("[32, 48]", "[48, 32]", "4: the values 48, 32 are not in strictly increasing order; sort them"),
    ("[32, 48]", "[]", "4: got no values; expected one or more"),
    ("[32, 48]", "large", "4: 'input_size' cannot be 'large': expected a whole number"),
    (LAYERS, LAYERS.replace("[1, 2.5]", "[1, six]"), "13: 'expansion' cannot be 'six': expected a number"),
    (
        NARROW,
        NARROW.replace(", step: 16", ""),
        "15: {'first': 16, 'last': 32} is not a valid range; expected {first: …, last: …, step: …}",
    ),
    (NARROW, NARROW.replace("step: 16", "step: 5"), f"15: cannot step from 16 to 32 by 5; {UPWARDS}"),
    (
        NARROW,
        NARROW.replace("last: 32", "last: 16"),
        f"15: cannot step from 16 to 16 by 16; {UPWARDS}",
    ),
    (
        NARROW,
        NARROW.replace("last: 32", "last: 1e300"),
        f"15: from 16 to 1e+300 by 16, there are at least 1,000,000,000,001 options; {AT_MOST} {RAISE}=1000000000001",
    ),
    (DEEP, DEEP.replace("[3, 5]", "[3, 4]"), "16: a kernel of even size would shift the image; use odd sizes"),
    ("[sgd, adamw]", "[sgd, sgd]", "21: expected distinct numbers, words or null, as a list or a range"),
    ("[sgd, adamw]", "[sgd, [adam]]", "21: expected distinct numbers, words or null, as a list or a range"),
    # what is no mapping
    ("{op: skip}", "skip", f"9: {ROW_FORM}"),
    ("rest: {e: [1, 2]}", "rest: 3", f"16: {ROW_FORM}"),
    ("  wide: {head", "  wide: 3\n  wider: {head", f"19: {VARIANT}"),
    ("recipe:\n", "recipe: 3\nx:\n", "20: expected a mapping of names to values in 'recipe'"),
    # what does not fit together
    (LAYERS, LAYERS.replace("c: 16", "c: 16, r: 2"), f"13: {BOTH}"),
    (
        NARROW,
        NARROW.replace("s: 2", "s: 2, r: 2"),
        "15: a row that chooses among candidates cannot have 'r'; use 'layers'",
    ),
    (NARROW, NARROW.replace("[k3,", "[k4,"), "15: there is no candidate 'k4'; did you mean 'k3'?"),
    (
        NARROW,
        NARROW.replace("e: 2", "e: 2, k: 3"),
        "15: 'kernel_size' is both in the row and in its candidates; remove one",
    ),
    ("k3: {k: 3}", "k3: {k: 3, e: 2}", f"13: {SOME_SAY}"),
    (
        DEEP,
        DEEP.replace("e: 3", "e: 3, candidates: [k3]"),
        "16: a row has 'candidates', but also 'op'; remove one",
    ),
    (
        DEEP,
        DEEP.replace("r: [2, 3]", "r: [1, 2]"),
        "16: 'rest' is for the blocks after the first; it requires 'r' of at least 2",
    ),
    (STEM, STEM.replace("k: 3", "k: [3, 5]"), "10: only 'c' of a stem or head can be open; give one value for others"),
    ("head: {op: conv, k: 1, c: 64}", "stem: {op: conv, k: 3, c: 8, s: 2}", f"19: {ENDS_OPEN}"),
    (
        "skip: {op: skip}",
        "skip: {op: skip}\n  other: {k: 3, act: relu}",
        "14: the candidates 'k3' and 'other' are the same block; remove one",
    ),
    # networks that cannot be built
    (LAYERS, LAYERS.replace("e: [1, 2.5], ", ""), "13: op 'ir' requires 'expansion'; add it"),
    (DEEP, DEEP.replace("k: [3, 5], ", ""), "16: op 'ir' requires 'kernel_size'; add it"),
    (NARROW, NARROW.replace(", s: 2", ""), f"14: stage 4 ends at output stride 2; {STRIDES}"),
    ("k5_g2: {k: 5, g: 2}", "k5_g2: {k: 5, g: 3}", f"13: 16 channels cannot be split into 3 groups; {GROUPS}"),
    ("[1, 2.5]", "[1, 2.0625]", f"13: 33 channels cannot be split into 2 groups; {GROUPS}"),
    (
        DEEP,
        DEEP.replace("op: ir,", "op: conv,").replace("e: 3, ", "").replace(", rest: {e: [1, 2]}", ""),
        "16: 'se_ratio' does not apply to op 'conv' in a stage; remove it",
    ),
    (
        "{op: conv, k: 1, c: 64}",
        "{op: conv, k: 1, c: 64, g: 5}",
        f"19: 24 channels cannot be split into 5 groups; {GROUPS}",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "error"), MISTAKES, ids=[error for _, _, error in MISTAKES])
def test_a_mistake_gets_one_sentence(right: str, wrong: str, error: str) -> None:
    text = SMALL.replace(right, wrong, 1)
    assert text != SMALL
    with pytest.raises(DefinitionError) as caught:
        parse(text, "small.yaml")
    assert str(caught.value) == f"small.yaml:{error}"


def test_layers_are_limited() -> None:
    rows = LAYERS.replace("layers: 2", "layers: 64") + "\n"
    with pytest.raises(DefinitionError, match=r"small:11: the space has 322 layers; expected at most 256"):
        parse(SMALL.replace(LAYERS + "\n", rows * 5), "small")


def refused_or_read(text: str) -> None:
    """Parse; anything but a space or a DefinitionError with a line of the text fails the test."""
    try:
        parse(text, "random")
    except DefinitionError as error:
        file, line, problem = str(error).split(":", 2)
        assert file == "random"
        assert 1 <= int(line) <= text.count("\n") + 1
        assert problem.strip()


OPTIONS = st.lists(st.integers(-1, 40) | st.floats(0, 8), max_size=3) | st.fixed_dictionaries(
    {"first": st.integers() | st.floats(), "last": st.integers() | st.floats(), "step": st.integers() | st.floats()}
)


@given(st.integers(0, len(list(places(yaml.safe_load(SMALL)))) - 1), VALUES | OPTIONS)
def test_random_values_are_read_or_refused(place: int, value: Any) -> None:
    document = yaml.safe_load(SMALL)
    container, key = list(places(document))[place]
    container[key] = value
    refused_or_read(json.dumps(document))  # JSON is YAML


@given(st.data())
def test_random_cuts_are_read_or_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SMALL)))
    end = data.draw(st.integers(start, min(start + 30, len(SMALL))))
    refused_or_read(SMALL[:start] + data.draw(st.sampled_from(["", "{", "[", "8", "null", "c: 8, "])) + SMALL[end:])


class TestSchema:
    VALIDATOR = Draft202012Validator(space_schema())

    def document(self, text: str) -> Any:
        """The text as an editor sees it: JSON's types, keys that are text."""
        return json.loads(json.dumps(yaml.safe_load(text)))

    def test_it_is_a_schema(self) -> None:
        Draft202012Validator.check_schema(space_schema())

    @pytest.mark.parametrize("text", [SMALL, *(path.read_text(encoding="utf-8") for path in FILES)])
    def test_every_space_fits(self, text: str) -> None:
        self.VALIDATOR.validate(self.document(text))

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [
            ("layers: 2", "layer: 2"),
            ("k3: {k: 3}", "k3: {k: three}"),
            ("k3: {k: 3}", "k3: {k: 3, kernel_size: 3}"),
            ("k3: {k: 3}", "k3: {k: 3, c: 8}"),
            ("step: 16", "steps: 16"),
            ("step: 16", "step: -16"),
            ("[32, 48]", "[32, large]"),
            ("rest: {e", "rest: {c"),
            ("  4:\n", "  3:\n"),
            ("wide: {head", "wide: {heads"),
            ("input_size: [32, 48]\n", ""),
        ],
    )
    def test_mistakes_do_not_fit(self, right: str, wrong: str) -> None:
        assert right in SMALL
        assert not self.VALIDATOR.is_valid(self.document(SMALL.replace(right, wrong, 1)))

    def test_editors_can_tell_what_a_key_means(self) -> None:
        row = space_schema()["$defs"]["SpaceRow"]["properties"]
        assert row["layers"]["description"] == "number of layers, each with its own choice."
        assert row["e"] == {"$ref": "#/$defs/SpaceRow/properties/expansion"}
