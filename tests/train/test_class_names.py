"""Names of classes: they travel with weights and runs, and are compared wherever data meet a network."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fbnet_zoo import create
from fbnet_zoo.datasets import Files, ImageDataset, open_dataset
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.train import Recipe, evaluate, fit, inputs_of, matching_dataset, train
from fbnet_zoo.train.batches import evaluation_batches
from fbnet_zoo.weights.loading import load, randomize, save
from tests.helpers.image_folders import write_images
from tests.helpers.training import INPUTS, TINY

RECIPE = Recipe(epochs=1, batch_size=4, ema_decay=None, warmup_epochs=0, threads=1)
ABC = ("a", "b", "c")


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def abc(tmp_path: Path) -> ImageDataset:
    return open_dataset(write_images(tmp_path / "data", *ABC))


def named(definition: Path, *names: str) -> FBNet:
    """Return a network with names of its classes, whose weights are not random by name."""
    model = create(definition, num_classes=len(names))
    randomize(model, 0)
    model.weights, model.class_names = "mine", names
    return model.eval()


class TestTravel:
    def test_with_a_training(self, definition: Path, abc: ImageDataset, tmp_path: Path) -> None:
        trained = train(definition, abc, RECIPE, tmp_path / "run")
        assert trained.network.class_names == ABC
        assert create(definition, pretrained=trained.weights).class_names == ABC
        config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
        assert config["data"]["class_names"] == list(ABC)
        assert len(config["data"]["images_sha256"]) == 64
        with safe_open(trained.weights, framework="pt") as file:
            assert json.loads(file.metadata()["class_names"]) == list(ABC)
            assert json.loads(file.metadata()["training"])["data"] == config["data"]

    def test_with_weights_that_are_saved_and_loaded(self, definition: Path, tmp_path: Path) -> None:
        names = ("tabby [cat]", "caf\u00e9", 'a "quoted", name')
        save(named(definition, *names), tmp_path / "one.safetensors")
        model = create(definition, num_classes=3)
        assert model.class_names is None
        load(model, tmp_path / "one.safetensors")
        assert model.class_names == names
        assert model.fuse().class_names == names

    def test_not_with_another_classifier(self, definition: Path, tmp_path: Path) -> None:
        save(named(definition, *ABC), tmp_path / "abc.safetensors")
        assert create(definition, tmp_path / "abc.safetensors", num_classes=4).class_names is None
        model = create(definition, tmp_path / "abc.safetensors")
        model.reset_classifier(3)
        assert model.class_names is None

    def test_with_training_in_python(self, definition: Path, abc: ImageDataset) -> None:
        model = create(definition, num_classes=3)
        fit(model, abc, RECIPE, INPUTS)
        assert model.class_names == ABC

    @pytest.mark.parametrize(
        ("names", "problem"),
        [(("a", "b"), "2 class names for 3 classes"), (("a", "b", "a"), "'a' is repeated"), ("abc", "cannot be 'abc'")],
    )
    def test_wrong_names_are_not_saved(self, definition: Path, tmp_path: Path, names: Any, problem: str) -> None:
        model = create(definition, num_classes=3)
        model.class_names = names
        with pytest.raises(InputError, match=problem):
            save(model, tmp_path / "wrong.safetensors")
        assert not (tmp_path / "wrong.safetensors").exists()

    @pytest.mark.parametrize("text", ['["a", "b"]', '["a", "b", "b"]', '["a", "b", 3]', "abc", '{"a": 0}', "[[["])
    def test_wrong_names_in_a_file_are_refused(self, definition: Path, tmp_path: Path, text: str) -> None:
        path = tmp_path / "file.safetensors"
        save(named(definition, *ABC), path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        save_file(load_file(path), path, metadata | {"class_names": text})
        with pytest.raises(WeightsError, match=r"file\.safetensors: metadata key 'class_names': "):
            create(definition, path)


class TestComparison:
    def test_weights_are_not_scored_on_other_classes(self, definition: Path, tmp_path: Path) -> None:
        model, other = named(definition, *ABC), open_dataset(write_images(tmp_path / "other", "b", "c", "d"))
        expected = "weights mine have other classes than other: only the weights have 'a', only the data have 'd'"
        for compare in (matching_dataset, inputs_of):
            with pytest.raises(InputError, match=expected):
                compare(model, other)

    def test_another_order_is_no_difference(self, definition: Path, abc: ImageDataset) -> None:
        plain, turned = named(definition, *ABC), named(definition, "c", "a", "b")
        with torch.no_grad():
            for name in ("weight", "bias"):
                values = plain.classifier.get_parameter(name)
                turned.classifier.get_parameter(name).copy_(values[[2, 0, 1]])
        results = []
        for model in (plain, turned):
            dataset = matching_dataset(model, abc)
            results.append(evaluate(model, dataset.held_out, inputs_of(model, dataset)))
        assert results[0] == results[1]
        with pytest.raises(InputError, match="the order differs"):
            inputs_of(turned, abc)

    def test_weights_without_names_go_by_position_and_say_so(
        self, definition: Path, abc: ImageDataset, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = named(definition, *ABC)
        model.class_names = None
        assert matching_dataset(model, abc) is abc
        assert (
            "do not name their classes: they are matched by position with those of data, 'a', 'b', 'c'" in caplog.text
        )
        caplog.clear()
        matching_dataset(model, replace(abc, classes=("n01440764", "n01443537", "n01484850")))
        model.weights = "random seed 0"
        matching_dataset(model, abc)
        assert not caplog.text

    def test_training_from_weights_of_other_classes_has_a_new_classifier(
        self, definition: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path, still = tmp_path / "abc.safetensors", RECIPE.model_copy(update={"lr": 1e-12})
        save(named(definition, *ABC), path)
        data = {name: open_dataset(write_images(tmp_path / name, *name)) for name in ("bcd", "abc")}
        start = load_file(path)["classifier.weight"]
        for name, kept in (("bcd", False), ("abc", True)):
            caplog.clear()
            tuned = train(
                definition, data[name], still, tmp_path / "run" / name, pretrained=tmp_path / "abc.safetensors"
            )
            assert tuned.network.class_names == tuple(name)
            assert torch.allclose(tuned.network.classifier.get_parameter("weight"), start, atol=1e-6) == kept
            assert ("only the weights have 'a'" in caplog.text) == (not kept)

    def test_training_keeps_the_order_of_the_weights(self, definition: Path, abc: ImageDataset, tmp_path: Path) -> None:
        save(named(definition, "c", "a", "b"), tmp_path / "cab.safetensors")
        still = RECIPE.model_copy(update={"lr": 1e-12})
        tuned = train(definition, abc, still, tmp_path / "run", pretrained=tmp_path / "cab.safetensors")
        assert tuned.network.class_names == ("c", "a", "b")
        dataset = matching_dataset(tuned.network, abc)
        result = evaluate(tuned.network, dataset.held_out, inputs_of(tuned.network, dataset))
        assert result.top1 == tuned.metrics.top1

    def test_fine_tuning_for_int8_needs_the_same_classes(self, definition: Path, tmp_path: Path) -> None:
        save(named(definition, *ABC), tmp_path / "abc.safetensors")
        other = open_dataset(write_images(tmp_path / "other", "b", "c", "d"))
        with pytest.raises(InputError, match="have other classes than other: only the weights have 'a'"):
            train(definition, other, RECIPE, tmp_path / "run", pretrained=tmp_path / "abc.safetensors", qat=True)
        assert not (tmp_path / "run").exists()


class TestResume:
    @pytest.fixture
    def run(self, definition: Path, abc: ImageDataset, tmp_path: Path) -> Callable[..., Any]:
        train(definition, abc, RECIPE, tmp_path / "run")
        return lambda data: train(definition, data, RECIPE, tmp_path / "run", resume=True)

    def test_other_classes_of_the_same_number(self, run: Callable[..., Any], tmp_path: Path) -> None:
        other = open_dataset(write_images(tmp_path / "other" / "data", "a", "b", "d"))
        with pytest.raises(InputError, match=r"another data \(class_names: 2: c, now d\); use the same"):
            run(other)

    @pytest.mark.parametrize("name", ["00.png", "03.png"])
    def test_other_images_of_the_same_names(self, run: Callable[..., Any], tmp_path: Path, name: str) -> None:
        Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "data" / "b" / name)
        with pytest.raises(InputError, match=r"another data \(images_sha256: it was changed\); use the same"):
            run(open_dataset(tmp_path / "data"))

    def test_the_same_data_elsewhere(self, run: Callable[..., Any], tmp_path: Path) -> None:
        assert run(open_dataset(write_images(tmp_path / "copy" / "data", *ABC))).metrics.epoch == 1

    def test_a_run_of_an_earlier_version(
        self, run: Callable[..., Any], abc: ImageDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        forget_names(tmp_path / "run" / "config.json")
        assert run(abc).metrics.epoch == 1
        assert "did not record the names of the classes and a digest of the images" in caplog.text

    def test_a_run_of_an_earlier_version_with_another_order(self, definition: Path, tmp_path: Path) -> None:
        data = open_dataset(write_images(tmp_path / "data", *map(str, range(11)), count=2))
        train(definition, data, RECIPE, tmp_path / "run")
        forget_names(tmp_path / "run" / "config.json")
        with pytest.raises(InputError, match="had the classes in the order 0, 1, 10, 2, …; start again"):
            train(definition, data, RECIPE, tmp_path / "run", resume=True)


def forget_names(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["config"]["data"]["class_names"], content["config"]["data"]["images_sha256"]
    path.write_text(json.dumps(content))


def test_nothing_is_written_if_an_image_cannot_be_read(definition: Path, abc: ImageDataset, tmp_path: Path) -> None:
    assert isinstance(abc.train, Files)
    for path in abc.train.paths[2:4]:
        path.write_text("no image")
    with pytest.raises(InputError, match=r"^2 of 15 images cannot be read: "):
        train(definition, abc, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_of_reading_is_reported(
    definition: Path, abc: ImageDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def track(items: Any, title: str) -> Any:
        for item in items:
            assert not (tmp_path / "run").exists()
            seen.append(item)
            yield item

    with caplog.at_level(logging.WARNING):
        train(definition, abc, RECIPE, tmp_path / "run", track=track)
    assert seen == list(range(15))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_one_line_with_workers_too(abc: ImageDataset, workers: int) -> None:
    assert isinstance(abc.held_out, Files)
    abc.held_out.paths[1].write_text("no image")
    with pytest.raises(InputError) as caught:
        list(evaluation_batches(abc.held_out, INPUTS, batch_size=2, workers=workers))
    assert str(caught.value).startswith(f"{abc.held_out.paths[1]}: not an image")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
