"""Checkpoints for tests: timm's networks with random values, and mobile-vision's lists of keys."""

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fbnet_zoo._require import torchvision
from tests.helpers.paths import DATA

KEYS = DATA / "mobile_vision_keys"
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def timm() -> ModuleType:
    """Import timm, whose plain import of torchvision fails beside a CPU build of torch."""
    torchvision()
    import timm as module

    return module


def timm_with(path: Path, name: str, **options: Any) -> nn.Module:
    """Build timm's network with the weights of a file, as it does with published ones: what fits is loaded.

    For fbnetc_100 this implies, as in timm, a batch-norm epsilon of 1e-3.
    """
    overlay = {"file": str(path), "custom_load": False}
    return timm().create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options).eval()


@torch.no_grad()
def randomize_timm(model: nn.Module, seed: int) -> None:
    """Give every value of a network of timm a part in the result, without knowing our names for them.

    Gamma at the end of residual branches is small, or a deep random network amplifies rounding errors.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
    for norm in norms:
        norm.weight.uniform_(0.7, 1.3, generator=generator)
        norm.bias.normal_(0, 0.2, generator=generator)
        norm.momentum = None  # the plain average of all batches, here of one
    for block in model.modules():
        if getattr(block, "has_skip", False):
            getattr(block, "bn3", block.bn2).weight.mul_(0.2)
    model.train()(torch.randn(4, 3, 96, 96, generator=generator))
    model.eval()


TimmCheckpoint = Callable[[str], tuple[nn.Module, Path]]


@pytest.fixture(scope="session")
def timm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> TimmCheckpoint:
    """Return what gives timm's network of a name, with random values, and the file that holds them."""
    folder = tmp_path_factory.mktemp("timm")

    @functools.cache
    def make(name: str) -> tuple[nn.Module, Path]:
        model = timm().create_model(name)
        randomize_timm(model, 0)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        return model, folder / f"{name}.safetensors"

    return make


def mobile_vision_keys(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes in the state dict of a network of mobile-vision, in its order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for line in (KEYS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        module, kind, *rest = line.split()
        if kind == "norm":
            shapes |= {f"{module}.{value}": (int(rest[0]),) for value in BATCH_NORM[:-1]}
            shapes[f"{module}.{BATCH_NORM[-1]}"] = ()
            continue
        shapes[f"{module}.weight"] = tuple(map(int, kind.split("x")))
        if rest:
            shapes[f"{module}.bias"] = shapes[f"{module}.weight"][:1]
    return shapes


def image(size: int, *, channels: int = 3, batch: int = 2) -> Tensor:
    """Return seeded noise `(batch, channels, size, size)`."""
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def logits(network: nn.Module, size: int = 96) -> Tensor:
    """Return what a network, in evaluation mode from now on, says of `image(size)`."""
    return network.eval()(image(size))


@torch.no_grad()
def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()
