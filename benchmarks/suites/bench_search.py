"""DNAS search steps against the plain supernet, which has one branch per candidate, summed with the mask.

All figures are ratios within the same run, in the whole space `fbnet` at 32 px, with 16 images and one thread; the
small space `digits_tiny` with 64 images shows whether they hold elsewhere.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from fbnet_zoo.benchmarks.suites.figures import Versus, compare_memory
from fbnet_zoo.benchmarks.suites.live_memory import peak_bytes
from fbnet_zoo.search.dnas import mixing
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.gradient.gumbel import draw_masks, gumbel_noise
from fbnet_zoo.search.gradient.state import SearchState
from fbnet_zoo.space import load_space

CLASSES = 100
Step = Callable[[], None]
FORMS = {"fused": mixing.fused, "fused_saving": mixing.fused_saving}


class DnasSteps:
    """Training steps of one form, as in the search; `plain` computes all gradients, in PyTorch's default layout."""

    def __init__(self, form: str, *, space: str = "fbnet", images: int = 16) -> None:
        torch.manual_seed(0)
        self.net = Supernet(load_space(space), input_size=32, num_classes=CLASSES)
        self.mix, self.plain = FORMS.get(form, mixing.plain), form == "plain"
        self.images, self.classes = torch.randn(images, 3, 32, 32), torch.randint(CLASSES, (images,))
        self.generator = torch.Generator().manual_seed(0)
        if not self.plain:
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        state = SearchState(self.net, DnasConfig(), (1, 1))
        simple = torch.optim.SGD(self.net.weight_parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.weights = simple if self.plain else state.weights
        self.theta = state.theta

    def step_weights(self) -> None:
        self.weights.zero_grad()
        self.loss([mask.detach() for mask in self.masks()]).backward()
        self.weights.step()

    def step_theta(self) -> None:
        self.theta.zero_grad()
        if self.plain:
            self.loss(self.masks()).backward()
        else:
            with self.net.frozen_weights():
                self.loss(self.masks()).backward()
        self.theta.step()

    def masks(self) -> tuple[Tensor, ...]:
        return draw_masks(self.net.theta, gumbel_noise(self.net.theta, self.generator), 5.0)

    def loss(self, masks: Any) -> Tensor:
        return F.cross_entropy(self.net(self.images, masks, self.mix), self.classes)


@pytest.fixture(scope="module")
def peer() -> DnasSteps:
    """Return the plain supernet."""
    return DnasSteps("plain")


@pytest.mark.parametrize(("form", "target"), [("fused", 0.5), ("fused_saving", 1.0)])
def bench_step_of_weights(versus: Versus, one_thread: None, peer: DnasSteps, form: str, target: float) -> None:
    """A step of the weights against a plain one."""
    versus(DnasSteps(form).step_weights, peer.step_weights, target=1 / target, rounds=9)


@pytest.mark.parametrize(("form", "target"), [("fused", 0.3), ("fused_saving", 1.0)])
@pytest.mark.parametrize("against", ["weights", "theta"])
def bench_step_of_theta(
    versus: Versus, one_thread: None, peer: DnasSteps, against: str, form: str, target: float
) -> None:
    """A step of theta, with the weights frozen, against a plain step of weights or theta."""
    versus(DnasSteps(form).step_theta, getattr(peer, f"step_{against}"), target=1 / target, rounds=9)


@pytest.mark.parametrize(("kind", "target"), [("weights", 0.5), ("theta", 0.3)])
def bench_small_space(versus: Versus, one_thread: None, kind: str, target: float) -> None:
    """A step of the weights or of theta in `digits_tiny` against a plain step of the weights."""
    ours, theirs = (DnasSteps(form, space="digits_tiny", images=64) for form in ("fused", "plain"))
    versus(getattr(ours, f"step_{kind}"), theirs.step_weights, target=1 / target, rounds=9)


@pytest.mark.parametrize("kind", ["weights", "theta"])
@pytest.mark.parametrize(("form", "target"), [("fused_saving", 0.5)])
def bench_peak_memory(benchmark: BenchmarkFixture, form: str, kind: str, target: float) -> None:
    """Peak tensor memory of a step, without parameters and momentum: activations and gradients."""
    ours, peer = (partial(_peak_mb, DnasSteps(name), kind) for name in (form, "plain"))
    compare_memory(benchmark, ours, peer, target=1 / target)


def _peak_mb(steps: DnasSteps, kind: str) -> float:
    step: Step = getattr(steps, f"step_{kind}")
    step()
    for parameter in steps.net.parameters():
        parameter.grad = None
    known = [*steps.net.parameters(), *steps.net.buffers()]
    known += [value for optimizer in (steps.weights, steps.theta) for value in _tensors(optimizer)]
    return peak_bytes(step, known=known) / 1e6


def _tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
