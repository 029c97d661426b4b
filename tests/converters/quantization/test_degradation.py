"""What is measured of quantized files, and which of them are refused."""

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fbnet_zoo import registry
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.parity import Runner, logits, outputs, snr_db
from fbnet_zoo.converters.program import Program, Quantization, export
from fbnet_zoo.converters.quantization.calibration import CalibrationImages, load
from fbnet_zoo.converters.quantization.degradation import QuantizedFile, judge
from fbnet_zoo.converters.quantization.layer_sqnr import layer_sqnr
from fbnet_zoo.converters.quantization.simulation import layers
from fbnet_zoo.errors import ParityError
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import randomize
from tests.helpers.fragile import FRAGILE, fragile

INT8 = ConvertOptions(precision="int8", calibration="digits")
Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ChangedNetwork(Runner):
    """A file that computes what a network does, and then something else with the logits."""

    network: nn.Module
    change: Change = lambda answers: answers
    runtime: str = "a test"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.change(logits(self.network, images))


def swapped(count: int) -> Change:
    """Give the first image that comes, `count` times over, the classes in reverse."""
    left = iter(range(count))
    return lambda answers: answers[:, ::-1] if next(left, None) is not None else answers


@pytest.fixture(scope="module")
def program(trained_digits_model: FBNet) -> Program:
    return export(trained_digits_model, ConvertOptions())


@pytest.fixture(scope="module")
def images(program: Program) -> CalibrationImages:
    both = load("digits", program.preprocess, 3, num_classes=10)
    assert both.evaluate.classes is not None
    fewer = replace(both.evaluate, images=both.evaluate.images[:40], classes=both.evaluate.classes[:40])
    return replace(both, evaluate=fewer)


@pytest.fixture
def file(trained_digits_model: FBNet, program: Program, images: CalibrationImages) -> QuantizedFile:
    return QuantizedFile(
        name="digits.onnx",
        runner=ChangedNetwork(trained_digits_model),
        reference=trained_digits_model,
        program=program,
        quantization=Quantization(calibration=images, kept=frozenset({"stem", "head"})),
        written=Written(facts={}, scheme="as in the test"),
    )


def with_change(file: QuantizedFile, change: Change) -> QuantizedFile:
    return replace(file, runner=ChangedNetwork(file.reference, change))


def with_simulation(file: QuantizedFile, simulation: Runner) -> QuantizedFile:
    return replace(file, written=Written(facts={}, simulation=simulation))


class TestFigures:
    def test_of_a_file_that_loses_nothing(self, file: QuantizedFile, images: CalibrationImages) -> None:
        record = judge(file, INT8)
        assert (record.top1_agreement, record.degraded, record.threshold) == (1, False, 0.9)
        assert (record.scheme, record.kept, record.evaluated) == ("as in the test", ("head", "stem"), 40)
        assert (record.calibration, record.images) == (images.calibrate.source, 128)
        assert record.top1 == record.fp32_top1
        assert (record.layers, record.layers_from) == ((), None)

    @pytest.mark.slow
    def test_are_those_of_all_images_together(self, file: QuantizedFile, images: CalibrationImages) -> None:
        changed = with_change(file, swapped(3))
        record = judge(changed, INT8)
        expected = logits(file.reference, images.evaluate.images)
        got = np.concatenate([expected[:3, ::-1], expected[3:]])
        same = expected.argmax(1) == got.argmax(1)
        assert record.top1_agreement == same.mean() == 37 / 40
        assert record.sqnr_db == pytest.approx(snr_db(expected, got), abs=1e-3)
        assert record.fp32_top1 == 100 * (expected.argmax(1) == images.evaluate.classes).mean()
        assert record.top1 == 100 * (got.argmax(1) == images.evaluate.classes).mean()

    def test_of_accuracy_need_classes(self, file: QuantizedFile, images: CalibrationImages) -> None:
        unknown = replace(images, evaluate=replace(images.evaluate, classes=None))
        record = judge(replace(file, quantization=Quantization(calibration=unknown)), INT8)
        assert (record.fp32_top1, record.top1) == (None, None)

    def test_of_weights_alone_need_no_ranges(self, file: QuantizedFile) -> None:
        record = judge(replace(file, written=Written(facts={})), replace(INT8, precision="palette6"))
        assert (record.calibration, record.images) == ("none needed", 0)
        assert record.scheme == "weights from tables of 64 values, arithmetic in fp16"


class TestCollapse:
    def test_is_an_error_that_names_the_ways_out(self, file: QuantizedFile) -> None:
        with pytest.raises(ParityError) as caught:
            judge(with_change(file, swapped(10)), INT8)
        told = str(caught.value)
        assert told.startswith(
            "digits.onnx has the same top-1 class as the network for 75% of 40 images, expected at least 90% (logits "
        )
        for way in ("precision mixed", "calibration", "--allow-degraded"):
            assert way in told

    @pytest.mark.slow
    def test_may_be_allowed(self, file: QuantizedFile, caplog: pytest.LogCaptureFixture) -> None:
        record = judge(with_change(file, swapped(10)), replace(INT8, allow_degraded=True))
        assert record.degraded
        assert "the same top-1 class as the network for 75% of 40 images" in caplog.text

    @pytest.mark.slow
    def test_of_random_weights_is_a_warning(self, file: QuantizedFile, caplog: pytest.LogCaptureFixture) -> None:
        random = replace(file, program=replace(file.program, weights="random seed 3, saved again"))
        assert judge(with_change(random, swapped(10)), INT8).degraded
        assert caplog.messages[0].endswith("; the weights are random, so this is not significant")

    @pytest.mark.slow
    def test_depends_on_the_share_that_is_asked_for(self, file: QuantizedFile) -> None:
        record = judge(with_change(file, swapped(10)), replace(INT8, min_top1_agreement=0.7))
        assert (record.threshold, record.degraded) == (0.7, False)


class TestArithmetic:
    """A file is held to a simulation of itself, which random weights and an allowed loss do not excuse."""

    @pytest.mark.parametrize("change", [lambda x: -x, np.zeros_like, lambda x: x * np.nan, np.flip])
    def test_that_is_wrong_is_an_error(self, file: QuantizedFile, change: Change) -> None:
        broken = with_simulation(with_change(file, change), ChangedNetwork(file.reference))
        allowed = replace(INT8, allow_degraded=True)
        with pytest.raises(ParityError, match=r"^digits\.onnx does not compute what its quantized operators define"):
            judge(broken, allowed)

    def test_may_round_another_way(self, file: QuantizedFile) -> None:
        generator = np.random.default_rng(0)

        def noisy(answers: np.ndarray) -> np.ndarray:
            return answers * (1 + 0.1 * generator.standard_normal(answers.shape).astype(np.float32))

        both = with_simulation(with_change(file, noisy), ChangedNetwork(file.reference, noisy))
        assert judge(both, INT8).sqnr_db < 23

    @pytest.mark.slow
    def test_of_a_network_that_collapses_as_simulated_is_right(self, file: QuantizedFile) -> None:
        both = with_change(file, lambda answers: -answers)
        record = judge(with_simulation(both, both.runner), replace(INT8, allow_degraded=True))
        assert record.degraded


class NoisyLayer:
    """A file that shows every module's output under the name of its node, one of them with noise."""

    def __init__(self, program: Program, layer: str, *, named: bool) -> None:
        self.network, self.layer, self.named = program.module.get_submodule("network"), layer, named
        self.nodes = {}
        for node in program.exported.graph.nodes:
            for path, _ in node.meta.get("nn_module_stack", {}).values():
                self.nodes[path.removeprefix("network.")] = node.name

    runtime = "a test"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return logits(self.network, images)

    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for name, value in outputs(self.network, images):
            shown = value * np.float32(0.9) if f"{name}.".startswith(f"{self.layer}.") else value
            yield (f"{self.nodes.get(name)}_quantized" if self.named else f"tensor {name}"), shown


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("layer", ["stages.4.1.expand", "stages.8.0.se", "classifier"])
def test_figures_of_layers(program: Program, images: CalibrationImages, layer: str, named: bool) -> None:
    source = NoisyLayer(program, layer, named=named)
    found = {each.name: each.sqnr_db for each in layer_sqnr(program, source, images.evaluate.batches(20))}
    assert list(found) == list(layers(program.module.get_submodule("network")))
    assert found[layer] == pytest.approx(20, abs=0.01)  # a tenth is 20 dB
    assert {figure for name, figure in found.items() if name != layer} == {300}


def test_figures_of_layers_tell_tensors_of_one_shape_apart(program: Program, images: CalibrationImages) -> None:
    class Shuffled(NoisyLayer):
        def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
            yield from reversed(list(super().trace(images)))

    found = layer_sqnr(program, Shuffled(program, "stem", named=True), images.evaluate.batches(20))
    assert {each.name for each in found if each.sqnr_db < 300} == {"stem"}


@pytest.fixture(scope="module")
def broken(trained_digits_model: FBNet) -> FBNet:
    return fragile(trained_digits_model)


@pytest.mark.onnx
class TestConvert:
    @pytest.mark.slow
    def test_refuses_a_network_that_collapses_and_leaves_nothing(self, broken: FBNet, tmp_path: Path) -> None:
        with pytest.raises(
            ParityError, match=r"^tiny_digits\.onnx has the same top-1 class as the network for .* precision mixed"
        ):
            convert(broken, to="onnx", out=tmp_path, precision="int8", calibration="digits")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    def test_keeps_it_where_that_is_allowed(
        self, broken: FBNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        options = {"precision": "int8", "calibration": "digits", "allow_degraded": True}
        record = convert(broken, to="onnx", out=tmp_path, **options).manifest.quantization
        assert record.degraded
        assert record.fp32_top1 - record.top1 > 10
        worst = min(record.layers, key=lambda layer: layer.sqnr_db)
        assert record.layers_from.startswith("onnxruntime ")
        assert worst.sqnr_db < 10
        assert "has the same top-1 class as the network for" in caplog.text

    @pytest.mark.slow
    def test_finds_the_layers_to_keep(self, broken: FBNet, tmp_path: Path) -> None:
        record = convert(broken, to="onnx", out=tmp_path, precision="mixed", calibration="digits").manifest
        assert set(record.quantization.kept) >= FRAGILE
        assert abs(record.quantization.fp32_top1 - record.quantization.top1) <= 2
        assert record.precision == "mixed"
        assert set(record.facts) == {"opset", "ir_version", "operators"}

    @pytest.mark.slow
    def test_keeps_the_layers_that_are_named(self, broken: FBNet, tmp_path: Path) -> None:
        options = {
            "precision": "mixed",
            "calibration": "digits",
            "keep": ("*.4.*.project", "*.4.1.expand", "*.8.0.expand"),
        }
        said: list[str] = []
        record = convert(broken, to="onnx", out=tmp_path, progress=said.append, **options).manifest.quantization
        assert set(record.kept) == FRAGILE
        assert not record.degraded
        assert said == ["fp32: export", "mixed: calibrate", "onnx: write", "onnx: check", "onnx: done"]

    @pytest.mark.slow
    def test_checks_the_file_on_images_like_those_that_gave_its_ranges(
        self, trained_digits_model: FBNet, tmp_path: Path
    ) -> None:
        parity = convert(trained_digits_model, to="onnx", out=tmp_path, precision="int8").manifest.parity
        assert [case.name for case in parity.cases] == ["evaluation 1", "evaluation 2"]
        assert parity.tolerances.min_snr_db == 0
        assert 15 < parity.worst.snr_db < 60

    @pytest.mark.slow
    def test_of_noise_is_an_error_whatever_is_allowed(
        self, trained_digits_model: FBNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR)
        noise = copy.deepcopy(trained_digits_model)
        with torch.no_grad():
            noise.stem.conv.weight[0] *= 3e4
        options = {"precision": "int8", "calibration": "digits", "allow_degraded": True, "min_snr_db": 60.0}
        with pytest.raises(ParityError, match=r"does not compute what the model computes: .* expected at least 60"):
            convert(noise, to="onnx", out=tmp_path, **options)


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.executorch
def test_size_of_a_network_of_the_zoo(tmp_path: Path) -> None:
    model = FBNet(registry.get_spec("fbnet_b")).eval()
    randomize(model, 0)
    to = ["onnx", "executorch"]
    whole, small = (convert(model, to=to, out=tmp_path, precision=precision) for precision in ("fp32", "int8"))
    for before, after in zip(whole, small, strict=True):
        assert after.manifest.file.size <= 0.30 * before.manifest.file.size
