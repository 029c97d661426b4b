"""`--precision auto`: which file is kept, and what is said of the others."""

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from fbnet_zoo.benchmarks.measure import Device, Inputs, Measurement, ModelFile
from fbnet_zoo.cli.app import app
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.deploy.choose import ROUNDS, choose
from fbnet_zoo.deploy.platforms import PLATFORMS
from fbnet_zoo.errors import ConversionError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.model import FBNet
from tests.helpers.measurements import START, measurement
from tests.helpers.paths import TINY

DEFINITION = TINY

HERE = DeviceInfo(kind="host", id="0", model="Clockwork")


class Clockwork(Device):
    """A machine on which a file takes as long as it is told to take.

    Args:
        takes_ms: from the precision and the number of the run to a time.
    """

    def __init__(self, takes_ms: Callable[[str, int], float]) -> None:
        self.takes_ms, self.runs, self.order = takes_ms, count(), list[str]()

    def info(self) -> DeviceInfo:
        return HERE

    def push(self, model: ModelFile) -> None:
        pass

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = 5, warmup: int = 1, threads: int = 1
    ) -> Measurement:
        number = next(self.runs)
        assert model.path.exists()
        self.order.append(model.precision)
        samples = [self.takes_ms(model.precision, number)] * runs
        about: dict[str, Any] = {"target": model.target, "precision": model.precision, "runtime": "springs"}
        return measurement(samples, device=HERE, date=START + timedelta(minutes=number), **about)

    def profile(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    def cleanup(self) -> None:
        pass


def options(*precisions: str) -> Any:
    return {precision: {"precision": precision} for precision in precisions}


@pytest.mark.slow
@pytest.mark.onnx
def test_lower_precision_wins_only_where_it_is_faster(shared_tiny_model: FBNet, tmp_path: Path) -> None:
    device = Clockwork(lambda precision, _: 8.0 if precision == "fp16" else 10.0)
    given = {"options": options("fp32", "fp16"), "device": device}
    artifact, choice = choose(shared_tiny_model, PLATFORMS["onnx"], out=tmp_path, **given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.onnx", "tiny.onnx.json"]
    assert artifact.path == tmp_path / "tiny.onnx"
    assert Manifest.load(artifact.manifest_path).precision == choice.chosen == "fp16"
    assert device.order == ["fp32", "fp16", "fp16", "fp32"] * (ROUNDS // 2)
    slower, chosen = choice.variants
    assert (slower.precision, slower.p50_ms, slower.ratio) == ("fp32", 10.0, (1.25, 1.25, 1.25))
    assert slower.dropped == "1.250 times the latency of fp16 (1.250 to 1.250)"
    assert (chosen.precision, chosen.p50_ms, chosen.ratio, chosen.dropped) == ("fp16", 8.0, None, None)
    assert (choice.device, choice.threads) == ("Clockwork", 1)
    assert choice.reason == f"Faster than the higher precisions: {ROUNDS} processes each, in turn, on Clockwork."


@pytest.mark.onnx
@pytest.mark.slow
def test_higher_precision_is_kept_where_no_difference_is_shown(shared_tiny_model: FBNet, tmp_path: Path) -> None:
    def takes_ms(precision: str, number: int) -> float:
        return 10.0 + (0 if precision == "fp32" else (-2.0, 1.5)[number // 2 % 2])  # faster at the median of all runs

    given = {"options": options("fp32", "fp16"), "device": Clockwork(takes_ms)}
    _, choice = choose(shared_tiny_model, PLATFORMS["onnx"], out=tmp_path, **given)
    assert choice.chosen == "fp32"
    other = next(variant for variant in choice.variants if variant.precision == "fp16")
    assert other.ratio is not None
    assert other.ratio[1] < 1 < other.ratio[2]
    assert other.dropped is not None
    assert other.dropped.startswith("not significantly faster")
    assert choice.reason.startswith("No lower precision is significantly faster")


@pytest.mark.onnx
@pytest.mark.slow
def test_file_that_fails_its_check_is_out(shared_tiny_model: FBNet, tmp_path: Path) -> None:
    device = Clockwork(lambda *_: 1.0)
    given = options("fp32", "fp16") | {"fp16": {"precision": "fp16", "min_snr_db": 200.0}}
    artifact, choice = choose(shared_tiny_model, PLATFORMS["onnx"], out=tmp_path, options=given, device=device)
    assert artifact.manifest.precision == choice.chosen == "fp32"
    assert device.order == []
    assert "expected at least 200.0 dB" in str(choice.variants[1].dropped)
    assert choice.reason == "The only precision that passed its check."


def test_nothing_is_left_when_all_fail(tiny_model: FBNet, tmp_path: Path) -> None:
    with torch.no_grad():
        tiny_model.classifier.weight.fill_(float("nan"))
    given = {"options": options("fp32"), "device": Clockwork(lambda *_: 1.0)}
    with pytest.raises(ConversionError, match=r"no precision passes the checks for ONNX Runtime.*fp32: .* -300\.0 dB"):
        choose(tiny_model, PLATFORMS["onnx"], out=tmp_path, **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.coreml
@pytest.mark.slow
def test_core_ml_is_not_timed_here(shared_tiny_model: FBNet, tmp_path: Path) -> None:
    device = Clockwork(lambda *_: 1.0)
    given = {"options": options("fp16", "w8a16", "int8"), "device": device}
    artifact, choice = choose(shared_tiny_model, PLATFORMS["iphone"], out=tmp_path, **given)
    assert artifact.manifest.precision == choice.chosen == "fp16"
    assert device.order == []
    assert choice.device is None
    assert [variant.precision for variant in choice.variants] == ["fp16"]
    assert choice.reason.startswith("Files for iPhone cannot be timed on this machine")


@pytest.mark.onnx
@pytest.mark.slow
def test_quantized_files_compete_on_this_machine(trained_digits_model: FBNet, tmp_path: Path) -> None:
    given = options("fp32", "mixed", "int8")
    for precision in ("mixed", "int8"):
        given[precision]["calibration"] = "digits"
    artifact, choice = choose(trained_digits_model, PLATFORMS["onnx"], out=tmp_path, options=given)
    assert artifact.manifest.precision == choice.chosen
    assert {variant.precision for variant in choice.variants} == set(given)
    assert choice.threads == 1
    for variant in choice.variants:
        assert (variant.dropped is None) == (variant.precision == choice.chosen)
        if variant.ratio and list(given).index(variant.precision) < list(given).index(choice.chosen):
            assert variant.ratio[1] > 1  # a higher precision gives way only to what is faster


def command(*words: object) -> Result:
    return CliRunner().invoke(app, ["convert", str(DEFINITION), "--weights", "none", *map(str, words)])


@pytest.mark.coreml
@pytest.mark.slow
def test_convert_command(tmp_path: Path) -> None:
    result = command("--to", "coreml", "--precision", "auto", "--calibration", "digits", "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)["files"]
    assert (record["precision"], record["checked"]) == ("fp16", True)
    assert "note: coreml: fp16. Files for iPhone cannot be timed on this machine" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.mlpackage", "tiny.mlpackage.json"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--to", "coreai"), "precision auto does not support coreai"),
        (("--to", "onnx", "--image-input"), "image_input requires coreml, not onnx"),
        (
            ("--to", "executorch", "--backend", "vulkan"),
            "executorch files for the backend vulkan cannot be checked here",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused_at_once(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    result = command(*words, "--precision", "auto", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {sentence}")
    assert list(tmp_path.iterdir()) == []
