"""The entry that this package searched and trained: what ships with it, and what it reaches."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors import safe_open

from fbnet_zoo import create, get_spec
from fbnet_zoo.datasets import open_dataset
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.table import network_ms
from fbnet_zoo.search.record import load_record
from fbnet_zoo.space import load_space
from fbnet_zoo.train import evaluate, inputs_of

NAME = "digits_fbnet_s"
WEIGHTS = Path(str(files("fbnet_zoo.arch_defs"))) / "weights"


def test_it_reaches_98_percent_of_held_out_digits() -> None:
    network, dataset = create(NAME, pretrained=True).eval(), open_dataset("digits")
    assert network.plan.num_classes == len(dataset.classes)
    assert evaluate(network, dataset.held_out, inputs_of(network, dataset)).top1 >= 98


def test_the_record_of_its_search_ships() -> None:
    spec, record = get_spec(NAME), load_record(WEIGHTS / f"{NAME}.search.json")
    assert spec.source is not None
    assert spec.source.entry == f"weights/{NAME}.search.json"
    assert load_space(record.space).encode(spec).layers == record.best.choices.layers
    table = find_table(record.metrics[0].table or "")
    assert network_ms(table, spec, num_classes=10) == pytest.approx(record.best.costs["latency"])
    assert record.best.costs["latency"] <= record.config.limits["latency"]
    assert record.met
    assert record.trained is not None
    assert f"{record.trained.top1:.1f} %" in spec.summary


def test_its_weights_tell_how_they_were_trained() -> None:
    record = load_record(WEIGHTS / f"{NAME}.search.json")
    with safe_open(WEIGHTS / f"{NAME}.searched.safetensors", framework="pt") as file:
        told = json.loads(file.metadata()["training"])
    assert record.trained is not None
    assert told["recipe"] == record.trained.recipe.model_dump(mode="json") | {"threads": 1}
    assert told["data"]["name"] == record.data.name
