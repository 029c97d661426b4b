"""Blocks whose channels are masked: their parts are those of `fbnet_zoo.blocks`, at the widest.

Masks scale what is small, not images: the weights of the convolution that follows, the gates of squeeze-excite, gamma
and beta of the last batch norm. A mask for each image is multiplied with images.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fbnet_zoo import blocks
from fbnet_zoo.blocks import ConvBNAct, InvertedResidual, PoolHead, SqueezeExcitation
from fbnet_zoo.plans import BlockPlan
from fbnet_zoo.search import mixing
from fbnet_zoo.search.channel_masks import (
    InnerLadders,
    InnerMasks,
    InnerWidths,
    Ladder,
    inner_widths,
    widest,
)
from fbnet_zoo.search.gumbel import Form
from fbnet_zoo.search.masked_points import Branch, MaskedPlace
from fbnet_zoo.space import Space

NOTHING_INSIDE = InnerMasks(middle=None, hidden=None, bare=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMasks:
    """The weights of one layer's options, each (options,) or (N, options).

    Attributes:
        before: of its input's channels.
        branch: of its blocks.
        expansion: of its expansions.
        after: of its output's channels.
    """

    before: Tensor
    branch: Tensor
    expansion: Tensor
    after: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScales:
    """What the masks of a layer come to, the same at all image sizes.

    Attributes:
        branch: weight of each block, (1,) or (N, 1).
        inner: masks inside each block.
        after: mask of the output, (channels,) or (N, channels); `None` where its width is fixed.
        equal: the part of it for outputs as wide as the input, which blocks add and skips return; `None` where none is.
        other: the rest of it, for outputs of skips that are convolutions; likewise.
    """

    branch: tuple[Tensor, ...]
    inner: tuple[InnerMasks, ...]
    after: Tensor | None
    equal: Tensor | None
    other: Tensor | None


class MaskedLayer(nn.Module):
    """One layer that chooses: each of its blocks once, at the widest.

    The input is added, or returned by a skip, with the mask sum_c g_c h_c 1_c over the widths c that input and output
    have in common, with their weights g and h.

    Args:
        space: the search space.
        place: the layer.
        bn_eps: of the batch norms.

    Attributes:
        candidates: the blocks by name.

    Raises:
        InputError: blocks of different widths cannot share weights.
    """

    def __init__(self, space: Space, place: MaskedPlace, *, bn_eps: float) -> None:
        super().__init__()
        self.candidates, self.inner = nn.ModuleDict(), nn.ModuleList()
        self.inner_of: list[int | None] = []
        known: dict[InnerWidths, int] = {}
        for name, branch in place.branches.items():
            plan, widths = _planned(space, place, branch)
            self.candidates[name] = blocks.block(plan, bn_eps=bn_eps)
            self.inner_of.append(None if widths is None else known.setdefault(widths, len(known)))
        self.inner.extend(InnerLadders(widths) for widths in known)
        self.adds = tuple(branch.block.row.op != "conv" for branch in place.branches.values())
        self.after = Ladder(place.after)
        self.channels = max(place.after)
        same = torch.tensor([[before == after for after in place.after] for before in place.before])
        self.register_buffer("same", same.float(), persistent=False)
        self.adding = place.stride == 1 and bool(same.any())

    same: Tensor

    def scales(self, masks: LayerMasks) -> LayerScales:
        """Return what masks come to."""
        pairs = (masks.before[..., :, None] * masks.expansion[..., None, :]).flatten(-2)
        inner = [ladders(pairs) for ladders in self.inner]
        equal, other = self._equal(masks)
        return LayerScales(
            branch=masks.branch.split(1, -1),
            inner=tuple(NOTHING_INSIDE if index is None else inner[index] for index in self.inner_of),
            after=self.after(masks.after),
            equal=equal,
            other=other,
        )

    def _equal(self, masks: LayerMasks) -> tuple[Tensor | None, Tensor | None]:
        """Return the masks of outputs that are as wide as the input, and of others."""
        if not self.adding:
            return None, None
        weights = masks.after * (masks.before @ self.same)
        return self.after.part(weights), self.after.part(masks.after - weights)

    def forward(self, x: Tensor, scales: LayerScales, weight: Tensor, form: Form = "soft") -> Tensor:
        """Return the output (N, C', H/s, W/s) times a weight, (1,) or (N, 1)."""
        shown = range(len(self.candidates)) if form != "drawn" else [_largest(scales.branch)]
        named = list(self.candidates.values())
        passed = [scales.branch[index] for index in shown if self.adds[index]]
        y = None
        if scales.equal is not None and passed:
            y = fitted(x, self.channels) * per_channel(torch.stack(passed).sum(0) * scales.equal * weight)
        for index in shown:
            if not isinstance(named[index], nn.Identity):
                branch = self._branch(named[index], x, scales, index, weight, form)
                y = branch if y is None else y.add_(branch)
        assert y is not None  # noqa: S101 - a layer has a candidate
        return y

    def _branch(
        self, block: nn.Module, x: Tensor, scales: LayerScales, index: int, weight: Tensor, form: Form
    ) -> Tensor:
        scale, skips = scales.branch[index] * weight, isinstance(block, ConvBNAct) and self.adds[index]
        mask = scales.other if skips and scales.other is not None else scales.after
        scale = scale if mask is None else scale * mask
        run = masked_branch_again if form == "saving" else masked_branch
        return run(block, x, scales.inner[index], scale)


def _planned(space: Space, place: MaskedPlace, branch: Branch) -> tuple[BlockPlan, InnerWidths | None]:
    """Return the widest of a block, and how wide it is inside: the output's channels do not change that."""
    pairs = product(place.before, place.expansions)
    inner = [space.plan(place.block(branch, *pair, place.after[-1])) for pair in pairs]
    last = (place.before[-1], place.expansions[-1])
    outer = [space.plan(place.block(branch, *last, after)) for after in place.after]
    return widest([*inner, *outer], place.name), inner_widths(inner)


def masked_branch(block: nn.Module, x: Tensor, inner: InnerMasks, scale: Tensor) -> Tensor:
    """Return a block's output, without the input that it adds back, times a scale (1,), (C,), (N, 1) or (N, C)."""
    if isinstance(block, ConvBNAct):
        return _scaled(block, block.conv(x), scale)
    assert isinstance(block, InvertedResidual)  # noqa: S101 - what stages are made of
    y = _expanded(block.expand, x, inner)  # (N, C*e, H, W)
    y = block.depthwise(block.shuffle(y))  # (N, C*e, H/s, W/s)
    if isinstance(block.se, SqueezeExcitation):
        y, middle = y * gate(block.se, y, inner), None
    else:
        middle = inner.middle
    if not isinstance(block.project, ConvBNAct):
        return y * per_channel(scale)
    return _scaled(block.project, _convolved(block.project.conv, y, middle), scale)  # (N, C', H/s, W/s)


def masked_branch_again(block: nn.Module, x: Tensor, inner: InnerMasks, scale: Tensor) -> Tensor:
    """Do the same, keeping only the inputs: the block runs again for its gradient.

    Running again leaves the statistics of batch norm alone, so they move once for each step.
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
    """`mixing.statistics_kept` for as often as a gradient is computed."""

    def __init__(self, block: nn.Module) -> None:
        self.block, self.inside = block, ExitStack()

    def __enter__(self) -> None:
        self.inside.enter_context(mixing.statistics_kept(self.block))

    def __exit__(self, *_: object) -> None:
        self.inside.close()


def masked_pool_head(head: PoolHead, x: Tensor, inner: InnerMasks, scale: Tensor) -> Tensor:
    """Return the pooled features (N, C', 1, 1) of a head, times a scale."""
    y = head.expand(x)
    if isinstance(head.se, SqueezeExcitation):
        y = head.pool(y * gate(head.se, y, inner))
    else:
        y = _masked(head.pool(y), inner.middle)
    return head.project(y) * per_channel(scale)


def gate(se: SqueezeExcitation, x: Tensor, inner: InnerMasks) -> Tensor:
    """Return the gates of squeeze-excite, (N, C, 1, 1), that are 0 where the middle is masked."""
    hidden = _masked(se.act(se.reduce(_masked(se.pool(x), inner.middle))), inner.hidden)
    return _masked(se.gate(se.expand(hidden)), inner.middle)


def fitted(x: Tensor, channels: int) -> Tensor:
    """Return images with so many channels: the first ones, or zeros behind them."""
    missing = channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x[:, :channels]


def per_channel(scale: Tensor) -> Tensor:
    """Return a scale (1,), (C,), (N, 1) or (N, C) in the shape that multiplies images."""
    return scale[..., None, None]


def _largest(weights: tuple[Tensor, ...]) -> int:
    return int(torch.cat(weights, -1).argmax())


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * per_channel(mask)


def _expanded(expand: nn.Module, x: Tensor, inner: InnerMasks) -> Tensor:
    """Return the expansion; with the weight of those networks that have none, the input itself."""
    y = expand(x)
    if inner.bare is None:
        return y
    return torch.lerp(y, fitted(x, y.shape[1]), per_channel(inner.bare))


def _convolved(conv: nn.Conv2d, x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the convolution of masked images."""
    if mask is None or mask.dim() > 1:
        return conv(_masked(x, mask))
    return F.conv2d(x, conv.weight * per_channel(mask), conv.bias, conv.stride, conv.padding, conv.dilation)


def _scaled(layer: ConvBNAct, x: Tensor, scale: Tensor) -> Tensor:
    """Return batch norm and activation of a convolution's output, times a scale."""
    bn = mixing.last_norm(layer) if scale.dim() == 1 else None
    return layer.act(layer.bn(x)) * per_channel(scale) if bn is None else mixing.scaled_norm(bn, x, scale)
