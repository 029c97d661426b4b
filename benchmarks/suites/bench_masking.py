"""DMaskingNAS search steps with an increasing number of channel options per layer, at the same maximum width.

The main claim of FBNetV2 (Wan et al., arXiv:2004.05565): with masks, time and memory barely grow with the number of
options. The contrast is one branch per width, padded and summed with the mask. Four layers, 32 px, 16 images, one
thread.
"""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo.benchmarks.suites.figures import Versus, compare_memory
from fbnet_zoo.benchmarks.suites.live_memory import peak_bytes
from fbnet_zoo.search.dmasking.supernet import MaskedSupernet
from fbnet_zoo.search.gradient.gumbel import draw_masks, gumbel_noise
from fbnet_zoo.space import Space
from fbnet_zoo.space.files import parse
from fbnet_zoo.space.slots import EncodedLayer

WIDEST, LAYERS, CLASSES = 64, 4, 10
OPTIONS = (1, 4, 16, 64)
GROWTH = 1.1
"""Target: cost of a step relative to one with a single option."""

AGAINST = [pytest.param(each, 1.0 if each > 1 else 1 / GROWTH, id=str(each)) for each in OPTIONS]
"""Options and target; with a single option nothing can be saved."""

SPACE = """\
name: widths
family: fbnetv2
summary: Layers of one block and many widths.
input_size: 32
defaults: {op: ir, act: relu}
stem: {op: conv, k: 3, c: 64, s: 2}
stages:
  2:
ROWS
head: {op: conv, k: 1, c: 128}
"""


def widths_space(options: int) -> Space:
    """Return a space whose layers each have `options` evenly spaced widths up to the maximum."""
    step = WIDEST // options
    widths = [step * (index + 1) for index in range(options)]
    return parse(SPACE.replace("ROWS", "\n".join([f"    - {{k: 3, e: 3, c: {widths}}}"] * LAYERS)), "widths.yaml")


class Branches(nn.Module):
    """A layer with one block per width, padded to the maximum."""

    def __init__(self, space: Space, layer: EncodedLayer) -> None:
        super().__init__()
        (branch,), (expansion,) = layer.branches.values(), layer.expansions
        built = [space.plan(branch.having(WIDEST, expansion, width)) for width in layer.after]
        self.branches = nn.ModuleList(blocks.block(plan, bn_eps=space.frame.bn_eps) for plan in built)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        outputs = [(branch(x), weight) for branch, weight in zip(self.branches, mask, strict=True)]
        return torch.stack([F.pad(y, (0, 0, 0, 0, 0, WIDEST - y.shape[1])) * weight for y, weight in outputs]).sum(0)


class BranchSupernet(nn.Module):
    """A supernet of such layers, with the stem, head and classifier of the masked one."""

    def __init__(self, masked: MaskedSupernet) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Branches(masked.encoding.space, layer) for layer in masked.encoding.layers)
        self.stem, self.head, self.pool = masked.stem, masked.head, masked.pool
        self.flatten, self.classifier = masked.flatten, masked.classifier
        blocks.init_weights(self)

    def forward(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        x = self.stem(x)
        for layer, mask in zip(self.layers, masks or [x.new_ones(1)] * LAYERS, strict=True):
            x = layer(x, mask)
        return self.classifier(self.flatten(self.pool(self.head(x)))).flatten(1)


class MaskedSteps:
    """Training steps of weights and theta together, with masks or with branches."""

    def __init__(self, options: int, *, branches: bool = False) -> None:
        torch.manual_seed(0)
        masked = MaskedSupernet(widths_space(options), num_classes=CLASSES)
        self.theta = masked.theta
        self.net: nn.Module = BranchSupernet(masked) if branches else masked
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = torch.randn(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        self.classes = torch.randint(CLASSES, (16,))
        self.generator = torch.Generator().manual_seed(0)
        learning = [*self.net.parameters(), *(self.theta if branches else ())]
        self.optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9)

    def step(self) -> None:
        masks = draw_masks(self.theta, gumbel_noise(self.theta, self.generator), 5.0)
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(self.images, masks), self.classes).backward()
        self.optimizer.step()


@pytest.fixture(scope="module")
def single() -> MaskedSteps:
    """Return the masked supernet with a single option."""
    return MaskedSteps(1)


@pytest.mark.parametrize("options", OPTIONS[1:])
def bench_step_with_options(versus: Versus, one_thread: None, single: MaskedSteps, options: int) -> None:
    """A step with several widths per layer against one with only the maximum."""
    versus(MaskedSteps(options).step, single.step, target=1 / GROWTH, rounds=15)


@pytest.mark.parametrize(("options", "target"), AGAINST)
def bench_step_against_branches(versus: Versus, one_thread: None, options: int, target: float) -> None:
    """A step with masks against one with a branch per width."""
    versus(MaskedSteps(options).step, MaskedSteps(options, branches=True).step, target=target, rounds=5)


@pytest.mark.parametrize("options", OPTIONS[1:])
def bench_memory_with_options(benchmark: BenchmarkFixture, one_thread: None, options: int) -> None:
    """Peak tensor memory of a step, without parameters and momentum, against one option."""
    _compare(benchmark, MaskedSteps(options), MaskedSteps(1), target=1 / GROWTH)


@pytest.mark.parametrize(("options", "target"), AGAINST)
def bench_memory_against_branches(benchmark: BenchmarkFixture, one_thread: None, options: int, target: float) -> None:
    """The same against a branch per width."""
    _compare(benchmark, MaskedSteps(options), MaskedSteps(options, branches=True), target=target)


def _compare(benchmark: BenchmarkFixture, ours: MaskedSteps, peer: MaskedSteps, *, target: float) -> None:
    compare_memory(benchmark, lambda: _peak_mb(ours), lambda: _peak_mb(peer), target=target)


def _peak_mb(steps: MaskedSteps) -> float:
    steps.step()
    steps.optimizer.zero_grad()
    momenta = [each["momentum_buffer"] for each in steps.optimizer.state.values()]
    known = [*steps.net.parameters(), *steps.theta, *steps.net.buffers(), steps.images, *momenta]
    return peak_bytes(steps.step, known=known) / 1e6
