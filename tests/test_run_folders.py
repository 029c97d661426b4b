"""Run folders that were damaged: every file in each of eight ways is an error with its name and, in JSON, the key."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fbnet_zoo import arch_file
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.record import load_record
from fbnet_zoo.search.runs import run_search
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.train import train
from tests.helpers.search_oracles import oracle
from tests.helpers.search_spaces import POINTS, nano_space
from tests.helpers.training import RECIPE, TINY

SHORT = RECIPE.model_copy(update={"epochs": 2})
WAYS = ("empty", "truncated", "binary", "wrong type", "missing key", "extra key", "not a number", "other version")

Content = Any
Change = Callable[[Content], Content]


def _without(key: str) -> Change:
    return lambda content: {name: value for name, value in content.items() if name != key}


def _with(key: str, value: Any) -> Change:
    return lambda content: content | {key: value}


def changes(key: str) -> dict[str, Change]:
    """Return the ways that change a mapping, at a key with a number in it."""
    return {
        "wrong type": list,
        "missing key": _without(key),
        "extra key": _with("unheard_of", 1),
        "not a number": _with(key, float("nan")),
        "other version": _with("format", 99),
    }


def damaged(content: bytes, way: str, change: Callable[[bytes, Change], bytes], key: str) -> bytes:
    if way in {"empty", "truncated"}:
        return content[: len(content) // 3 if way == "truncated" else 0]
    if way == "binary":
        return bytes(range(256)) * 4
    return change(content, changes(key)[way])


def in_json(content: bytes, change: Change) -> bytes:
    return json.dumps(change(json.loads(content))).encode()


def in_first_line(content: bytes, change: Change) -> bytes:
    first, *others = content.splitlines()
    return b"\n".join([in_json(first, change), *others, b""])


def in_checkpoint(content: bytes, change: Change) -> bytes:
    file = io.BytesIO()
    torch.save(change(torch.load(io.BytesIO(content), weights_only=True)), file)
    return file.getvalue()


def told(way: str, file: str, key: str) -> str:
    """Return what the error must name."""
    inside = {"missing key": key, "extra key": "unheard_of", "not a number": key, "other version": "format"}
    return rf"{file}.*{inside.get(way, '')}"


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def training(definition: Path, few_digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "run"
    train(definition, few_digits, SHORT, folder)
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> SearchJob:
    known = oracle(tmp_path_factory.mktemp("known") / "known.csv", Encoding(nano_space()), POINTS)
    config = RandomConfig(budget=5)
    return SearchJob(space=nano_space(), dataset=None, config=config, recipe=RECIPE, batch_size=8, oracle=known)


@pytest.fixture(scope="module")
def searched(job: SearchJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "run"
    run_search(job, folder)
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("file", "change", "key"),
    [
        ("config.json", in_json, "config"),
        ("metrics.jsonl", in_first_line, "step"),
        ("checkpoint.pt", in_checkpoint, "step"),
    ],
)
def test_damaged_training(
    way: str,
    file: str,
    change: Callable[[bytes, Change], bytes],
    key: str,
    training: Path,
    definition: Path,
    few_digits: ImageDataset,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(training, tmp_path / "run")
    (folder / file).write_bytes(damaged((folder / file).read_bytes(), way, change, key))
    with pytest.raises(InputError, match=told(way, file, key)):
        train(definition, few_digits, SHORT, folder, resume=True)


@pytest.mark.parametrize("place", ["network", "average"])
def test_a_checkpoint_of_weights_that_are_no_numbers(
    place: str, training: Path, definition: Path, few_digits: ImageDataset, tmp_path: Path
) -> None:
    folder = shutil.copytree(training, tmp_path / "run")
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    name, value = next(item for item in saved[place].items() if item[1].is_floating_point())
    saved[place][name] = torch.full_like(value, float("nan"))
    torch.save(saved, folder / "checkpoint.pt")
    with pytest.raises(InputError, match=rf"checkpoint\.pt is damaged: {place}\.{name}: has NaN"):
        train(definition, few_digits, SHORT, folder, resume=True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("file", "change", "key"),
    [
        ("config.json", in_json, "versions"),
        ("metrics.jsonl", in_first_line, "top1"),
        ("search.json", in_json, "seconds"),
    ],
)
def test_damaged_search(
    way: str,
    file: str,
    change: Callable[[bytes, Change], bytes],
    key: str,
    searched: Path,
    job: SearchJob,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(searched, tmp_path / "run")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(damaged(content, way, change, key))
    if file == "metrics.jsonl" and way in {"empty", "truncated"}:  # as after a kill: these networks are evaluated again
        run_search(job, folder, resume=True)
        assert len((folder / file).read_bytes().splitlines()) == len(content.splitlines())
        return
    with pytest.raises(InputError, match=told(way, file, key)):
        load_record(folder / file) if file == "search.json" else run_search(job, folder, resume=True)


@pytest.mark.parametrize("way", ["empty", "truncated", "binary", "wrong type", "extra key", "not a number"])
def test_damaged_definition_of_the_result(way: str, searched: Path, tmp_path: Path) -> None:
    content = (searched / "result.yaml").read_bytes()
    made = {
        "wrong type": b"- 1\n",
        "extra key": content + b"unheard_of: 1\n",
        "not a number": content.replace(b"input_size: 16", b"input_size: nan"),
    }
    path = tmp_path / "result.yaml"
    path.write_bytes(made.get(way) or damaged(content, way, in_json, ""))
    with pytest.raises(InputError, match=r"result\.yaml:\d+: "):
        arch_file.load(path)
