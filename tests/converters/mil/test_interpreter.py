"""The interpreter on whole packages: networks, images, classes, flexible shapes, compressed weights, broken files."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo._require import quiet, require, torchvision
from fbnet_zoo.converters.mil import interpreter
from fbnet_zoo.errors import ConversionError, InputError
from tests.helpers.marks import first_is_quick
from tests.helpers.mil_packages import MINIMUM_DB, only_output, save, snr_db, with_random_statistics

pytestmark = pytest.mark.coreml

WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")


class SmallNet(nn.Module):
    """Large enough in all but its last layer for coremltools to keep the weights in a file of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.classifier = nn.Conv2d(3, 64, 3, 2, 1), nn.Conv2d(64, 64, 1), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x).relu()).relu()
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.classifier(x.mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    return SmallNet().eval()


@pytest.mark.parametrize("precision", first_is_quick(MINIMUM_DB))
@pytest.mark.parametrize("name", ["fbnetc_100", pytest.param("fbnetv3_b", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_whole_network_agrees_with_pytorch(name: str, precision: str, tmp_path: Path) -> None:
    torchvision()  # timm imports it
    with quiet(), torch.random.fork_rng(devices=[]):
        import timm

        torch.manual_seed(0)
        model = with_random_statistics(timm.create_model(name, num_classes=10))
        x = torch.randn(1, 3, 64, 64)
    save(model, x, tmp_path / "net.mlpackage", precision=precision)
    assert snr_db(model(x), only_output(tmp_path / "net.mlpackage", x=x)) >= MINIMUM_DB[precision]


def test_the_weights_come_from_the_file_on_disk(net: nn.Module, tmp_path: Path) -> None:
    x, other = torch.randn(1, 3, 8, 8), SmallNet().eval()
    save(net, x, tmp_path / "net.mlpackage")
    save(other, x, tmp_path / "other.mlpackage")
    shutil.copy(tmp_path / "other.mlpackage" / WEIGHTS, tmp_path / "net.mlpackage" / WEIGHTS)
    # coremltools writes very short tensors into the program itself, so one bias stays that of `net`
    from_file = {name: value for name, value in other.state_dict().items() if name != "classifier.bias"}
    net.load_state_dict(from_file, strict=False)
    assert snr_db(net(x), only_output(tmp_path / "net.mlpackage", x=x)) >= 100


@pytest.mark.slow
def test_trace_leads_to_the_first_layer_that_differs(net: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 8, 8)
    save(net, x, tmp_path / "good.mlpackage")
    with torch.no_grad():
        net.get_parameter("body.weight")[5, 7] += 0.1
    save(net, x, tmp_path / "bad.mlpackage")
    good, bad = (interpreter.load(tmp_path / f"{name}.mlpackage").trace({"x": x.numpy()}) for name in ("good", "bad"))
    same = {name: np.array_equal(a, b) for (name, a), (_, b) in zip(good, bad, strict=True)}
    assert list(same.items())[:3] == [("conv2d", True), ("relu", True), ("conv2d_1", False)]


@pytest.mark.slow
def test_tensors_inside_an_fp16_program_are_fp16(net: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 8, 8)
    save(net, x, tmp_path / "net.mlpackage", precision="FLOAT16")
    *inside, (_, last) = interpreter.load(tmp_path / "net.mlpackage").trace({"x": x.numpy()})
    assert {array.dtype for _, array in inside} == {np.dtype(np.float16)}
    assert last.dtype == np.float32


@pytest.mark.parametrize("precision", first_is_quick(MINIMUM_DB))
@pytest.mark.parametrize("layout", first_is_quick(["BGR", "RGB"]))
def test_an_image_is_given_in_rgb_whatever_the_layout_of_the_file(
    layout: str, precision: str, net: nn.Module, tmp_path: Path
) -> None:
    coremltools = require("coremltools", extra="coreml")
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    mean, color_layout = [0.485, 0.456, 0.406], coremltools.colorlayout[layout]
    options = {"scale": 1 / 255, "bias": [-value for value in mean], "color_layout": color_layout}
    image_input = coremltools.ImageType(name="image", shape=(1, 3, 8, 12), **options)
    save(net, torch.zeros(1, 3, 8, 12), tmp_path / "net.mlpackage", precision=precision, inputs=[image_input])

    model = interpreter.load(tmp_path / "net.mlpackage")
    assert model.inputs[0].colour_layout == layout
    channels = image if layout == "RGB" else image[..., ::-1]
    pixels = torch.tensor(channels / 255 - mean, dtype=torch.float32).permute(2, 0, 1)[None]
    for given in (image, image[None]):
        (got,) = model.predict({"image": given}).values()
        assert snr_db(net(pixels), got) >= MINIMUM_DB[precision]


@pytest.mark.slow
def test_a_grey_image_has_one_channel(tmp_path: Path) -> None:
    coremltools = require("coremltools", extra="coreml")
    conv, image = nn.Conv2d(1, 4, 3), np.random.default_rng(0).integers(0, 256, (8, 12, 1), dtype=np.uint8)
    image_input = coremltools.ImageType(shape=(1, 1, 8, 12), color_layout=coremltools.colorlayout.GRAYSCALE)
    save(conv, torch.zeros(1, 1, 8, 12), tmp_path / "net.mlpackage", inputs=[image_input])
    model = interpreter.load(tmp_path / "net.mlpackage")
    (got,) = model.predict({model.inputs[0].name: image}).values()
    assert snr_db(conv(torch.tensor(image).permute(2, 0, 1)[None].float()), got) >= 100


@pytest.mark.parametrize("labels", first_is_quick([["cat", "dog", "newt", "owl"], [7, 11, 13, 17]]))
def test_a_classifier_gives_label_and_probabilities(labels: list[Any], net: nn.Module, tmp_path: Path) -> None:
    coremltools = require("coremltools", extra="coreml")
    x, classifier = torch.randn(1, 3, 8, 8), nn.Sequential(net, nn.Softmax(dim=1))
    config = coremltools.ClassifierConfig(labels, predicted_feature_name="species")
    save(classifier, x, tmp_path / "net.mlpackage", classifier_config=config)
    model = interpreter.load(tmp_path / "net.mlpackage")
    outputs = model.predict({model.inputs[0].name: x.numpy()})
    assert model.class_labels == tuple(labels)
    assert set(outputs) == set(model.outputs) == {"species", "species_probs"}
    assert snr_db(classifier(x)[0], outputs["species_probs"]) >= 100
    assert outputs["species"].item() == labels[int(net(x).argmax())]


@pytest.mark.parametrize("axes", [{0: "batch"}, {0: "batch", 2: "height", 3: "width"}])
@pytest.mark.slow
def test_flexible_axes_take_what_the_file_allows(axes: dict[int, str], net: nn.Module, tmp_path: Path) -> None:
    dynamic = {axis: torch.export.Dim(name, min=4, max=24) for axis, name in axes.items()}
    save(net, torch.zeros(4, 3, 16, 12), tmp_path / "net.mlpackage", dynamic_shapes=(dynamic,))
    model = interpreter.load(tmp_path / "net.mlpackage")
    x = torch.randn(5, 3, *((20, 8) if 2 in axes else (16, 12)))
    (got,) = model.predict({"x": x.numpy()}).values()
    assert snr_db(net(x), got) >= 100
    with pytest.raises(InputError, match=r"of shape \(25, 3, 16, 12\); expected an array of shape \(4..24, 3, "):
        model.predict({"x": np.zeros((25, 3, 16, 12), np.float32)})


SIZES = {(8, 8), (16, 24), (16, 8), (32, 64), (33, 64)}


@pytest.mark.parametrize("kind", ["TensorType", "ImageType"])
@pytest.mark.parametrize(
    ("flexibility", "accepted"),
    [("enumerated", {(8, 8), (16, 24)}), ("ranged", SIZES - {(33, 64)})],
)
@pytest.mark.slow
def test_sizes_outside_the_enumeration_or_range_of_the_file_are_refused(
    flexibility: str, accepted: set[tuple[int, int]], kind: str, tmp_path: Path
) -> None:
    coremltools = require("coremltools", extra="coreml")
    shape = {
        "enumerated": coremltools.EnumeratedShapes([(1, 3, 8, 8), (1, 3, 16, 24)]),
        "ranged": (1, 3, coremltools.RangeDim(8, 32), coremltools.RangeDim(8, 64)),
    }[flexibility]
    with quiet():
        traced = torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
        inputs = [getattr(coremltools, kind)(name="x", shape=shape)]
        coremltools.convert(traced, convert_to="mlprogram", inputs=inputs).save(str(tmp_path / "net.mlpackage"))
    model = interpreter.load(tmp_path / "net.mlpackage")

    def is_accepted(height: int, width: int) -> bool:
        image, tensor = np.zeros((height, width, 3), np.uint8), np.zeros((1, 3, height, width), np.float32)
        try:
            model.predict({"x": image if kind == "ImageType" else tensor})
        except InputError:
            return False
        return True

    assert {size for size in SIZES if is_accepted(*size)} == accepted


def test_an_image_of_fp16_is_refused(tmp_path: Path) -> None:
    coremltools = require("coremltools", extra="coreml")
    grey = coremltools.ImageType(
        name="depth", shape=(1, 1, 8, 12), color_layout=coremltools.colorlayout.GRAYSCALE_FLOAT16
    )
    options = {"inputs": [grey], "minimum_deployment_target": coremltools.target.iOS16}
    save(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 8, 12), tmp_path / "net.mlpackage", **options)
    with pytest.raises(ConversionError, match="input 'depth' is an image in GRAYSCALE_FLOAT16, expected RGB, BGR"):
        interpreter.load(tmp_path / "net.mlpackage")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    coremltools = require("coremltools", extra="coreml")
    path = tmp_path_factory.mktemp("package") / "net.mlpackage"
    image_input = coremltools.ImageType(name="image", shape=(1, 3, 8, 12))
    save(SmallNet(), torch.zeros(1, 3, 8, 12), path, inputs=[image_input])
    return path


IMAGE = "input 'image' is {}; expected a uint8 image with channels last, whose (N, C, H, W) is (1, 3, 8, 12)"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "{path}: got the inputs [], expected ['image']"),
        ({"images": np.zeros((8, 12, 3), np.uint8)}, "{path}: got the inputs ['images'], expected ['image']"),
        ({"image": np.zeros((8, 12, 3))}, IMAGE.format("float64 of shape (8, 12, 3)")),
        ({"image": np.zeros((8, 12), np.uint8)}, IMAGE.format("uint8 of shape (8, 12)")),
        ({"image": np.zeros((3, 8, 12), np.uint8)}, IMAGE.format("uint8 of shape (3, 8, 12)")),
        ({"image": np.zeros((2, 8, 12, 3), np.uint8)}, IMAGE.format("uint8 of shape (2, 8, 12, 3)")),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, np.ndarray], message: str, package: Path) -> None:
    with pytest.raises(InputError) as error:
        interpreter.load(package).predict(inputs)
    assert str(error.value) == message.replace("{path}", str(package))


def cut_the_weights(package: Path) -> None:
    (package / WEIGHTS).write_bytes((package / WEIGHTS).read_bytes()[:100])


def lose_the_weights(package: Path) -> None:
    (package / WEIGHTS).unlink()


def garble_the_program(package: Path) -> None:
    (package / WEIGHTS).parents[1].joinpath("model.mlmodel").write_bytes(b"garbage")


def lose_the_manifest(package: Path) -> None:
    (package / "Manifest.json").unlink()


@pytest.mark.parametrize("harm", [cut_the_weights, lose_the_weights, garble_the_program, lose_the_manifest])
def test_a_damaged_package_is_one_clear_error(harm: Callable[[Path], None], package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "net.mlpackage")
    harm(tmp_path / "net.mlpackage")
    with pytest.raises(ConversionError, match=r"net\.mlpackage cannot be read: "):
        interpreter.load(tmp_path / "net.mlpackage")


def test_what_is_no_ml_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.mlpackage is not an \.mlpackage folder"):
        interpreter.load(tmp_path / "nothing.mlpackage")

    coremltools = require("coremltools", extra="coreml")
    spec = coremltools.proto.Model_pb2.Model(specificationVersion=4)
    spec.neuralNetwork.SetInParent()
    with quiet():
        coremltools.models.MLModel(spec, skip_model_load=True).save(str(tmp_path / "old.mlpackage"))
    with pytest.raises(ConversionError, match="contains a neuralNetwork; expected an mlProgram"):
        interpreter.load(tmp_path / "old.mlpackage")
