"""Blocks with masked channels: `fbnet_zoo.blocks` at their largest width, run under masks.

Masks scale small tensors instead of feature maps: the weights of the next convolution, the gates of squeeze-excite,
gamma and beta of the last batch norm. Masks per image are multiplied with feature maps.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from fbnet_zoo.blocks import ConvBNAct, InvertedResidual, PoolHead, SqueezeExcitation
from fbnet_zoo.search.dmasking.channel_masks import InnerMasks
from fbnet_zoo.search.dnas import mixing
from fbnet_zoo.search.gradient.convolving import computed, convolved, depthwise, is_depthwise, pointwise

NOTHING_INSIDE = InnerMasks(middle=None, hidden=None, bare=None)


def masked_branch(block: nn.Module, x: Tensor, inner: InnerMasks, scale: Tensor) -> Tensor:
    """Return a block's output without its residual, times a scale (1,), (C,), (N, 1) or (N, C)."""
    if isinstance(block, ConvBNAct):
        return _scaled(block, convolved(block.conv, x), scale)
    assert isinstance(block, InvertedResidual)  # noqa: S101 - the only other kind of block
    y = block.shuffle(computed(block.expand, x))  # (N, C*e, H, W)
    y = _depthwise(block.depthwise, y, x, inner.bare)  # (N, C*e, H/s, W/s)
    if isinstance(block.se, SqueezeExcitation):
        y, middle = y * gate(block.se, y, inner), None
    else:
        middle = inner.middle
    if not isinstance(block.project, ConvBNAct):
        return y * per_channel(scale)
    return _scaled(block.project, _convolved(block.project.conv, y, middle), scale)  # (N, C', H/s, W/s)


def masked_branch_again(block: nn.Module, x: Tensor, inner: InnerMasks, scale: Tensor) -> Tensor:
    """Return `masked_branch` with less memory: the block is recomputed for its gradient.

    Recomputing does not update the batch norm statistics, so they are updated once per step.
    """
    return checkpoint(
        masked_branch,
        block,
        x,
        inner,
        scale,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _StatisticsKept(block)),
    )


class _StatisticsKept(AbstractContextManager[None]):
    """A reusable `mixing.statistics_kept`, entered each time a gradient is computed."""

    def __init__(self, block: nn.Module) -> None:
        self.block, self.inside = block, ExitStack()

    def __enter__(self) -> None:
        self.inside.enter_context(mixing.statistics_kept(self.block))

    def __exit__(self, *_: object) -> None:
        self.inside.close()


def masked_pool_head(head: PoolHead, x: Tensor, inner: InnerMasks, scale: Tensor) -> Tensor:
    """Return the pooled features (N, C', 1, 1) of a head, times a scale."""
    y = computed(head.expand, x)
    if isinstance(head.se, SqueezeExcitation):
        y = head.pool(y * gate(head.se, y, inner))
    else:
        y = _masked(head.pool(y), inner.middle)
    return head.project(y) * per_channel(scale)


def gate(se: SqueezeExcitation, x: Tensor, inner: InnerMasks) -> Tensor:
    """Return the gates of squeeze-excite, (N, C, 1, 1), which are 0 where the middle is masked."""
    hidden = _masked(se.act(se.reduce(_masked(se.pool(x), inner.middle))), inner.hidden)
    return _masked(se.gate(se.expand(hidden)), inner.middle)


def fitted(x: Tensor, channels: int) -> Tensor:
    """Return feature maps with a given number of channels, cut off or padded with zeros."""
    missing = channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x[:, :channels]


def per_channel(scale: Tensor) -> Tensor:
    """Return a scale (1,), (C,), (N, 1) or (N, C) in a shape that broadcasts over feature maps."""
    return scale[..., None, None]


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * per_channel(mask)


def _depthwise(convolutions: nn.Sequential, y: Tensor, x: Tensor, bare: Tensor | None) -> Tensor:
    """Return the depthwise convolutions of the expansion y, mixed with the input x where networks have no expansion.

    Both go through the first convolution, which is linear, with scaled weights.
    """
    if not len(convolutions):  # a fused block
        return y
    first, *rest = convolutions
    assert isinstance(first, ConvBNAct)  # noqa: S101 - the kind of all depthwise convolutions
    if bare is None:
        y = computed(first, y)
    elif bare.dim() > 1 or not is_depthwise(first.conv):
        y = computed(first, y * per_channel(1 - bare) + fitted(x, y.shape[1]) * per_channel(bare))
    else:
        weight, stride, channels = first.conv.weight, first.conv.stride, min(x.shape[1], y.shape[1])
        own = depthwise(y, weight * (1 - bare), stride)
        others = depthwise(x[:, :channels], weight[:channels] * bare, stride)
        y = first.act(first.bn(_FirstAdded.apply(own, others)))  # type: ignore[no-untyped-call]
    for each in rest:
        y = computed(each, y)
    return y


class _FirstAdded(torch.autograd.Function):
    """Adds feature maps to the first channels of others, in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.channels = first.shape[1]
        x[:, : ctx.channels] += first
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient[:, : ctx.channels]


def _convolved(conv: nn.Conv2d, x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the pointwise convolution of masked feature maps."""
    if mask is None or mask.dim() > 1:
        return convolved(conv, _masked(x, mask))
    return pointwise(x, conv.weight * per_channel(mask), conv.bias)


def _scaled(layer: ConvBNAct, x: Tensor, scale: Tensor) -> Tensor:
    """Return batch norm and activation of a convolution's output, times a scale."""
    bn = mixing.last_norm(layer) if scale.dim() == 1 else None
    return layer.act(layer.bn(x)) * per_channel(scale) if bn is None else mixing.scaled_norm(bn, x, scale)
