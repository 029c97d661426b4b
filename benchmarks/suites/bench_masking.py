"""Steps of a search by DMaskingNAS as its layers get more channels to choose from, at the same widest width.

The headline of FBNetV2 (Wan et al., arXiv:2004.05565): time and memory of masks hardly grow with the number of options.
For contrast the same options as explicit branches, one block for each width, padded and summed with the mask. One block
at each of four places, 32 px, 16 images, one thread.
"""

import os

# Two forms in turn need more kernels than oneDNN keeps: it would compile them anew in every round, as no search does.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo.benchmarks.suites.figures import Versus
from fbnet_zoo.benchmarks.suites.live_memory import peak_bytes
from fbnet_zoo.search.dmasking.supernet import MaskedSupernet
from fbnet_zoo.search.gradient.gumbel import draw_masks, gumbel_noise
from fbnet_zoo.space import Space
from fbnet_zoo.space.encoding import EncodedLayer
from fbnet_zoo.space.files import parse

WIDEST, LAYERS, CLASSES = 64, 4, 10
OPTIONS = (1, 4, 16, 64)
GROWTH = 1.1
"""At most so many times the step with one option."""

AGAINST = [pytest.param(each, 1.0 if each > 1 else 1 / GROWTH, id=str(each)) for each in OPTIONS]
"""Options and target: of one option there is nothing to save."""

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
    """Return the space whose layers each have so many widths, evenly up to the widest."""
    step = WIDEST // options
    widths = [step * (index + 1) for index in range(options)]
    return parse(SPACE.replace("ROWS", "\n".join([f"    - {{k: 3, e: 3, c: {widths}}}"] * LAYERS)), "widths.yaml")


class Branches(nn.Module):
    """One layer plainly: a block of its own for each width, padded to the widest."""

    def __init__(self, space: Space, layer: EncodedLayer) -> None:
        super().__init__()
        (branch,), (expansion,) = layer.branches.values(), layer.expansions
        built = [space.plan(branch.having(WIDEST, expansion, width)) for width in layer.after]
        self.branches = nn.ModuleList(blocks.block(plan, bn_eps=space.frame.bn_eps) for plan in built)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        outputs = [(branch(x), weight) for branch, weight in zip(self.branches, mask, strict=True)]
        return torch.stack([F.pad(y, (0, 0, 0, 0, 0, WIDEST - y.shape[1])) * weight for y, weight in outputs]).sum(0)


class BranchSupernet(nn.Module):
    """The supernet of these layers, with the ends of the masked one."""

    def __init__(self, masked: MaskedSupernet) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Branches(masked.encoding.space, layer) for layer in masked.encoding.layers)
        self.stem, self.head, self.pool, self.classifier = masked.stem, masked.head, masked.pool, masked.classifier
        blocks.init_weights(self)

    def forward(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        x = self.stem(x)
        for layer, mask in zip(self.layers, masks or [x.new_ones(1)] * LAYERS, strict=True):
            x = layer(x, mask)
        return self.classifier(self.pool(self.head(x)))


class Steps:
    """Steps of weights and theta together, with masks or with branches."""

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
def single() -> Steps:
    """Masks where there is one option only."""
    return Steps(1)


@pytest.mark.parametrize("options", OPTIONS[1:])
def bench_step_with_options(versus: Versus, one_thread: None, single: Steps, options: int) -> None:
    """A step with so many widths in each layer against one with the widest only."""
    versus(Steps(options).step, single.step, target=1 / GROWTH, rounds=15)


@pytest.mark.parametrize(("options", "target"), AGAINST)
def bench_step_against_branches(versus: Versus, one_thread: None, options: int, target: float) -> None:
    """A step with masks against one with a branch for each width."""
    versus(Steps(options).step, Steps(options, branches=True).step, target=target, rounds=5)


@pytest.mark.parametrize("options", OPTIONS[1:])
def bench_memory_with_options(benchmark: BenchmarkFixture, one_thread: None, options: int) -> None:
    """The most that tensors take in a step beyond parameters and momentum, against one option."""
    _compare_mb(benchmark, Steps(options), Steps(1), target=1 / GROWTH)


@pytest.mark.parametrize(("options", "target"), AGAINST)
def bench_memory_against_branches(benchmark: BenchmarkFixture, one_thread: None, options: int, target: float) -> None:
    """The same against a branch for each width."""
    _compare_mb(benchmark, Steps(options), Steps(options, branches=True), target=target)


def _compare_mb(benchmark: BenchmarkFixture, ours: Steps, peer: Steps, *, target: float) -> None:
    own, theirs = _peak_mb(ours), _peak_mb(peer)
    recorded: Any = benchmark  # its methods are not annotated
    recorded.pedantic(partial(_peak_mb, ours), rounds=1)
    recorded.extra_info.update(ours_mb=own, peer_mb=theirs, ratio=theirs / own, target=target)


def _peak_mb(steps: Steps) -> float:
    steps.step()
    steps.optimizer.zero_grad()
    momenta = [each["momentum_buffer"] for each in steps.optimizer.state.values()]
    known = [*steps.net.parameters(), *steps.theta, *steps.net.buffers(), steps.images, *momenta]
    return peak_bytes(steps.step, known=known) / 1e6
