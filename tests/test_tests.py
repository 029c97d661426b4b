"""Rules of the tests themselves: an error is expected with its text, and every marker marks something."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

TESTS = ROOT / "tests"
SILENT = {"KeyboardInterrupt"}
"""Exceptions that have no text."""


@cache
def parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("*.py"))}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def expectations(function: ast.FunctionDef) -> Iterator[tuple[ast.Call, str | None]]:
    """Yield each `pytest.raises` of a `with`, and the name that it is bound to."""
    items = (item for node in ast.walk(function) if isinstance(node, ast.With) for item in node.items)
    for item in items:
        call, name = item.context_expr, item.optional_vars
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises":
            yield call, name.id if isinstance(name, ast.Name) else None


def is_told(function: ast.FunctionDef, call: ast.Call, name: str | None) -> bool:
    """Whether the text of an error is compared: by `match`, or later through the name."""
    if any(word.arg == "match" for word in call.keywords) or ast.unparse(call.args[0]) in SILENT:
        return True
    return name is not None and f"{name}.value" in ast.unparse(function)


def test_every_expected_error_has_its_text() -> None:
    """An error of the same class for another reason must not pass."""
    untold = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, tree in parsed().items()
        for function in functions(tree)
        for call, name in expectations(function)
        if not is_told(function, call, name)
    ]
    assert untold == []


@pytest.mark.parametrize("match", ["", ".*", "^$"])
def test_no_text_is_empty(match: str) -> None:
    matches = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in parsed().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises"
        for word in node.keywords
        if word.arg == "match" and isinstance(word.value, ast.Constant) and word.value.value == match
    ]
    assert matches == []


def markers() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [text.partition(":")[0] for text in settings["tool"]["pytest"]["ini_options"]["markers"]]


@pytest.mark.parametrize("marker", markers())
def test_every_marker_marks_something(marker: str) -> None:
    used = re.compile(rf"\bmark\.{marker}\b")
    texts = (path.read_text(encoding="utf-8") for path in parsed())
    assert any(used.search(text) for text in texts), f"no test has the marker {marker!r}; remove it from pyproject.toml"
