"""ExecuTorch files in 8 bits: that the backend takes them whole, and what they answer."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from fbnet_zoo._private import load_bundle
from fbnet_zoo._require import quiet
from fbnet_zoo.converters import to_executorch
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.parity import logits, snr_db
from fbnet_zoo.converters.program import Program, Quantization, export
from fbnet_zoo.converters.quantization.calibration import CalibrationImages, load
from fbnet_zoo.converters.quantization.quantize_executorch import int8_program
from fbnet_zoo.errors import ConversionError, InputError
from fbnet_zoo.model import FBNet

pytestmark = pytest.mark.executorch

KEPT = frozenset({"stages.8.0.se", "stages.4.0"})
CONVOLUTIONS = 24


@dataclass(frozen=True)
class File:
    """A file, and what was returned about it."""

    path: Path
    written: Written


@pytest.fixture(scope="module")
def program(trained_digits_model: FBNet) -> Program:
    return export(trained_digits_model, ConvertOptions(batch=3))


@pytest.fixture(scope="module")
def images(program: Program) -> CalibrationImages:
    return load("digits", program.preprocess, 3, num_classes=10)


@pytest.fixture(scope="module")
def file(program: Program, images: CalibrationImages, tmp_path_factory: pytest.TempPathFactory) -> File:
    """A file in 8 bits but for some layers, for three images, with its own test."""
    path = tmp_path_factory.mktemp("mixed") / "digits.pte"
    quantized = replace(program, quantization=Quantization(calibration=images, kept=KEPT))
    return File(path, to_executorch.write(quantized, path, ConvertOptions(precision="mixed", batch=3, bundled=True)))


@pytest.fixture(scope="module")
def graph(file: File) -> fx.GraphModule:
    """The graph that the file was lowered from."""
    return file.written.simulation.module.get_submodule("network")


@pytest.mark.slow
class TestFile:
    def test_answers_within_two_points_of_accuracy(
        self, trained_digits_model: FBNet, images: CalibrationImages, file: File
    ) -> None:
        runner, evaluated = to_executorch.load(file.path), images.evaluate
        expected = logits(trained_digits_model, evaluated.images)
        got = np.concatenate([runner(batch) for batch in evaluated.batches(3)])
        assert snr_db(expected, got) > 25
        right = [(answers.argmax(1) == evaluated.classes).mean() for answers in (expected, got)]
        assert right[0] > 0.9
        assert abs(right[0] - right[1]) <= 0.02

    def test_answers_what_the_simulation_does(self, file: File, images: CalibrationImages) -> None:
        runner, simulation = to_executorch.load(file.path), file.written.simulation
        batches = list(images.evaluate.batches(3))[:20]
        expected, got = (np.concatenate([answer(batch) for batch in batches]) for answer in (simulation, runner))
        assert snr_db(expected, got) > 25

    def test_is_taken_whole_by_the_backend(self, file: File) -> None:
        assert file.written.facts["left"] == {}
        assert file.written.facts["subgraphs"] == 1
        assert file.written.scheme.startswith("PT2E static: int8 weights per channel, int8 activations per tensor")

    def test_passes_its_own_test_which_is_stricter_than_rounding(self, file: File) -> None:
        said = file.written.facts["bundled"]
        for case in range(said["cases"]):
            with quiet():
                content = file.path.with_suffix(".bpte").read_bytes()
                bundle = load_bundle(content)
            bundle.verify_result_with_bundled_expected_output("forward", case, said["rtol"], said["atol"])
            bundle.verify_result_with_bundled_expected_output("forward", case, 0.0, 1e-6)  # they are its own


@pytest.mark.slow
class TestProgram:
    def test_has_weights_of_eight_bits_but_where_it_is_kept(self, graph: fx.GraphModule) -> None:
        kinds = []
        for node in graph.graph.nodes:
            if node.target is torch.ops.aten.conv2d.default:
                source = node.args[1]
                while source.op != "get_attr":
                    source = source.args[0]
                kinds.append(functools.reduce(getattr, source.target.split("."), graph).dtype)
        assert kinds.count(torch.int8) == CONVOLUTIONS - 5
        assert kinds.count(torch.float32) == 5

    def test_wastes_no_steps_below_hard_swish_and_outside_of_clamps(self, graph: fx.GraphModule) -> None:
        limits = {"hardswish": (-3.0, np.inf), "hardtanh": (0.0, 6.0)}
        seen = 0
        for node in graph.graph.nodes:
            entering = node.args[0].args if node.name.split("_")[0] in limits else ()
            if len(entering) == 6:  # a dequantized value, as opposed to one inside of what is kept
                _, scale, zero_point, lowest, highest, _ = entering
                low, high = ((end - zero_point) * scale for end in (lowest, highest))
                least, most = limits[node.name.split("_")[0]]
                assert least - 1.01 * scale <= low
                assert high <= most + 1.01 * scale
                seen += 1
        assert seen == 6 + 2

    def test_has_the_ranges_of_the_calibration_alone(self, program: Program, images: CalibrationImages) -> None:
        """Faint images to calibrate, bright ones to evaluate: the steps of the input are those of the faint ones."""
        faint = replace(images.calibrate, images=images.calibrate.images[:6] * np.float32(0.5), classes=None)
        bright = replace(images.evaluate, images=images.evaluate.images[:6] * np.float32(3), classes=None)
        mixed = int8_program(program, Quantization(calibration=CalibrationImages(calibrate=faint, evaluate=bright)))
        (first, *_) = (node for node in mixed.exported.graph.nodes if "quantize_per_tensor" in str(node.target))
        _, scale, zero_point, lowest, highest, _ = first.args
        low, high = ((end - zero_point) * scale for end in (lowest, highest))
        assert low == pytest.approx(faint.images.min(), abs=1.5 * scale)
        assert high == pytest.approx(faint.images.max(), abs=1.5 * scale)

    def test_takes_any_batch(self, trained_digits_model: FBNet, images: CalibrationImages) -> None:
        program = export(trained_digits_model, ConvertOptions(dynamic_batch=True))
        quantized = int8_program(program, Quantization(calibration=images))
        batch = torch.from_numpy(images.evaluate.images[:5])
        logits = quantized.exported.module(check_guards=False)(batch)
        single = quantized.exported.module(check_guards=False)(batch[2:3])
        torch.testing.assert_close(logits[2:3], single)

    def test_that_cannot_be_made_is_an_error(self, program: Program, images: CalibrationImages) -> None:
        wrong = replace(images, calibrate=replace(images.calibrate, images=images.calibrate.images[:, :1]))
        with pytest.raises(ConversionError, match=r"^tiny_digits cannot be quantized for ExecuTorch: "):
            int8_program(program, Quantization(calibration=wrong))


@pytest.mark.parametrize("backend", ["coreml", "vulkan"])
def test_other_backends_take_no_int8(program: Program, images: CalibrationImages, tmp_path: Path, backend: str) -> None:
    quantized = replace(program, quantization=Quantization(calibration=images))
    options = ConvertOptions(precision="int8", backend=backend)
    with pytest.raises(InputError, match=f"^int8 requires the backend xnnpack, not {backend}$"):
        to_executorch.write(quantized, tmp_path / "digits.pte", options)
