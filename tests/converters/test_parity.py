"""Comparing a file with the model: figures, tolerances, images, and the layer where a file departs."""

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fbnet_zoo import registry
from fbnet_zoo._require import require
from fbnet_zoo.converters import to_onnx
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.cases import Case, make_cases
from fbnet_zoo.converters.parity import Runner, Tolerances, check, compare, first_divergence, snr_db
from fbnet_zoo.converters.program import deploy_form, export
from fbnet_zoo.data import load_batch, photographs
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import PreprocessSpec
from fbnet_zoo.weights.loading import randomize
from tests.helpers.marks import first_is_quick

PREPROCESS = PreprocessSpec(resize=40, crop=32)
FP32 = Tolerances.of("fp32")
NAMES = ["coffee.jpg", "rocket.jpg", "zeros", "black", "white"]


@dataclass(frozen=True)
class NetworkRunner:
    """A file that holds a PyTorch network: what it computes is known."""

    network: nn.Module
    runtime: str = "PyTorch"

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.network(torch.from_numpy(images)).numpy()

    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        return iter(())


class TestSnr:
    def test_is_twenty_times_the_logarithm_of_the_ratio_of_amplitudes(self) -> None:
        reference = np.array([[3.0, -4.0]])
        for ratio in (1e-1, 1e-3, 1e-6):
            assert snr_db(reference, reference * (1 + ratio)) == pytest.approx(-20 * math.log10(ratio))

    @pytest.mark.parametrize(
        ("expected", "got", "decibels"),
        [
            ([1, 2], [1, 2], 300),
            ([0, 0], [0, 0], 300),
            ([0, 0], [0, 1e-9], -300),
            ([1], [math.nan], -300),
            ([1], [math.inf], -300),
        ],
    )
    def test_limits(self, expected: list[float], got: list[float], decibels: float) -> None:
        assert snr_db(np.array(expected), np.array(got)) == decibels


class TestCompare:
    def test_figures_are_those_of_the_worst_image(self) -> None:
        expected = np.array([[1.0, 10.0, 0.0], [4.0, 0.0, 3.0]], np.float32)
        got = np.array([[1.0, 10.0, 0.0], [4.0, 0.0, 3.5]], np.float32)
        result = compare("both", expected, got, 100)
        assert result.snr_db == pytest.approx(10 * math.log10(25 / 0.25))
        assert (result.max_abs_error, result.max_error) == (0.5, 0.125)  # of a peak of 4
        assert (result.top1_agreement, result.near_ties) == (1.0, 0)

    def test_another_best_class_counts(self) -> None:
        expected = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
        assert compare("swap", expected, expected[:, ::-1], 40).top1_agreement == 0
        assert compare("half", expected, expected[[0, 0]], 40).top1_agreement == 0.5

    def test_classes_within_the_tolerated_noise_may_swap(self) -> None:
        expected = np.array([[1.0, 1.015]], np.float32)  # at 40 dB two logits may differ by 2 % of their size
        got = np.array([[1.0, 0.999]], np.float32)
        loose, strict = compare("tie", expected, got, 40), compare("tie", expected, got, 60)
        assert (loose.top1_agreement, loose.near_ties) == (1.0, 1)
        assert (strict.top1_agreement, strict.near_ties) == (0.0, 0)

    def test_other_shapes_fail(self) -> None:
        result = compare("cut", np.ones((2, 3), np.float32), np.ones((2, 2), np.float32), 100)
        assert (result.snr_db, result.top1_agreement) == (-300, 0)

    def test_values_that_are_not_finite_fail(self) -> None:
        expected = np.ones((1, 3), np.float32)
        result = compare("nan", expected, expected * np.nan, 100)
        assert result.snr_db == -300
        assert not result.max_error <= 1


def _flat_and_not() -> Iterator[tuple[str, np.ndarray]]:
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    yield "flat", np.broadcast_to(image[..., :1, :1], image.shape).copy()
    yield "not flat", image


class TestReport:
    def test_equal_networks_pass(self, tiny_model: FBNet) -> None:
        report = check(tiny_model, NetworkRunner(copy.deepcopy(tiny_model)), make_cases(PREPROCESS), FP32)
        assert report.passed
        assert report.worst.snr_db == 300
        assert report.runtime == "PyTorch"
        assert [case.name for case in report.cases] == NAMES

    def test_each_tolerance_is_held(self, tiny_model: FBNet) -> None:
        noisy = copy.deepcopy(tiny_model)
        noisy.classifier.bias.data[3] += 1e-3
        loose = Tolerances(min_snr_db=0, max_error=1, min_top1_agreement=0)
        report = check(tiny_model, NetworkRunner(noisy), make_cases(PREPROCESS), loose)
        assert report.passed
        assert report.worst.max_abs_error == pytest.approx(1e-3, rel=1e-2)
        for change in ({"min_snr_db": report.worst.snr_db + 1}, {"max_error": report.worst.max_error * 0.9}):
            failed = replace(report, tolerances=replace(loose, **change))
            assert not failed.passed
            assert "expected at" in failed.failures()[0]

    def test_ten_decibels_less_will_do_for_an_image_of_one_color(self, tiny_model: FBNet) -> None:
        noisy = copy.deepcopy(tiny_model)
        noisy.classifier.bias.data[3] += 1e-3
        flat, photograph = (Case(name=name, images=images) for name, images in _flat_and_not())
        for case, leniency_db in ((flat, 10), (photograph, 0)):
            snr_db = check(tiny_model, NetworkRunner(noisy), [case], FP32).worst.snr_db
            for margin_db, passes in ((0.1, True), (-0.1, False)):
                asked = Tolerances(min_snr_db=snr_db + leniency_db - margin_db, max_error=1)
                assert check(tiny_model, NetworkRunner(noisy), [case], asked).passed == passes

    def test_reference_is_the_network_in_evaluation_whatever_its_mode(self, tiny_model: FBNet) -> None:
        runner = NetworkRunner(copy.deepcopy(tiny_model))
        assert check(tiny_model.train(), runner, make_cases(PREPROCESS), FP32).passed
        assert tiny_model.training

    @pytest.mark.parametrize(
        ("precision", "decibels", "error", "agreement"),
        [("fp32", 100, 1e-4, 1), ("fp16", 40, 3e-2, 1), ("int8", 0, 1, 0.9), ("palette4", 0, 1, 0.9)],
    )
    def test_defaults(self, precision: str, decibels: float, error: float, agreement: float) -> None:
        expected = Tolerances(min_snr_db=decibels, max_error=error, min_top1_agreement=agreement)
        assert Tolerances.of(precision) == expected
        own = Tolerances.of(precision, min_snr_db=7, max_error=0.5, min_top1_agreement=0.25)
        assert own == Tolerances(min_snr_db=7, max_error=0.5, min_top1_agreement=0.25)


class TestCases:
    def test_photographs_and_edges_one_by_one(self) -> None:
        cases = {case.name: case.images for case in make_cases(PREPROCESS)}
        prepared = load_batch(photographs(), PREPROCESS).numpy()
        np.testing.assert_array_equal(np.concatenate([cases["coffee.jpg"], cases["rocket.jpg"]]), prepared)
        assert not cases["zeros"].any()
        for name, pixel in (("black", 0), ("white", 1)):
            for channel, (mean, std) in enumerate(zip(PREPROCESS.mean, PREPROCESS.std, strict=True)):
                np.testing.assert_allclose(cases[name][0, channel], (pixel - mean) / std, rtol=1e-6)
        assert {(images.shape, images.dtype.name) for images in cases.values()} == {((1, 3, 32, 32), "float32")}

    def test_dynamic_batch_is_tried_with_one_and_with_three(self) -> None:
        assert [len(case.images) for case in make_cases(PREPROCESS, dynamic_batch=True)] == [1, 1, 1, 1, 1, 3]

    @pytest.mark.parametrize("batch", [2, 5, 7])
    def test_fixed_batch_is_filled_up(self, batch: int) -> None:
        cases = make_cases(PREPROCESS, batch=batch)
        assert {len(case.images) for case in cases} == {batch}
        assert ", ".join(case.name for case in cases) == ", ".join(NAMES)

    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_other_channels(self, channels: int) -> None:
        first, second = (make_cases(PREPROCESS, channels=channels) for _ in range(2))
        assert {case.images.shape for case in first} == {(1, channels, 32, 32)}
        assert first[0].images.std() > 0.1
        assert all(np.array_equal(a.images, b.images) for a, b in zip(first, second, strict=True))

    def test_image_input_is_tried_with_values_of_eight_bits(self) -> None:
        mean, std = (np.array(values)[:, None, None] for values in (PREPROCESS.mean, PREPROCESS.std))
        plain = make_cases(PREPROCESS)
        for case, before in zip(make_cases(PREPROCESS, image_input=True), plain, strict=True):
            pixels = (case.images[0] * std + mean) * 255
            np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)
            assert np.abs(case.images - before.images).max() <= 0.51 / 255 / min(PREPROCESS.std)


LAYERS = [
    "stem.conv",
    "stages.4.0.expand.conv",
    "stages.4.1.depthwise.0.conv",
    "stages.8.0.se.reduce",
    "stages.8.0.se.expand",
    "stages.8.1.project.conv",
    "stages.16.0.expand.conv",
    "head.project.conv",
    "classifier",
]


@pytest.fixture(scope="module")
def file(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    to_onnx.write(export(shared_tiny_model, ConvertOptions()), path, ConvertOptions())
    return path


def corrupted(file: Path, parameter: str, folder: Path) -> Runner:
    """Change one value of one parameter in a copy of the file."""
    onnx = require("onnx", extra="onnx")
    content = onnx.load(file)
    (tensor,) = (entry for entry in content.graph.initializer if entry.name == parameter)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[values.size // 2] += 0.5
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, parameter))
    onnx.save(content, folder / "corrupted.onnx")
    return to_onnx.load(folder / "corrupted.onnx")


@pytest.mark.onnx
@pytest.mark.parametrize("layer", first_is_quick(LAYERS))
def test_names_the_layer_whose_weight_was_changed(tiny_model: FBNet, file: Path, tmp_path: Path, layer: str) -> None:
    cases = make_cases(tiny_model.spec.eval_preprocess())
    runner = corrupted(file, f"{layer}.weight", tmp_path)
    assert not check(tiny_model, runner, cases, FP32).passed
    assert first_divergence(deploy_form(tiny_model), runner.trace(cases[0].images), cases[0].images, 100) == layer


@pytest.mark.onnx
def test_names_nothing_in_a_sound_file(tiny_model: FBNet, file: Path) -> None:
    images = make_cases(tiny_model.spec.eval_preprocess())[0].images
    assert first_divergence(deploy_form(tiny_model), to_onnx.load(file).trace(images), images, 100) is None


@pytest.mark.onnx
def test_layers_that_a_converter_merged_are_no_divergence(tiny_model: FBNet, file: Path, tmp_path: Path) -> None:
    runner = corrupted(file, "stages.8.1.project.conv.weight", tmp_path)

    images = make_cases(tiny_model.spec.eval_preprocess())[0].images
    traced = list(runner.trace(images))
    shown = [pair[0] for pair in itertools.pairwise(traced) if not pair[1][0].startswith("hardswish")]
    assert len(shown) < len(traced) - 5  # a runtime that shows no output of a convolution with hard-swish
    assert first_divergence(deploy_form(tiny_model), [*shown, traced[-1]], images, 100) == "stages.8.1.project.conv"


@pytest.mark.onnx
@pytest.mark.parametrize(("name", "layer"), [("fbnet_96", "stages.16.1.depthwise.0.conv")])
@pytest.mark.slow
def test_first_divergence_in_a_network_of_the_zoo(name: str, layer: str, tmp_path: Path) -> None:
    model = FBNet(registry.get_spec(name)).eval()
    randomize(model, 0)
    to_onnx.write(export(model, ConvertOptions()), tmp_path / "file.onnx", ConvertOptions())
    runner = corrupted(tmp_path / "file.onnx", f"{layer}.weight", tmp_path)
    images = make_cases(model.spec.eval_preprocess())[0].images
    assert first_divergence(deploy_form(model), runner.trace(images), images, 100) == layer
