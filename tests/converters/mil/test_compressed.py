"""Packages with compressed weights, compared with PyTorch on weights that were compressed by independent formulas."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo._require import quiet, require
from tests.helpers.mil_packages import only_output, save, save_built, snr_db

pytestmark = pytest.mark.coreml

X = torch.linspace(-2, 2, 3 * 8 * 8).reshape(1, 3, 8, 8).sin()


def to_int8(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / 127
    return (weight / scale).round() * scale


def to_int4_blocks_of_8(weight: Tensor) -> Tensor:
    if weight.shape[1] % 8:
        return weight
    blocks = weight.unflatten(1, (-1, 8))
    scale = blocks.abs().amax(dim=2, keepdim=True) / 7
    return ((blocks / scale).round() * scale).flatten(1, 2)


def to_16_even_levels(weight: Tensor) -> Tensor:
    levels = torch.linspace(float(weight.min()), float(weight.max()), 16)
    return levels[(weight.unsqueeze(-1) - levels).abs().argmin(dim=-1)]


def without_the_smaller_half(weight: Tensor) -> Tensor:
    return torch.where(weight.abs() <= weight.abs().flatten().median(), 0, weight)


def unchanged(weight: Tensor) -> Tensor:
    return weight


INT8, INT4 = {"mode": "linear_symmetric"}, {"mode": "linear_symmetric", "dtype": "int4"}
RECIPES: dict[str, tuple[str, str, dict[str, Any], Callable[[Tensor], Tensor], float]] = {
    # function and configuration of coremltools.optimize.coreml, its options, the same in PyTorch, agreement in dB
    "int8": ("linear_quantize_weights", "OpLinearQuantizerConfig", INT8, to_int8, 100),
    "int8 with an offset": ("linear_quantize_weights", "OpLinearQuantizerConfig", {"mode": "linear"}, unchanged, 35),
    "palette": ("palettize_weights", "OpPalettizerConfig", {"mode": "uniform", "nbits": 4}, to_16_even_levels, 100),
    "pruned": ("prune_weights", "OpMagnitudePrunerConfig", {"target_sparsity": 0.5}, without_the_smaller_half, 100),
    "int4 in blocks": (
        "linear_quantize_weights",
        "OpLinearQuantizerConfig",
        {**INT4, "granularity": "per_block", "block_size": 8},
        to_int4_blocks_of_8,
        100,
    ),
    "palette per group": (
        "palettize_weights",
        "OpPalettizerConfig",
        {"mode": "kmeans", "nbits": 6, "granularity": "per_grouped_channel", "group_size": 16},
        unchanged,
        25,
    ),
}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 64, 3, 2, 1), nn.Hardswish(), nn.Conv2d(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(64, 16)).eval()


@pytest.fixture(scope="module")
def converted(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    coremltools = require("coremltools", extra="coreml")
    path = tmp_path_factory.mktemp("plain") / "net.mlpackage"
    targets = {"iOS16", "iOS18"}
    return {t: save(net, X, path, minimum_deployment_target=coremltools.target[t]) for t in targets}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "target"),
    [(name, "iOS18") for name in RECIPES] + [(name, "iOS16") for name in list(RECIPES)[:4]],  # blocks came with iOS 18
)
def test_compressed_weights_are_expanded(
    recipe: str, target: str, net: nn.Module, converted: dict[str, Any], tmp_path: Path
) -> None:
    function, config, options, in_pytorch, minimum_db = RECIPES[recipe]
    optimize = require("coremltools.optimize.coreml", extra="coreml")
    with quiet():
        op_config = getattr(optimize, config)(**options, weight_threshold=512)
        compressed = getattr(optimize, function)(converted[target], optimize.OptimizationConfig(op_config))
        compressed.save(str(tmp_path / "net.mlpackage"))
    assert "constexpr_" in str(compressed.get_spec().mlProgram)

    reference = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim > 1:
                parameter.copy_(in_pytorch(parameter))
    got = only_output(tmp_path / "net.mlpackage", input=X)
    assert snr_db(reference(X), got) >= minimum_db
    assert snr_db(net(X), got) < 60  # the weights really were compressed


def test_two_compressions_of_one_tensor_are_both_undone(
    net: nn.Module, converted: dict[str, Any], tmp_path: Path
) -> None:
    optimize = require("coremltools.optimize.coreml", extra="coreml")
    with quiet():
        prune = optimize.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=512)
        palettize = optimize.OpPalettizerConfig(mode="kmeans", nbits=6, weight_threshold=512)
        pruned = optimize.prune_weights(converted["iOS18"], optimize.OptimizationConfig(prune))
        both = optimize.palettize_weights(pruned, optimize.OptimizationConfig(palettize), joint_compression=True)
        pruned.save(str(tmp_path / "pruned.mlpackage"))
        both.save(str(tmp_path / "both.mlpackage"))
    expected = torch.from_numpy(only_output(tmp_path / "pruned.mlpackage", input=X))
    assert 25 <= snr_db(expected, only_output(tmp_path / "both.mlpackage", input=X)) < 60


def test_weights_stored_in_fp16_are_widened(tmp_path: Path) -> None:
    stored = np.array([1, 0.1, 3], np.float16)
    save_built(
        tmp_path / "y.mlpackage",
        lambda mb, x: mb.mul(x=x, y=mb.constexpr_cast(source_val=stored, output_dtype="fp32")),
        shape=(3,),
    )
    got = only_output(tmp_path / "y.mlpackage", x=torch.ones(3))
    np.testing.assert_array_equal(got, stored.astype(np.float32))
