"""The records of searches: there and back, and those that earlier versions wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fbnet_zoo import arch_file
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.report.search.page import search_page
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.history import HistoryRecord
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.record import SearchRecord, load_record, save_record
from fbnet_zoo.search.runs import run_search
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import RunFolder
from tests.helpers.paths import ROOT
from tests.helpers.search_records import course, search_record
from tests.helpers.search_spaces import nano_space
from tests.helpers.training import RECIPE

COMMITTED = sorted((ROOT / "docs" / "searches").rglob("*.json")) + sorted(
    (ROOT / "arch_defs" / "weights").glob("*.search.json")
)
CONFIGS = [
    DnasConfig(epochs=6, warmup_epochs=2),
    DmaskingConfig(epochs=6, warmup_epochs=2, penalty=None),
    RandomConfig(budget=7),
    EvolutionConfig(population=30, seed=3),
]


def as_format_3(content: dict[str, Any]) -> dict[str, Any]:
    """Return what the third format had of a record: all candidates may run, or the drawn one."""
    config = content["config"]
    return content | {"format": 3, "config": config | ({"mode": "soft"} if "theta_lr" in config else {})}


def as_format_2(content: dict[str, Any]) -> dict[str, Any]:
    """Return what the second format had of a record."""
    config = content["config"]
    assert config.get("candidates", 1) == 1
    assert config["split_seed"] == config["seed"]
    assert not any(network["proposed"] for network in content["networks"])
    assert all(each["judged_top1"] is None for each in content["random"])
    assert (content["tried"], content["entropy"], content["front"]) == (None, None, [])
    return without(content, "tried", "entropy", "front") | {
        "format": 2,
        "config": without(config, "candidates", "split_seed"),
        "networks": [without(network, "proposed") for network in content["networks"]],
        "random": [without(each, "judged_top1") for each in content["random"]],
    }


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in names}


def as_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return what the first format had of a record."""
    data, config = dict(content["data"]), dict(content["config"])
    data["theta"] = data.pop("selection")
    assert content["judged"] == "with the supernet's weights"
    return without(content, "judged") | {
        "format": 1,
        "method": config.pop("method"),
        "config": config,
        "data": data,
        "decisions": [each["name"] for each in content["decisions"]],
        "options": [each["options"] for each in content["decisions"]],
    }


def as_format(number: int, content: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier format had of a record of the current one."""
    content = as_format_3(content) if number <= 3 else content
    content = as_format_2(content) if number <= 2 else content
    return as_format_1(content) if number == 1 else content


def earlier_record() -> SearchRecord:
    """Return a record of a search that compared only the networks that it drew, of images split by its seed."""
    record = search_record()
    changes = {"candidates": 1, "split_seed": record.config.seed}
    return record.model_copy(update={"config": record.config.model_copy(update=changes)})


def test_committed_records_are_there() -> None:
    formats = [json.loads(path.read_text())["format"] for path in COMMITTED]
    assert len(formats) >= 8
    assert set(formats) <= {1, 2, 3, 4}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_committed_records_are_read_whole(path: Path, tmp_path: Path) -> None:
    """Nothing in them is lost or changed."""
    content, record = json.loads(path.read_text()), load_record(path)
    assert as_format(content["format"], json.loads(record.model_dump_json())) == content
    assert record.format == 4
    assert len(record.best.positions) == len(record.decisions)
    save_record(record, tmp_path / "search.json")
    assert load_record(tmp_path / "search.json") == record


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.method)
def test_there_and_back(config: Any, tmp_path: Path) -> None:
    record = search_record(config=config, judged="in a table", data=None)
    save_record(record, tmp_path / "search.json")
    found = load_record(tmp_path / "search.json")
    assert found == record
    assert type(found.config) is type(config)
    assert json.loads((tmp_path / "search.json").read_text())["config"]["method"] == config.method


def test_a_folder_of_an_earlier_version_gives_a_page(tmp_path: Path, tiny_spec: ArchSpec) -> None:
    """The same as of a folder of this version, made from its files alone."""
    record = earlier_record()
    save_record(record, tmp_path / "search.json")
    content = as_format(1, json.loads((tmp_path / "search.json").read_text()))
    (tmp_path / "search.json").write_text(json.dumps(content, indent=1))
    arch_file.save(tiny_spec, tmp_path / "result.yaml")
    folder = RunFolder(tmp_path)
    for epoch in course(record):
        folder.log(epoch.model_dump(mode="json"))
    epochs = [SearchEpoch.model_validate_json(json.dumps(line)) for line in folder.records()]
    found = load_record(tmp_path / "search.json")
    assert found == record
    arch = arch_file.load(tmp_path / "result.yaml")
    assert search_page(found, epochs, arch) == search_page(record, course(record), tiny_spec)


class Stopped(Exception):  # noqa: N818 - no error, but what stops a search in a test
    pass


@pytest.mark.slow
def test_a_run_that_an_earlier_version_began_is_resumed(few_digits: ImageDataset, tmp_path: Path) -> None:
    """Its checkpoint tells the configuration as text; its `config.json` lacks class names and a digest of images."""
    config = DnasConfig(epochs=2, warmup_epochs=1, penalty=None, limits={"macs": 45_000.0}, samples=1, candidates=3)
    job = SearchJob(space=nano_space(), dataset=few_digits, config=config, recipe=RECIPE, batch_size=12)

    def stop(record: HistoryRecord) -> None:
        raise Stopped("by the test")

    def as_before(folder: Path) -> None:
        saved = torch.load(folder / "checkpoint.pt", weights_only=True)
        identity = saved["identity"]
        assert identity.keys() == {
            *("space", "input size", "number of classes", "number of steps", "precision", "configuration")
        }
        saved["identity"] = identity | {"configuration": json.dumps(identity["configuration"])}
        torch.save(saved, folder / "checkpoint.pt")
        content = json.loads((folder / "config.json").read_text())
        content["config"]["data"] = {key: content["config"]["data"][key] for key in known}
        (folder / "config.json").write_text(json.dumps(content))

    known = ("name", "classes", "weights", "theta", "held_out", "split")
    expected = run_search(job, tmp_path / "whole")
    told = json.loads((tmp_path / "whole" / "config.json").read_text())["config"]
    assert told.keys() == {
        *("method", "space", "input_size", "data", "table", "table_classes", "device", "precision", "batch_size"),
        *("search", "augmentation", "definition"),
    }
    assert told["data"].keys() == {*known, "class_names", "images_sha256"}
    assert expected.record.data is not None
    assert expected.record.data.class_names == few_digits.classes
    assert told["search"].keys() == set(DnasConfig.model_fields) - {"method", "checkpoint_steps"} | {"mode"}
    with pytest.raises(Stopped, match="by the test"):
        run_search(job, tmp_path / "run", progress=stop)
    as_before(tmp_path / "run")
    found = run_search(job, tmp_path / "run", resume=True)
    assert found.record.networks == expected.record.networks
    folder, as_text = tmp_path / "whole", json.dumps(told | {"search": told["search"] | {"theta_lr": 0.5}})
    (folder / "config.json").write_text(f'{{"config": {as_text}, "versions": {{}}}}')
    as_before(folder)
    other = SearchJob(
        space=nano_space(),
        dataset=few_digits,
        config=config.model_copy(update={"theta_lr": 0.5}),
        recipe=RECIPE,
        batch_size=12,
    )
    with pytest.raises(InputError, match="the checkpoint is from a search with another configuration"):
        run_search(other, folder, resume=True)


def changed(**update: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: content | update


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (changed(format=5), "search.json: format: .* expected the record of a search"),
            (changed(format="1"), "search.json: format: "),
            (changed(theta=1), "search.json: theta: Extra inputs"),
            (changed(config={"method": "annealing"}), "search.json: config: .*'dnas', 'dmasking', 'random'"),
            (changed(config={"method": "random", "epochs": 3}), "search.json: config.random.epochs: Extra inputs"),
            (changed(networks=3), "search.json: networks: "),
        ],
    )
    def test_record_of_this_version(self, tmp_path: Path, change: Callable[..., Any], told: str) -> None:
        path = tmp_path / "search.json"
        path.write_text(json.dumps(change(json.loads(search_record().model_dump_json()))))
        with pytest.raises(InputError, match=told):
            load_record(path)

    @pytest.mark.parametrize(
        "change",
        [
            changed(options=None),
            changed(options=[["a"]]),
            changed(data=None),
            changed(config=[]),
            lambda content: without(content, "options"),
            lambda content: without(content, "method"),
        ],
        ids=["no options", "too few options", "no data", "no mapping", "without options", "without method"],
    )
    def test_record_of_an_earlier_version(self, tmp_path: Path, change: Callable[..., Any]) -> None:
        path, content = tmp_path / "search.json", as_format(1, json.loads(earlier_record().model_dump_json()))
        path.write_text(json.dumps(content))
        assert load_record(path) == earlier_record()
        path.write_text(json.dumps(change(content)))
        with pytest.raises(InputError, match=r"search\.json: .*; expected the record of a search"):
            load_record(path)

    @pytest.mark.parametrize("text", ["{", "[]", "3", '"format"', "\ufeff"])
    def test_no_record(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "search.json").write_text(text)
        with pytest.raises(InputError, match=r"search\.json.*; expected the record of a search"):
            load_record(tmp_path / "search.json")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"search\.json: cannot be read: No such file"):
            load_record(tmp_path / "search.json")
