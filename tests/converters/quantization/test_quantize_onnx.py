"""ONNX files in 8 bits: what is integer in them, what they carry, and what they answer."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbnet_zoo._require import require
from fbnet_zoo.converters import to_onnx
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.parity import logits, snr_db
from fbnet_zoo.converters.program import Program, Quantization, export
from fbnet_zoo.converters.quantization.calibration import CalibrationImages, load
from fbnet_zoo.errors import ConversionError
from fbnet_zoo.model import FBNet
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.onnx

KEPT = frozenset({"stages.8.0.se", "stages.4.0"})
WITH_CONSTANTS = {"DequantizeLinear", "QuantizeLinear"}


@dataclass(frozen=True)
class File:
    """A file, and what was returned about it."""

    path: Path
    written: Written

    @property
    def content(self) -> Any:
        return require("onnx", extra="onnx").load(self.path)


@pytest.fixture(scope="module")
def program(trained_digits_model: FBNet) -> Program:
    return export(trained_digits_model, ConvertOptions(dynamic_batch=True, labels=tuple("0123456789")))


@pytest.fixture(scope="module")
def images(program: Program) -> CalibrationImages:
    return load("digits", program.preprocess, 3, num_classes=10)


@pytest.fixture(scope="module")
def file(program: Program, images: CalibrationImages, tmp_path_factory: pytest.TempPathFactory) -> File:
    return write(program, Quantization(calibration=images), tmp_path_factory.mktemp("int8"))


@pytest.fixture(scope="module")
def mixed(program: Program, images: CalibrationImages, tmp_path_factory: pytest.TempPathFactory) -> File:
    return write(program, Quantization(calibration=images, kept=KEPT), tmp_path_factory.mktemp("mixed"))


def write(program: Program, quantization: Quantization, folder: Path, **options: Any) -> File:
    path = folder / "digits.onnx"
    asked = ConvertOptions(precision="mixed" if quantization.kept else "int8", **options)
    return File(path, to_onnx.write(replace(program, quantization=quantization), path, asked))


def executed(path: Path, folder: Path) -> Counter[str]:
    """Return the operators that onnxruntime runs for a file, after it has merged them."""
    onnxruntime = require("onnxruntime", extra="onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    graph = require("onnx", extra="onnx").load(folder / "optimized.onnx").graph
    return Counter(node.op_type for node in graph.node)


class TestAnswers:
    @pytest.mark.parametrize("kind", first_is_quick(["file", "mixed"]))
    def test_stay_within_two_points_of_accuracy(
        self, trained_digits_model: FBNet, images: CalibrationImages, kind: str, request: pytest.FixtureRequest
    ) -> None:
        runner = to_onnx.load(request.getfixturevalue(kind).path)
        expected, got = logits(trained_digits_model, images.evaluate.images), runner(images.evaluate.images)
        assert snr_db(expected, got) > 25
        right = [(answers.argmax(1) == images.evaluate.classes).mean() for answers in (expected, got)]
        assert right[0] > 0.9
        assert abs(right[0] - right[1]) <= 0.02

    def test_are_those_of_an_independent_interpreter(self, file: File, images: CalibrationImages) -> None:
        evaluator = require("onnx.reference", extra="onnx").ReferenceEvaluator(file.content)
        batch = images.evaluate.images[:8]
        (expected,) = evaluator.run(None, {"image": batch})
        assert snr_db(expected, to_onnx.load(file.path)(batch)) > 35

    def test_are_those_of_the_simulation(self, file: File, images: CalibrationImages) -> None:
        batch, simulation = images.evaluate.images[:32], file.written.simulation
        assert snr_db(simulation(batch), to_onnx.load(file.path)(batch)) > 35

    def test_need_every_weight_of_the_file(self, file: File, images: CalibrationImages, tmp_path: Path) -> None:
        """What the two tests above would see if an integer kernel took a wrong weight."""
        onnx, content = require("onnx", extra="onnx"), file.content
        (tensor,) = (each for each in content.graph.initializer if each.name == "head.expand.conv.weight_quantized")
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[0] = -values[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(content, tmp_path / "wrong.onnx")
        batch = images.evaluate.images[:32]
        assert snr_db(file.written.simulation(batch), to_onnx.load(tmp_path / "wrong.onnx")(batch)) < 30


class TestGraph:
    def test_runs_on_integer_kernels_but_for_swish(self, file: File, tmp_path: Path) -> None:
        kinds = executed(file.path, tmp_path)
        assert not {"Add", "Clip", "Relu", "HardSwish", "ReduceMean"} & set(kinds)
        assert kinds["Conv"] == 1  # the stem
        assert kinds["QLinearConv"] == 23
        assert kinds["QLinearGlobalAveragePool"] == 4
        assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"]) == (1, 1)  # behind the stem, before the logits

    def test_has_weights_of_eight_bits_per_channel(self, file: File, program: Program) -> None:
        onnx = require("onnx", extra="onnx")
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.content.graph.initializer}
        weights = {name: value for name, value in stored.items() if name.endswith(".weight_quantized")}
        network = program.module.get_submodule("network")
        assert len(weights) == 23
        for name, values in weights.items():
            weight = network.get_parameter(name.removesuffix("_quantized")).numpy()
            scale = stored[name.replace("_quantized", "_scale")].reshape(-1, 1, 1, 1)
            assert (values.dtype, scale.size) == (np.int8, len(weight))
            assert np.abs(values * scale - weight).max() <= 0.51 * scale.max()
            assert np.abs(values).reshape(len(weight), -1).max(1).min() >= 126

    def test_has_unsigned_activations(self, file: File) -> None:
        onnx, graph = require("onnx", extra="onnx"), file.content.graph
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        types = {stored[node.input[2]].dtype.name for node in graph.node if node.op_type == "QuantizeLinear"}
        assert types == {"uint8"}

    def test_has_the_ranges_of_the_calibration_alone(
        self, file: File, program: Program, images: CalibrationImages
    ) -> None:
        """The steps of the logits are those of the calibration images; those of the evaluation have another range."""
        graph = file.content.graph
        values = {
            tensor.name: require("onnx", extra="onnx").numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        (last,) = (node for node in graph.node if graph.output[0].name in node.output)
        assert last.op_type == "DequantizeLinear"
        network = program.module.get_submodule("network")
        spans = [np.ptp(logits(network, each.images)) for each in (images.calibrate, images.evaluate)]
        assert spans[0] != pytest.approx(spans[1], rel=1e-3)
        assert 255 * float(values[last.input[1]]) == pytest.approx(spans[0], rel=1e-4)

    def test_wastes_no_steps_below_hard_swish(self, file: File) -> None:
        graph = file.content.graph
        values = {
            tensor.name: require("onnx", extra="onnx").numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        limited = [
            node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0].endswith(".limited")
        ]
        assert limited
        for node in limited:
            scale, zero_point = (values[name] for name in node.input[1:3])
            assert -int(zero_point) * float(scale) >= -3 - 1.01 * float(scale)

    def test_leaves_what_is_kept_as_it_was(self, mixed: File, program: Program) -> None:
        onnx, graph = require("onnx", extra="onnx"), mixed.content.graph
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        network = program.module.get_submodule("network")
        kept = [name for name, _ in network.named_parameters() if name.startswith(("stages.8.0.se.", "stages.4.0."))]
        assert len(kept) == 2 * 5
        for name in kept:
            np.testing.assert_array_equal(stored[name], network.get_parameter(name).numpy())
        assert stored["stages.8.0.expand.conv.weight_quantized"].dtype == np.int8
        assert Counter(node.op_type for node in graph.node)["HardSwish"] == 4  # also the stem's

    def test_has_the_names_of_modules(self, file: File, program: Program) -> None:
        modules = {name for name, _ in program.module.get_submodule("network").named_modules()}
        computing = [node.name for node in file.content.graph.node if node.op_type not in WITH_CONSTANTS]
        assert len(set(computing)) == len(computing)
        for name in computing:
            assert name in modules or name.rpartition(".")[0] in modules


class TestFile:
    def test_says_what_it_is(self, file: File) -> None:
        said = {entry.key: entry.value for entry in file.content.metadata_props}
        assert (said["name"], said["weights"]) == ("tiny_digits", "digits_of_the_tests")
        assert json.loads(said["labels"]) == [*"0123456789"]
        assert file.written.scheme.startswith("onnxruntime static, as QDQ: int8 weights per channel, uint8 activations")
        assert (file.written.facts["opset"], file.written.facts["operators"]["Conv"]) == (20, 24)
        assert file.content.producer_name == "fbnet_zoo"

    def test_holds_nothing_of_the_converting_machine(self, file: File) -> None:
        raw = file.path.read_bytes()
        for path in (Path.cwd(), Path.home(), ROOT, file.path.parent):
            assert str(path).encode() not in raw
        assert [each.name for each in file.path.parent.iterdir()] == ["digits.onnx"]

    @pytest.mark.slow
    def test_is_the_same_every_time(
        self, file: File, program: Program, images: CalibrationImages, tmp_path: Path
    ) -> None:
        again = write(program, Quantization(calibration=images), tmp_path)
        assert again.path.read_bytes() == file.path.read_bytes()

    @pytest.mark.slow
    def test_that_cannot_be_quantized_is_an_error(
        self, program: Program, images: CalibrationImages, tmp_path: Path
    ) -> None:
        wrong = replace(images, calibrate=replace(images.calibrate, images=images.calibrate.images[:, :1]))
        with pytest.raises(ConversionError, match=r"^tiny_digits cannot be quantized for ONNX: "):
            write(program, Quantization(calibration=wrong), tmp_path)

    @pytest.mark.slow
    def test_is_written_in_silence(
        self, program: Program, images: CalibrationImages, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        few = replace(images, calibrate=replace(images.calibrate, images=images.calibrate.images[:4]))
        write(program, Quantization(calibration=few), tmp_path)
        assert capfd.readouterr() == ("", "")
