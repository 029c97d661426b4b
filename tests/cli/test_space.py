"""`fbnet-zoo space`, and what docs/spaces.md shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fbnet_zoo import arch_file, create
from fbnet_zoo.cli.app import app
from fbnet_zoo.space import Choices, list_spaces, load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import parse
from fbnet_zoo.space.records import CandidateSpec, RestSpec, SpaceRow, SpaceSpec
from fbnet_zoo.spec import LETTERS, RowOptions
from tests.helpers.paths import ROOT
from tests.helpers.space_texts import SMALL, SMALL_SIZE, every_point

PAGE = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["space", *(str(word) for word in words)])


def read_json(*words: object) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class TestCommand:
    def test_list(self) -> None:
        assert {line.split()[0] for line in run("list").stdout.splitlines()[1:]} == set(list_spaces())

    def test_list_as_json(self) -> None:
        spaces = {entry["name"]: entry for entry in read_json("list")["spaces"]}
        assert set(spaces) == set(list_spaces())
        assert int(spaces["fbnet"]["size"]) == 9**22

    def test_show(self, tmp_path: Path) -> None:
        path = tmp_path / "small.yaml"
        path.write_text(SMALL)
        page = run("show", path).stdout
        assert f"networks  {SMALL_SIZE:,}" in page
        assert re.search(r"^stages\.2\.0 +k3 k5_g2 skip; e 1 or 2\.5 +16 +5$", page, re.MULTILINE)
        assert re.search(r"^stages\.4\.1 +k 3 or 5; r 2 or 3; rest e 1 or 2 +24 +8$", page, re.MULTILINE)
        assert "lr: 0.1, 0.2 or 0.3" in page

    def test_show_as_json(self) -> None:
        shown = read_json("show", "digits_tiny")
        assert [layer["choices"] for layer in shown["layers"]] == [6] * 7
        assert shown["operators"] == len(load_space("digits_tiny").operators())
        assert shown["space"]["name"] == "digits_tiny"
        assert shown["decisions"][1] == {
            "name": "stages.4.0",
            "options": ["k3_e1", "k3_e3", "k3_e6", "k5_e3", "k5_e6", "skip"],
        }

    @pytest.mark.parametrize("name", ["digits_tiny", "digits_masking", "fbnetv3"])
    def test_show_as_json_lists_the_decisions(self, name: str) -> None:
        """In the order of a network's positions: the columns of a table of accuracies."""
        encoding = Encoding(load_space(name))
        expected = [{"name": each.name, "options": list(each.options)} for each in encoding.decisions]
        assert read_json("show", name)["decisions"] == expected

    def test_sample_prints_a_definition(self) -> None:
        space = load_space("fbnet")
        result = run("sample", "fbnet", "--seed", 5)
        assert space.encode(arch_file.parse(result.stdout)) == space.sample(5)

    def test_sample_writes_a_definition(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        about = read_json("sample", "digits_tiny", "--seed", 3, "--out", path)
        choices = load_space("digits_tiny").sample(3)
        assert Choices.model_validate_json(json.dumps(about["choices"])) == choices
        assert about["file"] == str(path)
        model = create(path, num_classes=10)
        assert load_space("digits_tiny").encode(model.spec) == choices
        quiet = run("sample", "digits_tiny", "--out", path)
        assert quiet.stdout == ""
        assert "wrote digits_tiny_" in quiet.stderr

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (["show", "fbmet"], "error: no search space is named 'fbmet'; did you mean 'fbnet'?\n"),
            (["sample", "fbnet", "--out", "a.txt"], "error: --out cannot be a.txt; expected a .yaml or "),
            (["show", "none.yaml"], "error: cannot read none.yaml: No such file or directory"),
        ],
    )
    def test_a_mistake_is_one_line(self, words: list[str], error: str) -> None:
        result = run(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith(error)
        assert result.stderr.count("\n") == 1


class TestPage:
    def test_example_is_a_space_of_the_size_it_says(self) -> None:
        (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        space = parse(text)
        (said,) = re.findall(r"= ([\d,]+) networks", PAGE)
        assert space.size() == int(said.replace(",", "")) == len(set(every_point(space)))

    def test_python_runs(self) -> None:
        (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        exec(compile(code, "spaces.md", "exec"), {})

    def test_commands_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (text,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        for line in text.splitlines():
            assert run(*line.removeprefix("fbnet-zoo space ").split()).exit_code == 0

    def test_table_has_every_space_and_its_size(self) -> None:
        rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.e^]+) \|", PAGE, re.MULTILINE))
        for name in list_spaces():
            size = load_space(name).size()
            base, _, exponent = rows.pop(name).partition("^")
            assert size == int(base) ** int(exponent) if exponent else float(base) == pytest.approx(size, rel=0.05)
        assert rows == {}

    def test_every_key_is_named(self) -> None:
        """Here or, where definitions have it too, on their page."""
        own = {*SpaceSpec.model_fields, *SpaceRow.model_fields, *RestSpec.model_fields, *CandidateSpec.model_fields}
        shared = {*RowOptions.model_fields, *LETTERS.values(), "name", "family", "summary"}
        assert own - shared <= set(re.findall(r"`(\w+)`", PAGE)) | set(re.findall(r"^(\w+):", PAGE, re.MULTILINE))
