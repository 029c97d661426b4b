"""A layer of the supernet of DMaskingNAS: its blocks at their largest width, and the scales that follow from masks."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo.blocks import ConvBNAct
from fbnet_zoo.plans import BlockPlan
from fbnet_zoo.search.dmasking.blocks import NOTHING_INSIDE, fitted, masked_branch, masked_branch_again, per_channel
from fbnet_zoo.search.dmasking.channel_masks import InnerLadders, InnerMasks, InnerWidths, Ladder, inner_widths, widest
from fbnet_zoo.search.gradient.config import Form
from fbnet_zoo.space import Space
from fbnet_zoo.space.slots import Branch, EncodedLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMasks:
    """The masks of a layer's decisions, each (options,) or (N, options).

    Attributes:
        before: mask of the input channels.
        branch: mask of the blocks.
        expansion: mask of the expansions.
        after: mask of the output channels.
    """

    before: Tensor
    branch: Tensor
    expansion: Tensor
    after: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScales:
    """The scales that follow from a layer's masks, the same at all image sizes.

    Attributes:
        branch: weight of each block, (1,) or (N, 1).
        inner: masks inside each block.
        after: mask of the output, (channels,) or (N, channels); `None` if its width is fixed.
        equal: part of it for outputs as wide as the input (residuals and skips); `None` if widths are never equal.
        other: the rest of it, for skips that are convolutions; `None` if widths are never equal.
    """

    branch: tuple[Tensor, ...]
    inner: tuple[InnerMasks, ...]
    after: Tensor | None
    equal: Tensor | None
    other: Tensor | None


class MaskedLayer(nn.Module):
    """A layer that chooses: each of its blocks once, at its largest width.

    A residual or skip passes the input with the mask sum_c g_c h_c 1_c over the widths c that input and output have in
    common, with their weights g and h.

    Args:
        space: the search space.
        layer: encoded layer.
        bn_eps: epsilon of the batch norms.

    Attributes:
        candidates: blocks by name.

    Raises:
        InputError: blocks of different widths cannot share weights.
    """

    def __init__(self, space: Space, layer: EncodedLayer, *, bn_eps: float) -> None:
        super().__init__()
        self.candidates, self.inner = nn.ModuleDict(), nn.ModuleList()
        self.inner_of: list[int | None] = []
        known: dict[InnerWidths, int] = {}
        for name, branch in layer.branches.items():
            plan, widths = _planned(space, layer, branch)
            self.candidates[name] = blocks.block(plan, bn_eps=bn_eps)
            self.inner_of.append(None if widths is None else known.setdefault(widths, len(known)))
        self.inner.extend(InnerLadders(widths) for widths in known)
        self.adds = tuple(branch.block.row.op != "conv" for branch in layer.branches.values())
        self.after = Ladder(layer.after)
        self.channels = max(layer.after)
        same = torch.tensor([[before == after for after in layer.after] for before in layer.before])
        self.register_buffer("same", same.float(), persistent=False)
        self.adding = layer.stride == 1 and bool(same.any())

    same: Tensor

    def scales(self, masks: LayerMasks) -> LayerScales:
        """Return the scales that follow from masks."""
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
        """Return the masks of outputs as wide as the input, and of others."""
        if not self.adding:
            return None, None
        weights = masks.after * (masks.before @ self.same)
        return self.after.part(weights), self.after.part(masks.after - weights)

    def forward(self, x: Tensor, scales: LayerScales, weight: Tensor, form: Form = "soft") -> Tensor:
        """Return the output (N, C', H/s, W/s) times a weight, (1,) or (N, 1)."""
        passed = [scale for scale, adds in zip(scales.branch, self.adds, strict=True) if adds]
        y = None
        if scales.equal is not None and passed:
            y = fitted(x, self.channels) * per_channel(torch.stack(passed).sum(0) * scales.equal * weight)
        for index, block in enumerate(self.candidates.values()):
            if not isinstance(block, nn.Identity):
                branch = self._branch(block, x, scales, index, weight, form)
                y = branch if y is None else y.add_(branch)
        assert y is not None  # noqa: S101 - every layer has a candidate
        return y

    def _branch(
        self, block: nn.Module, x: Tensor, scales: LayerScales, index: int, weight: Tensor, form: Form
    ) -> Tensor:
        scale, skips = scales.branch[index] * weight, isinstance(block, ConvBNAct) and self.adds[index]
        mask = scales.other if skips and scales.other is not None else scales.after
        scale = scale if mask is None else scale * mask
        run = masked_branch_again if form == "saving" else masked_branch
        return run(block, x, scales.inner[index], scale)


def _planned(space: Space, layer: EncodedLayer, branch: Branch) -> tuple[BlockPlan, InnerWidths | None]:
    """Return the widest plan of a block, and its inner widths, which do not depend on the output channels."""
    pairs = product(layer.before, layer.expansions)
    inner = [space.plan(branch.having(*pair, layer.after[-1])) for pair in pairs]
    last = (layer.before[-1], layer.expansions[-1])
    outer = [space.plan(branch.having(*last, after)) for after in layer.after]
    return widest([*inner, *outer], layer.name), inner_widths(inner)
