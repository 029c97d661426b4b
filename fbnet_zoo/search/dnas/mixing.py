"""Forms of a supernet layer, y = sum_i m_i b_i(x) over its candidates b with the mask m.

`plain` is the sum as written in the paper (Wu et al., arXiv:1812.03443). The other forms return the same value in less
time or memory; `benchmarks/suites/bench_search.py` compares them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fbnet_zoo.blocks import ConvBNAct, InvertedResidual, ResidualInvertedResidual
from fbnet_zoo.search.dnas import wide
from fbnet_zoo.search.gradient.config import Form
from fbnet_zoo.search.gradient.convolving import computed, convolved

Mix = Callable[[Sequence[nn.Module], Tensor, Tensor], Tensor]
"""Accepts candidates, their input (N, C, H, W), and the mask, (candidates,) or (N, candidates) for one per image."""


def plain(candidates: Sequence[nn.Module], x: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of all candidates' outputs times their masks."""
    weights = mask.unbind(-1)  # each () or (N,)
    return torch.stack([_per_image(weight) * b(x) for weight, b in zip(weights, candidates, strict=True)]).sum(0)


def fused(candidates: Sequence[nn.Module], x: Tensor, mask: Tensor) -> Tensor:
    """Return the same sum with fewer operators: candidates of the same kind run as one wide block (`wide`).

    m scales the last batch norm of each candidate instead of its output, m (gamma z + beta) = (m gamma) z + m beta;
    residuals are scaled once by the sum of their masks. Masks per image cannot scale a batch norm and multiply outputs.
    """
    return _summed(candidates, x, mask, _branches)


def fused_saving(candidates: Sequence[nn.Module], x: Tensor, mask: Tensor) -> Tensor:
    """Return the same sum with less memory: candidates run one by one, and are recomputed for their gradient.

    Recomputing does not update the batch norm statistics, so they are updated once per step.
    """
    return _summed(candidates, x, mask, _branches_again)


FORMS: dict[Form, Mix] = {"soft": fused, "saving": fused_saving}


def _summed(candidates: Sequence[nn.Module], x: Tensor, mask: Tensor, run: "_Run") -> Tensor:
    weights = mask.unbind(-1)
    passed, branches = [], []
    for weight, candidate in zip(weights, candidates, strict=True):
        if isinstance(candidate, ResidualInvertedResidual | nn.Identity):
            passed.append(weight)
        if not isinstance(candidate, nn.Identity):
            branches.append((candidate, weight))
    y = x * _per_image(torch.stack(passed).sum(0)) if passed else None
    for branch in run(branches, x):
        y = branch if y is None else y.add_(branch)
    assert y is not None  # noqa: S101 - every layer has a candidate
    return y


_Branches = Sequence[tuple[nn.Module, Tensor]]
_Run = Callable[[_Branches, Tensor], Iterator[Tensor]]


def _branches(branches: _Branches, x: Tensor) -> Iterator[Tensor]:
    """Yield outputs of candidates times their masks, summed where candidates run as one wide block."""
    kinds = defaultdict[Any, list[tuple[Any, Tensor]]](list)
    for position, (candidate, weight) in enumerate(branches):
        kinds[wide.fit(candidate, x) or position].append((candidate, weight))
    for candidates, weights in (zip(*block, strict=True) for kind in kinds.values() for block in wide.blocks(kind, x)):
        if len(candidates) > 1:
            yield wide.branches(candidates, x, torch.stack(weights, -1))
        else:
            yield _branch(candidates[0], x, weights[0])


def _branches_again(branches: _Branches, x: Tensor) -> Iterator[Tensor]:
    """Yield `_branch` of each candidate, keeping only the inputs for the gradient."""
    for candidate, weight in branches:
        yield _Again.apply(candidate, x, weight, *candidate.parameters())  # type: ignore[no-untyped-call]


class _Again(torch.autograd.Function):
    """Recomputes a branch for its gradient.

    `torch.utils.checkpoint` calls Python for every tensor that is kept, which takes longer here than recomputing.
    """

    @staticmethod
    def forward(ctx: Any, candidate: nn.Module, x: Tensor, weight: Tensor, *_: Tensor) -> Tensor:
        ctx.candidate, kind = candidate, x.device.type
        ctx.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        ctx.save_for_backward(x, weight)
        return _branch(candidate, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        x, weight = (
            kept.detach().requires_grad_(is_needed)
            for kept, is_needed in zip(ctx.saved_tensors, needed[:2], strict=True)
        )
        with torch.enable_grad(), torch.autocast(*ctx.autocast), statistics_kept(ctx.candidate):
            y = _branch(ctx.candidate, x, weight)
        inputs = (x, weight, *ctx.candidate.parameters())
        wanted = [value for value, is_needed in zip(inputs, needed, strict=True) if is_needed]
        found = iter(torch.autograd.grad(y, wanted, gradient))
        return None, *(next(found) if is_needed else None for is_needed in needed)


def _per_image(weight: Tensor) -> Tensor:
    """Return a mask in a shape that broadcasts over feature maps: () or (N, 1, 1, 1)."""
    return weight if weight.dim() == 0 else weight.view(-1, 1, 1, 1)


def _branch(candidate: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Return a candidate's output without its residual, times its mask."""
    if weight.dim() == 0 and isinstance(candidate, InvertedResidual) and isinstance(candidate.project, ConvBNAct):
        y = candidate.shuffle(computed(candidate.expand, x))  # (N, C*e, H, W)
        for layer in candidate.depthwise:
            y = computed(layer, y)  # (N, C*e, H/s, W/s)
        return _scaled(candidate.project, candidate.se(y), weight)
    y = candidate.branch(x) if isinstance(candidate, InvertedResidual) else candidate(x)
    return y * _per_image(weight)


def _scaled(layer: ConvBNAct, x: Tensor, weight: Tensor) -> Tensor:
    """Return a layer's output times a scalar."""
    y, bn = convolved(layer.conv, x), last_norm(layer)
    return layer.act(layer.bn(y)) * weight if bn is None else scaled_norm(bn, y, weight)


def last_norm(layer: ConvBNAct) -> nn.BatchNorm2d | None:
    """Return the batch norm at the end of a layer, which can be scaled instead of the output; `None` without one."""
    bn = layer.bn
    if isinstance(bn, nn.BatchNorm2d) and isinstance(layer.act, nn.Identity) and bn.momentum is not None:
        return bn
    return None


def scaled_norm(bn: nn.BatchNorm2d, x: Tensor, weight: Tensor) -> Tensor:
    """Return the output of a batch norm times a weight of shape (), (1,) or (C,)."""
    if bn.training and bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
    gamma, beta = weight * bn.weight, weight * bn.bias
    return F.batch_norm(x, bn.running_mean, bn.running_var, gamma, beta, bn.training, bn.momentum or 0.0, bn.eps)


@contextmanager
def statistics_kept(candidate: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms unchanged inside, with a momentum of 0."""
    norms = [each for each in candidate.modules() if isinstance(each, nn.BatchNorm2d)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in kept:
            norm.momentum, norm.num_batches_tracked = momentum, batches
