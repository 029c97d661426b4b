"""The zoo against timm on the same networks: creation, inference, import and cost."""

from pathlib import Path

import pytest
import torch

import fbnet_zoo
from fbnet_zoo._require import torchvision
from fbnet_zoo.benchmarks.suites.figures import Versus, Within

torchvision()  # timm imports it directly, which fails with a CPU build of torch
import timm  # noqa: E402

PAIRS = [("fbnetc_100", "fbnetc_100"), ("fbnetv3_b_timm", "fbnetv3_b")]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return checkpoints in timm's layout, with random weights."""
    from safetensors.torch import save_model

    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {theirs: folder / f"{theirs}.safetensors" for _, theirs in PAIRS}
    for theirs, path in paths.items():
        save_model(timm.create_model(theirs), str(path))
    return paths


@pytest.mark.parametrize(("name", "theirs"), PAIRS)
def bench_create_random(versus: Versus, name: str, theirs: str) -> None:
    """Creation with random weights."""
    versus(lambda: fbnet_zoo.create(name), lambda: timm.create_model(theirs), target=1.5)


@pytest.mark.parametrize(("name", "theirs"), PAIRS)
def bench_create_checkpoint(versus: Versus, checkpoints: dict[str, Path], name: str, theirs: str) -> None:
    """Creation with weights from a file, which skips random initialization."""
    path = checkpoints[theirs]
    versus(
        lambda: fbnet_zoo.create(name, pretrained=path),
        lambda: timm.create_model(theirs, checkpoint_path=str(path)),
        target=3.0,
    )


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("name", "theirs"), PAIRS)
def bench_forward_eager(versus: Versus, one_thread: None, name: str, theirs: str, batch: int) -> None:
    """Inference without fusing, on one thread."""
    _forward(versus, fbnet_zoo.create(name).eval(), timm.create_model(theirs).eval(), batch, target=1.0)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("name", "theirs"), PAIRS)
def bench_forward_fused(versus: Versus, one_thread: None, name: str, theirs: str, batch: int) -> None:
    """Inference with folded batch norm against the unfused peer, on one thread."""
    _forward(versus, fbnet_zoo.create(name).fuse(), timm.create_model(theirs).eval(), batch, target=1.2)


def _forward(versus: Versus, ours: torch.nn.Module, peer: torch.nn.Module, batch: int, *, target: float) -> None:
    images = torch.randn(batch, 3, 224, 224)
    with torch.inference_mode():
        versus(lambda: ours(images), lambda: peer(images), target=target, rounds=31 if batch == 1 else 11)


def bench_import(within: Within) -> None:
    """`import fbnet_zoo` after torch: adds at most 0.15 s and imports no heavy library."""
    heavy = ["torchvision", "onnx", "coremltools", "executorch"]
    within("import fbnet_zoo", limit_ms=150, before="import torch", after=f"assert not set({heavy}) & set(sys.modules)")


def bench_list_models(within: Within) -> None:
    """Listing the models in a new process, including the import, without torch."""
    within("import fbnet_zoo; fbnet_zoo.list_models()", limit_ms=50, after="assert 'torch' not in sys.modules")


def bench_cost_of_all(within: Within) -> None:
    """Cost of every entry in a new process, including the import, without torch."""
    within(
        "import fbnet_zoo; [fbnet_zoo.cost(name) for name in fbnet_zoo.list_models()]",
        limit_ms=1000,
        after="assert 'torch' not in sys.modules",
    )
