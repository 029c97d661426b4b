"""The fp16 program for ExecuTorch: what XNNPACK's hard-swish loses, and where it is made up for."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo import registry
from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.executorch_fp16 import HARD_SWISH_GAIN, half_program
from fbnet_zoo.converters.half_precision import HalfRunner
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import Program, export, of_network
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import randomize

pytestmark = pytest.mark.executorch


def run_in_xnnpack(program: torch.export.ExportedProgram, x: Tensor) -> Tensor:
    exir, runtime = (require(f"executorch.{name}", extra="executorch") for name in ("exir", "runtime"))
    xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch")
    with quiet():
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        loaded = runtime.Runtime.get().load_program(lowered.to_executorch().buffer)
        return loaded.load_method("forward").execute([x])[0].clone()


def test_gain_is_that_of_the_library() -> None:
    x = torch.linspace(4, 1000, 4096).half()  # where hard-swish returns its input
    got = run_in_xnnpack(torch.export.export(nn.Hardswish().half(), (x,)), x)
    assert (got.double() / x.double()).mean().item() == pytest.approx(HARD_SWISH_GAIN, abs=5e-5)
    assert 1 - HARD_SWISH_GAIN > 2e-4


class Branches(nn.Module):
    """Convolutions before, right behind and further behind a hard-swish."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind, self.gated, self.pooled, self.rectified, self.summed = (
            nn.Conv2d(3, 3, 1) for _ in range(6)
        )
        self.act = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.before(x))
        pooled = self.pooled(nn.functional.adaptive_avg_pool2d(y, 1))
        gated = self.gated(y * pooled.clamp(0, 1))
        return self.rectified(self.behind(y).relu()) + gated + self.summed(y + x)


@pytest.fixture
def program(tiny_model: FBNet) -> Program:
    return of_network(export(tiny_model, ConvertOptions()), Branches().requires_grad_(False), 3)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_exactly_the_weights_behind_it_are_made_larger(program: Program, xnnpack: bool) -> None:
    plain = {name: value.clone() for name, value in program.module.named_parameters()}
    half = half_program(program, xnnpack=xnnpack)
    expected = {f"network.{name}.weight" for name in ("behind", "gated", "pooled")} if xnnpack else set()
    for name, value in half.module.named_parameters():
        wanted = plain[name] / HARD_SWISH_GAIN if name in expected else plain[name]
        torch.testing.assert_close(value, wanted.half(), rtol=0, atol=0)
    assert half.precision == "fp16"
    assert all(torch.equal(value, plain[name]) for name, value in program.module.named_parameters())


def test_swish_stays_in_half_precision(tiny_model: FBNet) -> None:
    program = of_network(export(tiny_model, ConvertOptions()), nn.Sequential(nn.SiLU()), 3)
    half = half_program(program, xnnpack=True)
    x = torch.randn(1, 3, 64, 64)
    assert snr_db(nn.functional.silu(x), half.module(x)) > 60
    targets = {node.target for node in half.exported.graph.nodes}
    assert torch.ops.aten.silu.default not in targets
    assert torch.ops.aten.sigmoid.default in targets


@pytest.mark.slow
def test_a_deep_network_keeps_what_pytorch_keeps() -> None:
    """Within 2 dB, which the places of rounding make; how much that is depends on the weights and the image."""
    model = FBNet(registry.get_spec("fbnetv3_a"))
    randomize(model, 0)
    program, generator = export(model.eval(), ConvertOptions(input_size=96)), np.random.default_rng(0)
    x = torch.from_numpy(generator.normal(size=(1, 3, 96, 96)).astype(np.float32))
    with torch.no_grad():
        expected = model(x)
    halves = (half_program(program, xnnpack=xnnpack).exported for xnnpack in (False, True))
    plain, corrected = (snr_db(expected, run_in_xnnpack(half, x)) for half in halves)
    assert corrected > snr_db(expected, HalfRunner.of(model)(x.numpy())) - 2
    assert corrected > plain + 1
