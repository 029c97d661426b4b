"""The limit of fp16 files: relative to PyTorch's own fp16 where that is worse than the default, but not without end."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fbnet_zoo import arch_file
from fbnet_zoo.converters.cases import make_cases
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.half_precision import attainable
from fbnet_zoo.converters.parity import Runner, Tolerances, check
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.errors import ParityError
from fbnet_zoo.model import FBNet
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import TINY

CASES = make_cases(arch_file.load(TINY).eval_preprocess())
DEFAULT = Tolerances.of("fp16")
ROUGH, ROUGHER, LOST = 1e-5, 3e-7, 1e-9
"""Factors of the logits: fp16 has few bits left for such small weights, hardly any, and none."""


def small(model: FBNet, factor: float) -> FBNet:
    """Return a network with smaller logits; in float32 nothing else changes."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in found.classifier.parameters():
            parameter.mul_(factor)
    return found


@dataclass(frozen=True)
class Half(Runner):
    """The network as it is, in PyTorch's fp16, with noise that is a multiple of its own."""

    network: FBNet
    noise: float = 1
    runtime: str = "fp16"

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        exact = self.network(torch.from_numpy(images)).numpy()
        half = copy.deepcopy(self.network).half()(torch.from_numpy(images).half()).float().numpy()
        return exact + self.noise * (half - exact)


def test_networks_that_keep_enough_have_the_default_limit(shared_tiny_model: FBNet) -> None:
    tolerances, kept = attainable(shared_tiny_model, CASES, DEFAULT)
    assert kept > 46
    assert tolerances == DEFAULT


def test_others_have_that_of_pytorch_with_a_margin(shared_tiny_model: FBNet) -> None:
    model = small(shared_tiny_model, ROUGH)
    tolerances, kept = attainable(model, CASES, DEFAULT)
    assert 26 < kept < 46
    assert tolerances.min_snr_db == pytest.approx(kept - 6, abs=0.06)
    assert tolerances.max_error == pytest.approx(0.03 * 10 ** ((40 - tolerances.min_snr_db) / 20), rel=0.02)
    passing = [check(model, Half(model, noise), CASES, tolerances).passed for noise in (1, 1.7, 2.3, 10)]
    assert passing == [True, True, False, False]


@pytest.mark.parametrize("factor", [ROUGHER, LOST])
def test_no_limit_is_below_a_tenth_of_the_logits(shared_tiny_model: FBNet, factor: float) -> None:
    model = small(shared_tiny_model, factor)
    tolerances, kept = attainable(model, CASES, DEFAULT)
    assert kept < 26
    assert (tolerances.min_snr_db, tolerances.max_error) == (20, 0.3)
    assert not check(model, Half(small(model, 1), 10), CASES, tolerances).passed


@pytest.mark.onnx
class TestFiles:
    @pytest.mark.slow
    def test_a_right_file_of_such_a_network_is_kept(
        self, shared_tiny_model: FBNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = small(shared_tiny_model, ROUGH)
        parity = convert(model, to="onnx", out=tmp_path, precision="fp16").manifest.parity
        assert parity.worst is not None
        assert parity.tolerances == attainable(model, CASES, DEFAULT)[0]
        assert 20 < parity.tolerances.min_snr_db <= parity.worst.snr_db + 10
        assert "tiny: PyTorch's own fp16 keeps" in caplog.text
        assert f"the file must keep {parity.tolerances.min_snr_db:.1f} dB instead of 40.0 dB" in caplog.text

    @pytest.mark.slow
    def test_a_wrong_one_is_not(
        self, shared_tiny_model: FBNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = replace(TARGETS["onnx"], name="broken", suffix="broken", module="tests.helpers.broken_target")
        monkeypatch.setitem(TARGETS, "broken", broken)
        with pytest.raises(ParityError, match=r"tiny\.broken does not compute .*the first diverging layer is stages"):
            convert(small(shared_tiny_model, ROUGH), to="broken", out=tmp_path, precision="fp16")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("limit", first_is_quick([{"min_snr_db": 40.0}, {"max_error": 1e-3}]))
    @pytest.mark.slow
    def test_limits_of_the_user_hold(self, shared_tiny_model: FBNet, tmp_path: Path, limit: dict[str, float]) -> None:
        with pytest.raises(ParityError, match="expected at "):
            convert(small(shared_tiny_model, ROUGH), to="onnx", out=tmp_path, precision="fp16", **limit)

    @pytest.mark.slow
    def test_a_network_that_fp16_cannot_hold_is_refused(
        self, shared_tiny_model: FBNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(ParityError, match=r"expected at least \d+\.0 dB"):
            convert(small(shared_tiny_model, LOST), to="onnx", out=tmp_path, precision="fp16")
        assert "use fp32 if that is too little" in caplog.text
