"""Channel masks: M = sum_i g_i 1_i, where the first c_i entries of 1_i are 1 and the rest 0.

With masks, the widest block represents all narrower ones, which share its weights (FBNetV2, Wan et al.,
arXiv:2004.05565, section 3.1).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import BlockPlan, ConvPlan, IdentityPlan, InvertedResidualPlan, PoolHeadPlan, SqueezeExcitationPlan

PlanT = TypeVar("PlanT")


class Ladder(nn.Module):
    """Turns weights of options into a channel mask, with one matrix product for any number of options.

    Args:
        channels: number of channels of each option.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.is_open = len(set(channels)) > 1
        steps = torch.tensor(channels)[:, None] > torch.arange(max(channels))
        self.register_buffer("steps", steps.float(), persistent=False)

    steps: Tensor

    def forward(self, weights: Tensor) -> Tensor | None:
        """Return the mask, (channels,) or (N, channels), for weights (options,) or (N, options).

        `None` if all options have the same width: the weights add up to 1.
        """
        return weights @ self.steps if self.is_open else None

    def part(self, weights: Tensor) -> Tensor:
        """Return the mask for weights that add up to less than 1: (N, channels), or (N, 1) if all widths are equal."""
        return weights @ self.steps if self.is_open else weights.sum(-1, keepdim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerWidths:
    """The inner widths of a block, for each pair of input channels and expansion.

    Attributes:
        middle: number of channels after the expansion.
        hidden: number of hidden channels of squeeze-excite; 0 without one.
        bare: whether there is no expansion, because it would not widen the input.
    """

    middle: tuple[int, ...]
    hidden: tuple[int, ...]
    bare: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerMasks:
    """The masks inside a block, each for the batch or with one row per image; `None` if nothing is masked.

    Attributes:
        middle: mask after the expansion, (channels,) or (N, channels).
        hidden: mask inside squeeze-excite, (channels,) or (N, channels).
        bare: total weight of the pairs without expansion, (1,) or (N, 1).
    """

    middle: Tensor | None
    hidden: Tensor | None
    bare: Tensor | None


class InnerLadders(nn.Module):
    """Turns weights of pairs of input channels and expansion into the masks inside a block."""

    def __init__(self, widths: InnerWidths) -> None:
        super().__init__()
        self.middle, self.hidden = Ladder(widths.middle), Ladder(widths.hidden)
        self.mixed = any(widths.bare) and not all(widths.bare)
        self.register_buffer("bare", torch.tensor(widths.bare).float()[:, None], persistent=False)

    bare: Tensor

    def forward(self, weights: Tensor) -> InnerMasks:
        return InnerMasks(
            middle=self.middle(weights),
            hidden=self.hidden(weights),
            bare=weights @ self.bare if self.mixed else None,
        )


def inner_widths(plans: Iterable[BlockPlan]) -> InnerWidths | None:
    """Return the inner widths of blocks, in order; `None` if they have none."""
    found = [plan for plan in plans if isinstance(plan, InvertedResidualPlan | PoolHeadPlan)]
    if not found:
        return None
    return InnerWidths(
        middle=tuple(_middle(plan) for plan in found),
        hidden=tuple(plan.se.hidden_channels if plan.se else 0 for plan in found),
        bare=tuple(plan.expand is None for plan in found),
    )


def widest(plans: Sequence[BlockPlan], where: str) -> BlockPlan:
    """Return a block that contains all of some blocks, which differ only in channels.

    A skip becomes a convolution if it is one for some widths; an expansion is included if some block has one; there is
    no residual, and the last batch norm starts at 0 only if all blocks have a residual.

    Args:
        plans: plans of the blocks.
        where: name of the layer, for errors.

    Raises:
        InputError: the blocks cannot share weights.
    """
    convs = [plan for plan in plans if isinstance(plan, ConvPlan)]
    heads = [plan for plan in plans if isinstance(plan, PoolHeadPlan)]
    own = [plan for plan in plans if isinstance(plan, InvertedResidualPlan)]
    if convs:
        passing = [plan.out_channels for plan in plans if isinstance(plan, IdentityPlan)]
        return _widest_conv([*convs, *_square(convs[0], passing)], where)
    if heads:
        return _widest_head(heads, where)
    return _widest_block(own, where) if own else plans[0]


def _middle(plan: InvertedResidualPlan | PoolHeadPlan) -> int:
    if isinstance(plan, InvertedResidualPlan) and plan.depthwise:
        return plan.depthwise[0].out_channels
    assert plan.expand is not None  # noqa: S101 - only blocks with a depthwise convolution may lack it
    return plan.expand.out_channels


def _square(conv: ConvPlan, channels: Iterable[int]) -> list[ConvPlan]:
    """Return a convolution for each width where it is omitted because input and output are equally wide."""
    return [replace(conv, in_channels=each, out_channels=each) for each in channels]


def _widest_conv(convs: Sequence[ConvPlan], where: str) -> ConvPlan:
    """Return a convolution that contains all; a depthwise one stays depthwise."""
    shapes = {(conv.in_channels, conv.out_channels) for conv in convs}
    ins, outs = max(before for before, _ in shapes), max(after for _, after in shapes)
    depthwise = all(conv.groups == conv.in_channels == conv.out_channels for conv in convs)
    if len(shapes) > 1 and not depthwise and any(conv.groups > 1 for conv in convs):
        raise InputError(
            f"{where} has grouped convolutions with open channels, whose weights cannot be shared between widths; "
            "use 'g' 1, or a single 'c' and 'e' there and a single 'c' in the layer before"
        )
    return replace(convs[0], in_channels=ins, out_channels=outs, groups=ins if depthwise else convs[0].groups)


def _widest_se(plans: Sequence[SqueezeExcitationPlan]) -> SqueezeExcitationPlan | None:
    if not plans:
        return None
    hidden = max(plan.hidden_channels for plan in plans)
    return replace(plans[0], channels=max(plan.channels for plan in plans), hidden_channels=hidden)


def _widest_head(heads: Sequence[PoolHeadPlan], where: str) -> PoolHeadPlan:
    return PoolHeadPlan(
        expand=_widest_conv([head.expand for head in heads], where),
        se=_widest_se(_there(head.se for head in heads)),
        project=_widest_conv([head.project for head in heads], where),
    )


def _widest_block(plans: Sequence[InvertedResidualPlan], where: str) -> InvertedResidualPlan:
    projects = _there(plan.project for plan in plans)
    if projects and len(projects) < len(plans):
        raise InputError(
            f"{where} has fused blocks with and without a projection ('e' 1 has none); remove 'e' 1, or keep only 'e' 1"
        )
    if not projects and plans[0].se and len({plan.out_channels for plan in plans}) > 1:
        raise InputError(
            f"{where} has a fused block without projection, with squeeze-excite and open channels; use a single 'c', "
            "or another 'e'"
        )
    return replace(
        plans[0],
        out_channels=max(plan.out_channels for plan in plans),
        expand=_widest_expand(plans, where),
        depthwise=tuple(_widest_conv(own, where) for own in zip(*(plan.depthwise for plan in plans), strict=True)),
        se=_widest_se(_there(plan.se for plan in plans)),
        project=_widest_conv(projects, where) if projects else None,
        residual=False,
        zero_init=all(plan.zero_init for plan in plans),
    )


def _widest_expand(plans: Sequence[InvertedResidualPlan], where: str) -> ConvPlan | None:
    """Return the expansion, as wide as the middle even if only narrower blocks have one."""
    expands = _there(plan.expand for plan in plans)
    if not expands:
        return None
    bare = [plan.depthwise[0].in_channels for plan in plans if plan.expand is None]
    return _widest_conv([*expands, *_square(expands[0], bare)], where)


def _there(parts: Iterable[PlanT | None]) -> list[PlanT]:
    return [part for part in parts if part is not None]
