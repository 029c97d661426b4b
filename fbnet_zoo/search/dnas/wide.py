"""Candidates of one layer as a single wide block: a few large operators instead of many small ones.

All candidates expand the same input, so their expansions are one matrix product. Batch norms and activations work per
channel, so those of all candidates run as one, and so do depthwise convolutions with kernels of the same size. Only the
projections stay separate.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.blocks import ChannelShuffle, ConvBNAct, InvertedResidual
from fbnet_zoo.search.gradient.convolving import depthwise, is_depthwise, is_pointwise, pointwise, within_reach

ROOM = 2**19  # values of an expanded input: beyond the caches of a CPU, two blocks are faster


def fit(candidate: nn.Module, x: Tensor) -> tuple[object, ...] | None:
    """Return a key shared by candidates that fit into one wide block for input x; `None` if it fits into none."""
    if not isinstance(candidate, InvertedResidual) or not isinstance(candidate.se, nn.Identity):
        return None
    if len(candidate.depthwise) != 1 or not all(map(_is_normed, _layers(candidate))):
        return None
    expand, middle, project = _layers(candidate)
    are_pointwise = is_pointwise(expand.conv) and is_pointwise(project.conv) and isinstance(project.act, nn.Identity)
    if not are_pointwise or not is_depthwise(middle.conv):
        return None
    norms = tuple((layer.bn.momentum, layer.bn.eps, layer.bn.training) for layer in (expand, middle, project))
    kernel = within_reach(middle.conv.weight, x)  # kernels of different sizes become equal on small feature maps
    return norms, type(expand.act), type(middle.act), middle.conv.stride, kernel.shape[2:]


def blocks(branches: Iterable[tuple[Any, Tensor]], x: Tensor) -> Iterator[list[tuple[Any, Tensor]]]:
    """Yield groups of candidates, each with its weight, that are small enough to be fast as one wide block."""
    block, used = list[tuple[Any, Tensor]](), 0
    for candidate, weight in branches:
        size = _expanded(candidate, x) if x.is_cpu else 0
        if block and used + size > ROOM:
            yield block
            block, used = [], 0
        block.append((candidate, weight))
        used += size
    yield block


def _expanded(candidate: nn.Module, x: Tensor) -> int:
    """Return the number of values (N, C*e, H, W) after a candidate's expansion; 0 without one."""
    expand = candidate.expand if isinstance(candidate, InvertedResidual) else None
    return x.numel() // x.shape[1] * expand.conv.out_channels if isinstance(expand, ConvBNAct) else 0


def _layers(candidate: InvertedResidual) -> tuple[Any, Any, Any]:
    """Return expansion, depthwise convolution, projection; `fit` checks that each is a `ConvBNAct` with batch norm."""
    return candidate.expand, candidate.depthwise[0], candidate.project


def _is_normed(layer: nn.Module) -> bool:
    if not isinstance(layer, ConvBNAct) or layer.conv.bias is not None:
        return False
    return isinstance(layer.bn, nn.BatchNorm2d) and layer.bn.momentum is not None


def branches(candidates: Sequence[InvertedResidual], x: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the candidates' outputs without residuals, times their weights.

    Args:
        candidates: candidates with the same `fit`.
        x: their input, (N, C, H, W).
        weights: weights of the candidates, (candidates,), or (N, candidates) for one per image.
    """
    expands, middles, projects = zip(*map(_layers, candidates), strict=True)
    shuffles = [each.shuffle.groups if isinstance(each.shuffle, ChannelShuffle) else 1 for each in candidates]
    kernels = [_shuffled(_dense(layer.conv), groups) for layer, groups in zip(expands, shuffles, strict=True)]
    y = pointwise(x, torch.cat(kernels))
    y = expands[0].act(_normed(expands, y, shuffles=shuffles))  # (N, sum of C*e, H, W)
    kernels = [within_reach(layer.conv.weight, x) for layer in middles]
    y = depthwise(y, torch.cat(kernels), middles[0].conv.stride)
    y = middles[0].act(_normed(middles, y))  # (N, sum of C*e, H/s, W/s)
    return _projected(projects, y, weights)  # (N, C', H/s, W/s)


def _projected(layers: Sequence[Any], x: Tensor, weights: Tensor) -> Tensor:
    n, _, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)  # (N*H*W, sum of C*e)
    parts = zip(pixels.split([layer.conv.in_channels for layer in layers], 1), layers, strict=True)
    y = torch.cat([F.linear(part, _dense(layer.conv).flatten(1)) for part, layer in parts], 1)
    if weights.dim() == 1:
        y = _normed(layers, y, weights=weights).view(n, h, w, len(layers), -1).sum(3)  # (N, H, W, C')
    else:
        y = torch.einsum("nhwbc,nb->nhwc", _normed(layers, y).view(n, h, w, len(layers), -1), weights)
    return y.permute(0, 3, 1, 2)


def _dense(conv: nn.Conv2d) -> Tensor:
    """Return the weight (C', C, 1, 1) of an equivalent pointwise convolution without groups."""
    if conv.groups == 1:
        return conv.weight
    return torch.block_diag(*conv.weight.flatten(1).chunk(conv.groups))[:, :, None, None]


def _shuffled(values: Tensor, groups: int) -> Tensor:
    """Return values of channels (C, ...) in the order of `ChannelShuffle`: faster than shuffling feature maps."""
    return values if groups == 1 else values.unflatten(0, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _normed(
    layers: Sequence[Any], x: Tensor, *, shuffles: Sequence[int] | None = None, weights: Tensor | None = None
) -> Tensor:
    """Return the output of batch norms of adjacent channels for x (N, C, ...), times a weight for each."""
    norms, shuffles = [layer.bn for layer in layers], shuffles or [1] * len(layers)

    def joined(name: str) -> Tensor:
        return torch.cat([_shuffled(getattr(bn, name), groups) for bn, groups in zip(norms, shuffles, strict=True)])

    gamma, beta, mean, variance = map(joined, ("weight", "bias", "running_mean", "running_var"))
    if weights is not None:
        gamma, beta = ((weights[:, None] * value.view(len(weights), -1)).flatten() for value in (gamma, beta))
    first = norms[0]
    y = F.batch_norm(x, mean, variance, gamma, beta, first.training, first.momentum, first.eps)
    if first.training:
        _keep(norms, mean, variance, shuffles)
    return y


def _keep(norms: Sequence[Any], mean: Tensor, variance: Tensor, shuffles: Sequence[int]) -> None:
    """Store each batch norm's part of the statistics, in its own order."""
    sizes = [bn.num_features for bn in norms]
    parts = zip(norms, mean.split(sizes), variance.split(sizes), shuffles, strict=True)
    for bn, own_mean, own_variance, groups in parts:
        back = 1 if groups == 1 else bn.num_features // groups  # number of groups of the inverse shuffle
        bn.running_mean.copy_(_shuffled(own_mean, back))
        bn.running_var.copy_(_shuffled(own_variance, back))
        bn.num_batches_tracked.add_(1)
