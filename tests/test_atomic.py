"""Files appear complete or not at all: until the last moment, and after an error, what was there is unchanged."""

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fbnet_zoo import arch_file, weights
from fbnet_zoo.atomic import atomic_file, write_atomically
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import save_table
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import RunFolder
from tests.helpers.latency_tables import table
from tests.helpers.paths import ROOT

NOT_ATOMIC = {
    "fbnet_zoo/_http.py": "into a temporary folder, from which the verified file is moved",
    "fbnet_zoo/_silence.py": "a stream of the process",
    "fbnet_zoo/cli/screen.py": "a stream of the terminal",
    "fbnet_zoo/cli/streams.py": "a stream of the process",
    "fbnet_zoo/deploy/build.py": "into the staging folder of a bundle, which is moved as a whole",
    "fbnet_zoo/deploy/reference.py": "into the staging folder of a bundle, which is moved as a whole",
    "fbnet_zoo/train/run_folder.py": "appends whole lines; a last one that is incomplete is ignored",
    "fbnet_zoo/search/workers/child.py": "a stream of the process",
    "benchmarks/devices/android.py": "into a temporary folder, from which the file is pushed",
    "benchmarks/devices/apple_process.py": "into the temporary folder of a child process",
    "benchmarks/runtimes/child.py": "into the temporary folder of a child process",
    "benchmarks/runtimes/run_coreml.py": "into the temporary folder of a child process",
    "benchmarks/store.py": "appends whole lines under a lock",
    "benchmarks/suites/separate_convert.py": "into the temporary folder of a benchmark",
    "converters/tflite/writer.py": "at the path that a conversion publishes later",
    "converters/to_executorch.py": "at the path that a conversion publishes later",
    "converters/to_onnx.py": "at the path that a conversion publishes later",
}
"""Modules that may write files in place, and why nobody finds half of one."""


def save_text(path: Path, number: int) -> None:
    write_atomically(path, f"text {number}\n")


def save_bytes(path: Path, number: int) -> None:
    with atomic_file(path) as file:
        file.write(bytes([number]) * 100_000)


def save_checkpoint(path: Path, number: int) -> None:
    RunFolder(path.parent).save({"step": number, "value": torch.full((1000,), number)})


def forget(path: Path, number: int) -> None:
    path.write_text("".join(f'{{"step": {step}}}\n' for step in (1, 2, 3))) if number == 1 else None
    RunFolder(path.parent).forget_after(4 - number)


@pytest.fixture
def writers(tiny_spec: ArchSpec, tiny_model: FBNet) -> dict[str, Callable[[Path, int], None]]:
    def save_spec(path: Path, number: int) -> None:
        arch_file.save(tiny_spec.model_copy(update={"summary": f"Network {number}."}), path)

    def save_weights(path: Path, number: int) -> None:
        weights.randomize(tiny_model, number)
        weights.save(tiny_model, path)

    def save_latencies(path: Path, number: int) -> None:
        save_table(table(float(number)), path)

    return {
        "text.txt": save_text,
        "bytes.bin": save_bytes,
        "checkpoint.pt": save_checkpoint,
        "metrics.jsonl": forget,
        "tiny.yaml": save_spec,
        "tiny.safetensors": save_weights,
        "table.json": save_latencies,
    }


NAMES = ("text.txt", "bytes.bin", "checkpoint.pt", "metrics.jsonl", "tiny.yaml", "tiny.safetensors", "table.json")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_what_was_there_stays_until_the_new_file_is_complete(
    writers: dict[str, Callable[[Path, int], None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    moment: str,
) -> None:
    """The disk is full when the content is synced, or when the file is renamed; nothing was seen before."""
    path, seen = tmp_path / name, []
    writers[name](path, 1)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        seen.append(path.read_bytes())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if moment == "fsync" else (Path, "replace", full)))
    with pytest.raises(InputError, match=rf"{name} cannot be written \(No space left on device\)"):
        writers[name](path, 2)
    monkeypatch.undo()
    assert seen == [before]
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    writers[name](path, 2)
    assert path.read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            file.flush()
            assert path.read_bytes() == b"before"
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_half()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def written_in_place() -> Iterator[str]:
    """Yield the modules with a call that writes a file directly."""
    modules = (path for folder in ("fbnet_zoo", "converters", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
    for module in modules:
        name = module.relative_to(ROOT).as_posix()
        if name != "fbnet_zoo/atomic.py" and any(map(_writes, ast.walk(ast.parse(module.read_text(encoding="utf-8"))))):
            yield name


def _writes(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    modes = [
        each.value for each in (*node.args, *(word.value for word in node.keywords)) if isinstance(each, ast.Constant)
    ]
    opened = name in {"open", "fdopen"} and any(
        mode in modes for mode in ("w", "wb", "a", "ab", "ab+", "w+", "x", "xb")
    )
    return opened or name in {"write_text", "write_bytes", "save_file"} or ast.unparse(node.func) == "json.dump"


def test_only_named_modules_write_in_place() -> None:
    assert set(written_in_place()) == set(NOT_ATOMIC)
