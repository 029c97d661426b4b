"""What is private to other libraries is used in one place, and a version without it is told from a missing library."""

import ast
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path

import pytest

from fbnet_zoo import _private
from fbnet_zoo._require import require
from fbnet_zoo.errors import MissingExtraError
from tests.helpers.paths import ROOT

PLACE = "_private.py"


def modules() -> list[Path]:
    folders = ("fbnet_zoo", "benchmarks", "converters", "docs", "examples")
    return sorted({path.resolve() for folder in folders for path in (ROOT / folder).rglob("*.py")})


def is_private(name: str) -> bool:
    parts = name.split(".")
    return parts[0] not in {"", "fbnet_zoo", "tests"} and any(
        part.startswith("_") and not part.startswith("__") for part in parts[1:]
    )


def private_names(path: Path) -> Iterator[str]:
    """Yield the private modules and names that a file imports, or asks `require` for."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            first = node.args[0] if called in {"require", "import_module"} and node.args else None
            names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        else:
            names = []
        yield from filter(is_private, names)


def test_private_modules_are_imported_in_one_place() -> None:
    found = {path.name: names for path in modules() if (names := list(private_names(path)))}
    assert found == {PLACE: ["torch.utils._python_dispatch.TorchDispatchMode", "torch.utils._pytree.tree_leaves"]}


def test_private_functions_are_called_in_one_place() -> None:
    """Ruff refuses private members (SLF001): where it is told not to, the member must be one of our own."""
    lines = [(path.name, line) for path in modules() for line in path.read_text().splitlines() if "SLF001" in line]
    assert {name for name, _ in lines} == {PLACE}


@pytest.mark.executorch
def test_the_runtime_is_found_under_its_name_here() -> None:
    import torch  # noqa: F401  first, as the runtime links to it

    runtime = _private.executorch_runtime()
    assert runtime.__name__ in {f"executorch.extension.pybindings.{name}" for name in ("_C", "_portable_lib")}
    assert hasattr(runtime, "_load_program")


@pytest.mark.executorch
def test_a_version_without_a_part_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_private, "_RUNTIMES", ("_of_the_future",))
    with pytest.raises(MissingExtraError) as caught:
        _private.executorch_runtime()
    expected = next(line.split(";")[0] for line in requires("fbnet-zoo") or () if line.startswith("executorch"))
    assert str(caught.value) == (
        "ExecuTorch export needs executorch.extension.pybindings._of_the_future, which is missing; "
        f"executorch {version('executorch')} is installed, expected {expected}: "
        "pip install --upgrade 'fbnet-zoo[executorch]'"
    )


def test_a_module_that_is_gone_names_the_versions() -> None:
    with pytest.raises(MissingExtraError, match=rf"No module named 'yaml.gone'\); PyYAML {version('PyYAML')} is inst"):
        require("yaml.gone", extra="onnx")
