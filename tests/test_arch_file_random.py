"""Random definitions survive the round trip; random damage is read or refused, and nothing else can happen."""

import json
import random
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from fbnet_zoo import arch_file
from fbnet_zoo.errors import DefinitionError
from fbnet_zoo.spec import ArchSpec
from tests.helpers.spec_strategies import specs
from tests.test_arch_file import TINY


@given(specs())
def test_random_specs_survive_the_round_trip(spec: ArchSpec) -> None:
    text = arch_file.dump(spec)
    again = arch_file.parse(text)
    assert again == spec
    assert again.model_fields_set == spec.model_fields_set
    assert arch_file.dump(again) == text


def refused_or_read(text: str) -> None:
    """Parse; anything but a definition or a DefinitionError with a line of the text fails the test."""
    try:
        arch_file.parse(text, "random")
    except DefinitionError as error:
        file, line, problem = str(error).split(":", 2)
        assert file == "random"
        assert 1 <= int(line) <= text.count("\n") + 1
        assert problem.strip()


@given(st.text(max_size=200))
def test_random_text_is_refused(text: str) -> None:
    refused_or_read(text)


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_random_edits_are_read_or_refused(seed: int, edits: int) -> None:
    generator, text = random.Random(seed), TINY
    pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        "- ",
        "\n",
        " ",
        "null",
        "true",
        "8",
        "-1",
        "1e9",
        ".5",
        "'",
        '"',
        "!!int",
        "&a",
        "*a",
        "k",
        "op",
    ]
    pieces += ["stages", "c: 8", "#", "|", ">", "---\n", "\t", "%", "@", "\u2028", "\x00", "é", "9" * 30]
    for _ in range(edits):
        start = generator.randrange(len(text))
        text = text[:start] + generator.choice(pieces) + text[start + generator.choice([0, 1, 5, 30]) :]
    refused_or_read(text)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield node, key
        yield from places(child)


@given(st.integers(0, len(list(places(yaml.safe_load(TINY)))) - 1), VALUES)
def test_random_values_are_read_or_refused(place: int, value: Any) -> None:
    document = yaml.safe_load(TINY)
    container, key = list(places(document))[place]
    container[key] = value
    refused_or_read(json.dumps(document))  # JSON is YAML
