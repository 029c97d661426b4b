"""Candidates of one layer as a single wide block: few operators that do much instead of many that do little.

All expand the same input, so their expansions are one product of matrices. Batch norms and activations work on each
channel apart, so those of all candidates are one, and so are depthwise convolutions with kernels of one size. Only
the projections stay several.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.blocks import ChannelShuffle, ConvBNAct, InvertedResidual
from fbnet_zoo.search.convolving import depthwise, is_depthwise, is_pointwise, pointwise, within_reach

Key = tuple[object, ...]


def key(candidate: nn.Module, x: Tensor) -> Key | None:
    """Return what candidates have in common that fit in one block for an input; `None` for one that fits in none."""
    if not isinstance(candidate, InvertedResidual) or len(candidate.depthwise) != 1:
        return None
    layers = (candidate.expand, candidate.depthwise[0], candidate.project)
    if not all(isinstance(layer, ConvBNAct) and _is_normed(layer) for layer in layers):
        return None
    expand, middle, project = layers
    fits = is_pointwise(expand.conv) and is_depthwise(middle.conv) and is_pointwise(project.conv)
    if not fits or not isinstance(candidate.se, nn.Identity) or not isinstance(project.act, nn.Identity):
        return None
    norms = [(layer.bn.momentum, layer.bn.eps, layer.bn.training) for layer in layers]
    kernel = within_reach(middle.conv.weight, x).shape[2:]
    return (*norms, type(expand.act), type(middle.act), middle.conv.stride, kernel)


def _is_normed(layer: ConvBNAct) -> bool:
    bn = layer.bn
    return layer.conv.bias is None and isinstance(bn, nn.BatchNorm2d) and bn.momentum is not None


def mixed(candidates: Sequence[InvertedResidual], x: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of branches (without inputs that are added back) of one key, times weights (candidates,)."""
    expands = [each.expand for each in candidates]
    shuffles = [each.shuffle.groups if isinstance(each.shuffle, ChannelShuffle) else 1 for each in candidates]
    y = pointwise(x, torch.cat([_shuffled(_dense(layer.conv), g) for layer, g in zip(expands, shuffles, strict=True)]))
    y = expands[0].act(_normed([layer.bn for layer in expands], y, shuffles))  # (N, sum of C*e, H, W)
    middles = [each.depthwise[0] for each in candidates]
    kernels = torch.cat([within_reach(layer.conv.weight, x) for layer in middles])
    y = depthwise(y, kernels, middles[0].conv.stride)
    y = middles[0].act(_normed([layer.bn for layer in middles], y))  # (N, sum of C*e, H/s, W/s)
    return _projected([each.project for each in candidates], y, weights)


def _projected(layers: Sequence[ConvBNAct], x: Tensor, weights: Tensor) -> Tensor:
    n, _, h, w = x.shape
    parts = x.permute(0, 2, 3, 1).flatten(0, 2).split([layer.conv.in_channels for layer in layers], 1)
    pairs = zip(parts, layers, strict=True)
    y = torch.cat([F.linear(part, _dense(layer.conv).flatten(1)) for part, layer in pairs], 1)
    y = _normed([layer.bn for layer in layers], y, scales=weights)  # (N*H*W, candidates*C')
    y = y.view(len(y), len(layers), -1).sum(1)
    return y.view(n, h, w, -1).permute(0, 3, 1, 2)


def _dense(conv: nn.Conv2d) -> Tensor:
    """Return the weight (C', C, 1, 1) of a pointwise convolution without groups that does the same."""
    if conv.groups == 1:
        return conv.weight
    return torch.block_diag(*conv.weight.flatten(1).chunk(conv.groups))[:, :, None, None]


def _shuffled(values: Tensor, groups: int) -> Tensor:
    """Return the values of channels in the order that `ChannelShuffle` brings these into."""
    return values if groups == 1 else values.unflatten(0, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _normed(
    norms: Sequence[nn.BatchNorm2d], x: Tensor, shuffles: Sequence[int] | None = None, scales: Tensor | None = None
) -> Tensor:
    """Return what batch norms of neighbouring channels make of these, times a scale for each."""
    shuffles = shuffles or [1] * len(norms)

    def joint(name: str) -> Tensor:
        return torch.cat([_shuffled(getattr(bn, name), g) for bn, g in zip(norms, shuffles, strict=True)])

    first, gamma, beta = norms[0], joint("weight"), joint("bias")
    if scales is not None:
        gamma, beta = ((scales[:, None] * value.view(len(norms), -1)).flatten() for value in (gamma, beta))
    mean, variance = joint("running_mean"), joint("running_var")
    y = F.batch_norm(x, mean, variance, gamma, beta, first.training, first.momentum, first.eps)
    if first.training:
        _keep(norms, shuffles, mean, variance)
    return y


def _keep(norms: Sequence[nn.BatchNorm2d], shuffles: Sequence[int], mean: Tensor, variance: Tensor) -> None:
    """Give each batch norm its part of the statistics."""
    sizes = [bn.num_features for bn in norms]
    for bn, groups, mu, var in zip(norms, shuffles, mean.split(sizes), variance.split(sizes), strict=True):
        bn.running_mean.unflatten(0, (groups, -1)).copy_(mu.unflatten(0, (-1, groups)).t())
        bn.running_var.unflatten(0, (groups, -1)).copy_(var.unflatten(0, (-1, groups)).t())
        bn.num_batches_tracked.add_(1)
