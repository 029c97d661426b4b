"""The JSON Schema of definitions, and the commands for those who edit them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from jsonschema import Draft202012Validator

from fbnet_zoo import arch_file, maintain
from fbnet_zoo.registry import get_spec
from fbnet_zoo.schema import arch_schema
from fbnet_zoo.spec import LETTERS, ArchSpec
from tests.helpers.spec_strategies import specs
from tests.test_arch_defs import FILES
from tests.test_arch_file import TINY

VALIDATOR = Draft202012Validator(arch_schema())


def document(text: str) -> Any:
    """The text as an editor sees it: JSON's types, keys that are text."""
    return json.loads(json.dumps(yaml.safe_load(text)))


@pytest.mark.parametrize("name", maintain.SCHEMAS)
def test_the_file_is_current(name: str) -> None:
    path = FILES[0].parent / name
    assert path.read_text(encoding="utf-8") == maintain.schema_text(name), "write it again: make schema"


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(arch_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_definition_fits(path: Path) -> None:
    VALIDATOR.validate(document(path.read_text(encoding="utf-8")))


@given(specs())
def test_random_definitions_fit(spec: ArchSpec) -> None:
    VALIDATOR.validate(document(arch_file.dump(spec)))


def test_letters_and_names_fit() -> None:
    spelled = TINY.replace("{k: 5, e: 3, c: 16, r: 2}", "{kernel_size: 5, expansion: 3, out_channels: 16, repeats: 2}")
    VALIDATOR.validate(document(spelled))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("r: 2}", "r: 2, strid: 1}"),
        ("r: 2}", "r: 2, repeats: 2}"),
        ("c: 16, r: 2}", "r: 2}"),
        ("r: 2}", "r: two}"),
        ("op: skip", "op: skp"),
        ("act: relu", "act: relu7"),
        ("family: fbnet", "famly: fbnet"),
        ("  8:\n", "  7:\n"),
        ("input_size: 64\n", ""),
        ("https://", "ftp://"),
        (", license: MIT", ""),
    ],
)
def test_mistakes_do_not_fit(right: str, wrong: str) -> None:
    assert not VALIDATOR.is_valid(document(TINY.replace(right, wrong, 1)))


def test_editors_can_tell_what_a_letter_means() -> None:
    row = arch_schema()["$defs"]["BlockSpec"]["properties"]
    assert (
        row["expansion"]["description"] == "expansion of the input channels inside the block, `e`; may be fractional."
    )
    assert {letter: row[letter]["$ref"].rpartition("/")[2] for letter in LETTERS} == LETTERS


class TestMaintain:
    def test_counts(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(arch_file.dump(get_spec("fbnet_b")).replace("counts: {params: 4818216", "counts: {params: 1"))
        assert maintain.main(["counts", str(path)]) == 0
        assert arch_file.load(path) == get_spec("fbnet_b")
        assert capsys.readouterr().out == f"{path}: 4818216 parameters, 291004424 MACs\n"

    def test_counts_are_added(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("# mine\n" + TINY)
        assert maintain.main(["counts", str(path)]) == 0
        assert arch_file.load(path).counts == maintain.fill_counts(path)
        assert path.read_text() == arch_file.dump(arch_file.load(path))

    def test_a_mistake_is_said_and_changes_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(TINY.replace("op: skip", "op: skp"))
        assert maintain.main(["counts", str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {path}:15: 'op' cannot be 'skp'")
        assert path.read_text() == TINY.replace("op: skip", "op: skp")
