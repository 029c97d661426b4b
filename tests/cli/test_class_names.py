"""Names of classes on the command line: from a training to predictions, files and bundles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from fbnet_zoo import create
from fbnet_zoo.cli.app import app
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.datasets import open_dataset
from fbnet_zoo.deploy.record import Bundle
from fbnet_zoo.weights.loading import randomize, save
from tests.helpers.image_folders import write_images
from tests.helpers.training import TINY

NAMES = ("cat", "tabby [cat]", "dog")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def read_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def error(result: Result) -> str:
    """Return the one line of a refusal."""
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "recipe.yaml").write_text("batch_size: 4\nema_decay: null\nwarmup_epochs: 0\n")
    return tmp_path / "tiny.yaml"


@pytest.fixture
def weights(tiny: Path, tmp_path: Path) -> Path:
    """Weights of three classes with names."""
    model = create(tiny, num_classes=3)
    randomize(model, 0)
    model.weights, model.class_names = "mine", NAMES
    save(model, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (20, 20), (200, 10, 10)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def labels(tmp_path: Path, *names: str) -> Path:
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path / "labels.txt"


def test_trained_weights_know_their_classes(tiny: Path, tmp_path: Path, image: Path) -> None:
    data = write_images(tmp_path / "data", "ant", "bee", "cow")
    asked = ("train", tiny, "--data", data, "--recipe", tmp_path / "recipe.yaml", "--epochs", 1)
    trained = read_json(run(*asked, "--out", tmp_path / "run", "--json"))
    answer = read_json(run("predict", tiny, image, "--weights", trained["weights"], "--json"))
    assert {entry["label"] for entry in answer["images"][0]["classes"]} == {"ant", "bee", "cow"}
    other = write_images(tmp_path / "other" / "data", "bee", "cow", "dog")
    refused = error(run("eval", tiny, "--data", other, "--weights", trained["weights"]))
    assert "have other classes than data: only the weights have 'ant', only the data have 'dog'" in refused
    again = error(run(*asked[:3], other, *asked[4:], "--out", tmp_path / "run", "--resume"))
    assert "holds a run with another data (class_names: 0: ant, now bee)" in again


def test_predictions_have_the_names_of_the_weights(tiny: Path, weights: Path, image: Path, tmp_path: Path) -> None:
    asked = ("predict", tiny, image, "--weights", weights)
    first = read_json(run(*asked, "--json"))["images"][0]["classes"]
    assert {entry["index"]: entry["label"] for entry in first} == dict(enumerate(NAMES))
    renamed = read_json(run(*asked, "--labels", labels(tmp_path, "x", "y", "z"), "--json"))["images"][0]["classes"]
    assert {entry["index"]: entry["label"] for entry in renamed} == dict(enumerate("xyz"))


@pytest.mark.onnx
@pytest.mark.parametrize("command", ["predict", "convert", "deploy"])
def test_labels_in_another_order_are_refused_everywhere(
    tiny: Path, weights: Path, image: Path, tmp_path: Path, command: str
) -> None:
    out = ("--out", tmp_path / "out")
    words = {"predict": (image,), "convert": ("--to", "onnx", *out), "deploy": ("--target", "onnx", *out)}[command]
    file = labels(tmp_path, "dog", "tabby [cat]", "cat")
    result = run(command, tiny, *words, "--weights", weights, "--labels", file)
    assert result.exit_code == 2
    assert "label 0 is 'dog', which the weights have as class 2; give the labels in the order" in result.stderr
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.onnx
def test_files_have_the_names_of_the_weights(tiny: Path, weights: Path, tmp_path: Path) -> None:
    import onnx

    (record,) = read_json(run("convert", tiny, "--weights", weights, "--to", "onnx", "--out", tmp_path, "--json"))[
        "files"
    ]
    assert Manifest.load(Path(record["manifest"])).class_names == NAMES
    metadata = {each.key: each.value for each in onnx.load(record["path"]).metadata_props}
    assert json.loads(metadata["labels"]) == list(NAMES)


@pytest.mark.onnx
@pytest.mark.slow
def test_bundles_have_the_names_of_the_weights(tiny: Path, weights: Path, tmp_path: Path) -> None:
    asked = ("deploy", tiny, "--weights", weights, "--target", "onnx", "--json", "--out")
    read_json(run(*asked, tmp_path / "bundle"))
    assert (tmp_path / "bundle" / "labels.txt").read_text().splitlines() == list(NAMES)
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.labels == "stored with the weights"
    assert bundle.deployed[0].manifest.class_names == NAMES


def test_shipped_weights_name_the_digits(tmp_path: Path) -> None:
    network, dataset = create("digits_fbnet_s", pretrained=True), open_dataset("digits")
    assert network.class_names == dataset.classes
    pixels = (255 * (1 - dataset.held_out.image(0))).byte()[0].numpy()  # type: ignore[operator]
    Image.fromarray(np.kron(pixels, np.ones((4, 4), np.uint8))).save(tmp_path / "digit.png")
    answer = read_json(run("predict", "digits_fbnet_s", tmp_path / "digit.png", "--json"))
    assert {entry["label"] for entry in answer["images"][0]["classes"]} <= set("0123456789")


def test_a_long_list_of_unreadable_images_is_one_line(tiny: Path, weights: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", *NAMES, count=8)
    for path in sorted(data.rglob("0[0-7].png"))[:13]:
        path.write_text("no image")
    asked = ("train", tiny, "--data", data, "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    for words in (asked, ("eval", tiny, "--data", data, "--weights", weights)):
        assert "images cannot be read: " in error(run(*words))
    assert "13 of 24 images" in error(run(*asked))
    assert error(run(*asked)).endswith("; and 3 more")
    assert not (tmp_path / "run").exists()
