"""What the documentation shows works."""

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from fbnet_zoo import arch_file
from fbnet_zoo.complexity import cost
from fbnet_zoo.planner import resolve
from fbnet_zoo.registry import get_spec
from fbnet_zoo.search.record import load_record
from fbnet_zoo.spec import LETTERS, ArchSpec, BlockSpec, Op, RowOptions
from tests.helpers.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DEFINITIONS = (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[object]:
    """Return the fenced blocks of a language, each with its page and line as its id."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            marks = [pytest.mark.onnx] if language == "python" and 'to="onnx"' in match[1] else []
            found.append(pytest.param(match[1], id=f"{page.name}:{line}", marks=marks))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("text", blocks("console"))
def test_commands_exist(text: str) -> None:
    from typer.main import get_command

    from fbnet_zoo.cli.app import app

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    subcommands = get_command(app).commands
    for line in filter(None, text.splitlines()):
        program, name, *words = shlex.split(line)
        if program == "make":
            assert name in targets
        else:
            assert program == "fbnet-zoo"
            command = subcommands[name]
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_number_is_left_to_be_filled_in(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(r"\bN\b", line)] == []


class TestDefinitions:
    def test_example_is_a_definition(self) -> None:
        (text,) = re.findall(r"^```yaml\n(.*?)^```", DEFINITIONS, re.DOTALL | re.MULTILINE)
        spec = arch_file.parse(text)
        assert [stage.output_stride for stage in spec.stages] == [4, 8]
        assert cost(spec).params > 0

    def test_every_letter_has_its_long_name(self) -> None:
        assert dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", DEFINITIONS, re.MULTILINE)) == LETTERS

    def test_every_op_is_explained(self) -> None:
        table = DEFINITIONS.partition("| `op` |")[2].partition("\n\n")[0]
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(get_args(Op))

    def test_every_key_is_named(self) -> None:
        assert {*RowOptions.model_fields, *ArchSpec.model_fields} <= set(re.findall(r"`(\w+)`", DEFINITIONS))

    def test_values_in_brackets_are_those_that_hold(self) -> None:
        said = dict(re.findall(r"`(\w+)`\s\(`?(\w+)`?\)", DEFINITIONS))
        spec = get_spec("fbnet_b").model_copy(update={"defaults": RowOptions()})
        block = resolve(spec, BlockSpec(out_channels=8))
        for field in ("op", "act", "bias", "divisor", "se_of", "se_gate"):
            assert said[field] == str(getattr(block, field)).lower()


def test_own_parts_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page, in order."""
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "search.md").read_text(), re.DOTALL | re.MULTILINE)
    assert max(block.count("\n") for block in code) < 30
    found: dict[str, Any] = {}
    for block in code:
        exec(block, found)
    records = {path.parent.name: load_record(path) for path in Path("runs").glob("*/search.json")}
    assert records.keys() == {"own_cost", "own_images", "own_accuracy"}
    for name in ("own_cost", "own_accuracy"):
        for network in records[name].networks:
            energy = found["energy"](found["job"].definition(network.choices))
            assert network.costs["energy"] == energy <= 9
    best = records["own_accuracy"].best
    assert best.top1 == 90 - abs(best.costs["energy"] - 9)
    assert records["own_accuracy"].judged == "by accuracy"
    assert records["own_images"].data is not None
    assert records["own_images"].data.class_names == ("upper", "lower")


def test_configuration_of_a_search_is_the_default(tmp_path: Path) -> None:
    from fbnet_zoo.search.gradient.config import DnasConfig
    from fbnet_zoo.train.recipe import load_over

    (text,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "search.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "search.yaml").write_text(text)
    other = DnasConfig(epochs=1, weight_lr=1.0, theta_lr=1.0, samples=1, checkpoint_steps=1)
    read = load_over(tmp_path / "search.yaml", other)
    assert read.model_copy(update={"temperature": DnasConfig().temperature}) == DnasConfig()
    assert read.temperature.decay == pytest.approx(DnasConfig().temperature.decay)
