"""Core ML packages: what they compute, what they take and give, and what their card says."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fbnet_zoo
from fbnet_zoo import registry
from fbnet_zoo._require import require
from fbnet_zoo.converters import to_coreml
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.half_precision import HalfRunner
from fbnet_zoo.converters.mil import interpreter
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import deploy_form, export
from fbnet_zoo.data import load_image, photographs
from fbnet_zoo.errors import ConversionError, InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.weights.loading import randomize
from tests.helpers.marks import first_is_quick

pytestmark = pytest.mark.coreml

LABELS = ("Käse", 'a "quoted" one', "one, with a comma", *"abcdefg")


@dataclass(frozen=True)
class Package:
    """A package, and what was returned about it."""

    path: Path
    written: Written

    @property
    def spec(self) -> Any:
        return require("coremltools", extra="coreml").utils.load_spec(str(self.path))


@pytest.fixture(scope="module")
def plain(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write(shared_tiny_model, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def photo_classifier(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("photo_classifier")
    return write(shared_tiny_model, folder, precision="fp16", labels=LABELS, image_input=True)


def write(model: FBNet, folder: Path, *, precision: str = "fp32", **options: Any) -> Package:
    program, path = export(model, ConvertOptions(**options)), folder / "net.mlpackage"
    return Package(path, to_coreml.write(program, path, ConvertOptions(precision=precision, **options)))


def images(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, size, size)).astype(np.float32)


def reference(model: FBNet, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


def photograph(size: int = 64) -> Image.Image:
    return load_image(photographs()[0]).resize((size, size))


def operators(file: Package) -> list[str]:
    main = file.spec.mlProgram.functions["main"]
    return [op.type for op in main.block_specializations[main.opset].operations if op.type != "const"]


class TestLogits:
    def test_agree_with_the_model(self, shared_tiny_model: FBNet, plain: Package) -> None:
        got = to_coreml.load(plain.path)(images(1))
        assert got.dtype == np.float32
        assert snr_db(reference(shared_tiny_model, images(1)), got) > 100

    @pytest.mark.slow
    def test_of_half_precision_are_float32(self, tiny_model: FBNet, tmp_path: Path) -> None:
        file = write(tiny_model, tmp_path, precision="fp16", batch=2)
        got = to_coreml.load(file.path)(images(2))
        assert got.dtype == np.float32
        assert 40 < snr_db(reference(tiny_model, images(2)), got) < 100

    @pytest.mark.slow
    def test_of_any_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        file = write(tiny_model, tmp_path, dynamic_batch=True)
        runner = to_coreml.load(file.path)
        for count in (1, 3, 64):
            assert snr_db(reference(tiny_model, images(count)), runner(images(count))) > 100
        with pytest.raises(InputError, match=r"1\.\.64"):
            runner(images(65))

    def test_come_from_the_package_on_disk(self, plain: Package, tmp_path: Path) -> None:
        expected = to_coreml.load(plain.path)(images(1))
        moved = plain.path.rename(tmp_path / "moved.mlpackage")
        np.testing.assert_array_equal(to_coreml.load(moved)(images(1)), expected)
        moved.rename(plain.path)


class TestGraph:
    def test_takes_and_gives_float32_by_name(self, plain: Package) -> None:
        (image,), (logits,) = plain.spec.description.input, plain.spec.description.output
        assert (image.name, logits.name) == ("image", "logits")
        for feature, shape in ((image, [1, 3, 64, 64]), (logits, [1, 10])):
            array = feature.type.multiArrayType
            assert list(array.shape) == shape
            assert array.dataType == array.FLOAT32

    def test_spells_hard_swish_with_two_operations(self, shared_tiny_model: FBNet, plain: Package) -> None:
        layers = [type(module).__name__ for module in deploy_form(shared_tiny_model).modules()]
        assert layers.count("Hardswish") > 0
        assert operators(plain).count("sigmoid_hard") == layers.count("Hardswish")
        assert "thresholded_relu" not in operators(plain)
        assert operators(plain).count("conv") == layers.count("Conv2d") + layers.count("StaticConvClassifier")

    def test_is_counted_in_the_facts(self, plain: Package) -> None:
        assert plain.written.facts["operators"] == Counter(operators(plain))

    def test_leads_a_trace_to_the_logits(self, plain: Package) -> None:
        runner = to_coreml.load(plain.path)
        traced = dict(runner.trace(images(1)))
        assert list(traced)[-1] == "logits"
        np.testing.assert_array_equal(traced["logits"], runner(images(1)))

    def test_holds_nothing_of_the_converting_machine(self, plain: Package) -> None:
        files = [path for path in plain.path.rglob("*") if path.is_file()]
        assert sorted(path.name for path in files) == ["Manifest.json", "model.mlmodel", "weight.bin"]
        raw = b"".join(path.read_bytes() for path in files)
        for word in (b"site-packages", b".py", str(Path.home()).encode(), str(plain.path.parent).encode()):
            assert word not in raw


class TestImageInput:
    @pytest.mark.parametrize("order", first_is_quick(["rgb", "bgr"]))
    @pytest.mark.slow
    def test_normalizes_exactly(self, tiny_model: FBNet, tmp_path: Path, order: str) -> None:
        asked = tiny_model.spec.eval_preprocess()
        swapped = {"order": order, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
        tiny_model.spec = tiny_model.spec.model_copy(update={"preprocess": asked.model_copy(update=swapped)})
        file = write(tiny_model, tmp_path, image_input=True)
        pixels = {"image": np.asarray(photograph())}
        normalized = eval_transform(tiny_model.spec.eval_preprocess().model_copy(update={"resize": 64}))(photograph())
        expected = reference(tiny_model, normalized[None].numpy())
        assert snr_db(expected, interpreter.load(file.path).predict(pixels)["logits"]) > 100
        assert snr_db(expected, to_coreml.load(file.path)(normalized[None].numpy())) > 100

    @pytest.mark.parametrize(("order", "layout"), first_is_quick([("rgb", "RGB"), ("bgr", "BGR")]))
    @pytest.mark.slow
    def test_is_an_image_for_apples_tools(self, tiny_model: FBNet, tmp_path: Path, order: str, layout: str) -> None:
        preprocess = tiny_model.spec.eval_preprocess().model_copy(update={"order": order})
        tiny_model.spec = tiny_model.spec.model_copy(update={"preprocess": preprocess})
        file = write(tiny_model, tmp_path, image_input=True, input_size=32)
        image = file.spec.description.input[0].type.imageType
        assert (image.width, image.height) == (32, 32)
        assert image.ColorSpace.Name(image.colorSpace) == layout
        (record,) = file.written.inputs
        assert (record.shape, record.dtype, record.layout) == ((32, 32, 3), "uint8", "image")
        assert record.channel_order == order

    @pytest.mark.parametrize("options", [{"batch": 2}, {"dynamic_batch": True}])
    def test_of_several_images_is_refused(self, tiny_model: FBNet, tmp_path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(
            InputError, match=r"^image_input requires a batch of one; leave out batch and dynamic_batch"
        ):
            write(tiny_model, tmp_path, image_input=True, **options)

    def test_without_colours_is_refused(self, tiny_model: FBNet, tmp_path: Path) -> None:
        grey = FBNet(tiny_model.spec, in_chans=1)
        randomize(grey, 0)
        with pytest.raises(InputError, match=r"^image_input requires 3 channels, the network has 1; leave it out$"):
            write(grey, tmp_path, image_input=True)


class TestClassifier:
    def test_gives_label_probabilities_and_logits(self, shared_tiny_model: FBNet, photo_classifier: Package) -> None:
        model = interpreter.load(photo_classifier.path)
        assert model.class_labels == LABELS
        got = model.predict({"image": np.asarray(photograph())})
        logits = torch.from_numpy(got["logits"])
        np.testing.assert_allclose(got["classLabel_probs"], logits.softmax(1)[0].numpy(), rtol=1e-5)
        assert got["classLabel"].item() == LABELS[int(logits.argmax())]
        normalized = eval_transform(shared_tiny_model.spec.eval_preprocess().model_copy(update={"resize": 64}))
        expected = reference(shared_tiny_model, normalized(photograph())[None].numpy())
        assert 40 < snr_db(expected, got["logits"]) < 100

    def test_is_one_for_apples_tools(self, photo_classifier: Package) -> None:
        description = photo_classifier.spec.description
        assert description.predictedFeatureName == "classLabel"
        assert description.predictedProbabilitiesName == "classLabel_probs"
        kinds = {item.name: item.type.WhichOneof("Type") for item in description.output}
        assert kinds == {"classLabel": "stringType", "classLabel_probs": "dictionaryType", "logits": "multiArrayType"}
        assert [record.name for record in photo_classifier.written.outputs] == list(kinds)
        logits = next(item for item in description.output if item.name == "logits").type.multiArrayType
        assert logits.dataType == logits.FLOAT32

    @pytest.mark.parametrize("options", first_is_quick([{"batch": 2}, {"dynamic_batch": True}]))
    @pytest.mark.slow
    def test_of_several_images_only_keeps_the_labels(
        self, tiny_model: FBNet, tmp_path: Path, options: dict[str, Any]
    ) -> None:
        file = write(tiny_model, tmp_path, labels=LABELS, **options)
        assert [item.name for item in file.spec.description.output] == ["logits"]
        assert tuple(json.loads(file.spec.description.metadata.userDefined["fbnet_zoo.labels"])) == LABELS
        assert file.written.outputs == ()

    def test_with_a_label_twice_is_refused(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"^the label 'crane' occurs 2 times, but Core ML needs distinct labels$"):
            write(tiny_model, tmp_path, labels=("crane", *LABELS[2:], "crane"))


class TestDeploymentTarget:
    @pytest.mark.parametrize(("asked", "version"), first_is_quick([("iOS15", 6), ("macOS14", 8), ("iOS18", 9)]))
    @pytest.mark.slow
    def test_sets_the_version_of_the_package(self, tiny_model: FBNet, tmp_path: Path, asked: str, version: int) -> None:
        file = write(tiny_model, tmp_path, deployment_target=asked, labels=LABELS, precision="fp16")
        assert file.spec.specificationVersion == file.written.facts["specification_version"] == version
        assert file.written.facts["deployment_target"] == asked
        assert snr_db(reference(tiny_model, images(1)), to_coreml.load(file.path)(images(1))) > 40

    def test_is_ios_16_by_default(self, plain: Package) -> None:
        assert (plain.written.facts["deployment_target"], plain.written.facts["specification_version"]) == ("iOS16", 7)
        assert plain.spec.specificationVersion == 7

    @pytest.mark.parametrize(
        ("asked", "hint"),
        [("ios17", "did you mean 'iOS17'"), ("iOS14", "did you mean 'iOS1"), ("x", "expected one of iOS15")],
    )
    def test_that_does_not_exist_is_refused(self, tiny_model: FBNet, tmp_path: Path, asked: str, hint: str) -> None:
        with pytest.raises(InputError, match=rf"^deployment_target cannot be '{asked}'; {hint}"):
            write(tiny_model, tmp_path, deployment_target=asked)


class TestCard:
    @pytest.mark.slow
    def test_is_filled_in(self, tiny_model: FBNet, tmp_path: Path) -> None:
        tiny_model.license = "CC-BY-4.0"
        description = write(tiny_model, tmp_path, labels=LABELS).spec.description
        card = description.metadata
        assert card.shortDescription == f"tiny: {tiny_model.spec.summary}"
        assert (card.author, card.license, card.versionString) == ("fbnet_zoo", "CC-BY-4.0", fbnet_zoo.__version__)
        assert card.userDefined["fbnet_zoo.name"] == "tiny"
        assert card.userDefined["fbnet_zoo.weights"] == "random seed 0"
        assert json.loads(card.userDefined["fbnet_zoo.preprocess"])["std"] == [0.229, 0.224, 0.225]
        said = {item.name: item.shortDescription for item in (*description.input, *description.output)}
        assert all(said.values())
        assert "(RGB / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]" in said["image"]

    @pytest.mark.slow
    def test_names_the_paper(self, tmp_path: Path) -> None:
        model = FBNet(registry.get_spec("mobilenet_v3_small"), num_classes=2)
        randomize(model, 0)
        card = write(model, tmp_path, input_size=32).spec.description.metadata
        assert "(arXiv:1905.02244)" in card.shortDescription
        assert card.license == "not stated"


@pytest.mark.slow
def test_manifest_describes_image_and_classes(tiny_model: FBNet, tmp_path: Path) -> None:
    artifact = convert(tiny_model, to="coreml", out=tmp_path, labels=LABELS, image_input=True)
    assert artifact.manifest.parity.checked
    assert [item.layout for item in artifact.manifest.inputs] == ["image"]
    assert [item.name for item in artifact.manifest.outputs] == ["classLabel", "classLabel_probs", "logits"]


@pytest.mark.parametrize("damage", [lambda path: (path / "Manifest.json").unlink(), lambda path: path.rename("gone")])
def test_damaged_package_is_refused(
    plain: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = shutil.copytree(plain.path, tmp_path / "net.mlpackage")
    damage(path)
    with pytest.raises((ConversionError, InputError), match=r"net\.mlpackage"):
        to_coreml.load(path)


def test_package_of_somebody_else_is_refused(plain: Package, tmp_path: Path) -> None:
    tools = require("coremltools", extra="coreml")
    package = tools.models.MLModel(str(plain.path), skip_model_load=True)
    del package.user_defined_metadata["fbnet_zoo.preprocess"]
    package.save(str(tmp_path / "other.mlpackage"))
    with pytest.raises(ConversionError, match=r"^other\.mlpackage has no fbnet_zoo\.preprocess in its metadata"):
        to_coreml.load(tmp_path / "other.mlpackage")


@pytest.mark.slow
def test_nothing_is_printed(tiny_model: FBNet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    to_coreml.load(write(tiny_model, tmp_path).path)(images(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["fbnet_b", "fbnetv3_a"])
def test_a_whole_network_agrees_with_the_model(name: str, precision: str, tmp_path: Path) -> None:
    """In fp16, as well as PyTorch's own, which depends on the weights and the image."""
    model = FBNet(registry.get_spec(name))
    randomize(model, 0)
    model.eval()
    expected, file = reference(model, images(1, 224)), write(model, tmp_path, precision=precision)
    minimum_db = 100 if precision == "fp32" else snr_db(expected, HalfRunner.of(model)(images(1, 224))) - 3
    assert minimum_db > 25
    assert snr_db(expected, to_coreml.load(file.path)(images(1, 224))) > minimum_db
