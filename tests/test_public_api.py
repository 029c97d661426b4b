"""The public names: what they are, that they exist, that they are told."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fbnet_zoo
from tests.helpers.paths import ROOT

EXPECTED = [
    "ArchSpec",
    "Cost",
    "FbnetZooError",
    "convert",
    "cost",
    "create",
    "get_spec",
    "install",
    "list_models",
    "register",
    "transforms",
]


def test_all_is_the_list_that_is_promised() -> None:
    assert fbnet_zoo.__all__ == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_public_name_is_documented_and_found_by_dir(name: str) -> None:
    assert inspect.getdoc(getattr(fbnet_zoo, name))
    assert name in dir(fbnet_zoo)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        fbnet_zoo.creat  # noqa: B018


def test_import_pulls_in_nothing_heavy() -> None:
    heavy = ["torch", "torchvision", "onnx", "coremltools", "executorch", "pydantic", "yaml"]
    code = f"import sys, fbnet_zoo; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


ROOMS = (
    *("weights", "datasets", "space", "latency", "latency.importers", "train", "converters", "deploy", "report"),
    *(
        "search",
        "search.gradient",
        "search.dnas",
        "search.dmasking",
        "search.predictive",
        "benchmarks",
        "benchmarks.devices",
        "benchmarks.lut",
    ),
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_holds_and_keeps_its_promises(room: str) -> None:
    package = importlib.import_module(f"fbnet_zoo.{room}")
    assert package.__doc__
    for name in package.__all__:
        found = getattr(package, name)
        assert name in dir(package)
        assert not callable(found) or inspect.getdoc(found), name


def _imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fbnet_zoo"):
            yield str(node.module)


def _texts() -> Iterator[tuple[Path, str]]:
    for path in (*(ROOT / "examples").glob("*.py"), *(ROOT / "docs").glob("*.py")):
        yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            yield path, block


def test_examples_and_docs_import_from_the_rooms_and_never_from_the_command_line() -> None:
    rooms = {"fbnet_zoo", *(f"fbnet_zoo.{room}" for room in ROOMS)}
    modules = {f"fbnet_zoo.{path.stem}" for path in (ROOT / "fbnet_zoo").glob("*.py")}
    deeper = {(path.name, name) for path, text in _texts() for name in _imports(text) if name not in rooms | modules}
    assert not deeper
