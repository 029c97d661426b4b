"""Masks of channels: M = sum_i g_i 1_i, where the first c_i entries of 1_i are 1 and the rest 0.

With them one block of the widest size stands for all narrower ones, which share its weights (FBNetV2, Wan et al.,
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
    """Turns weights of options into a mask of channels, with one product whatever their number.

    Args:
        channels: of each option.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.is_open = len(set(channels)) > 1
        steps = torch.tensor(channels)[:, None] > torch.arange(max(channels))
        self.register_buffer("steps", steps.float(), persistent=False)

    steps: Tensor

    def forward(self, weights: Tensor) -> Tensor | None:
        """Return the mask, (channels,) or (N, channels), of weights (options,) or (N, options).

        `None` where all options are equally wide: the weights add up to 1.
        """
        return weights @ self.steps if self.is_open else None

    def part(self, weights: Tensor) -> Tensor:
        """Return the mask of weights that add up to less, (channels,) or (N, channels); (1,) or (N, 1) likewise."""
        return weights @ self.steps if self.is_open else weights.sum(-1, keepdim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerWidths:
    """How wide a block is inside, for each pair of input channels and expansion.

    Attributes:
        middle: channels of the middle.
        hidden: of squeeze-excite; 0 where there is none.
        bare: whether the middle is the input itself, because an expansion would not widen.
    """

    middle: tuple[int, ...]
    hidden: tuple[int, ...]
    bare: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerMasks:
    """The masks inside a block, each for the batch or with one row for each image; `None` where nothing is masked.

    Attributes:
        middle: (channels,) or (N, channels).
        hidden: of squeeze-excite, likewise.
        bare: weight of the pairs whose middle is the input itself, (1,) or (N, 1).
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
    """Return the widths inside blocks, in their order; `None` of blocks that have nothing inside."""
    found = [plan for plan in plans if isinstance(plan, InvertedResidualPlan | PoolHeadPlan)]
    if not found:
        return None
    return InnerWidths(
        middle=tuple(_middle(plan) for plan in found),
        hidden=tuple(plan.se.hidden_channels if plan.se else 0 for plan in found),
        bare=tuple(plan.expand is None for plan in found),
    )


def widest(plans: Sequence[BlockPlan], where: str) -> BlockPlan:
    """Return one block that holds all of some blocks, which differ in channels only.

    A skip that returns its input somewhere is a convolution if it is one elsewhere; an expansion that some blocks lack
    is there; no input is added, and the last batch norm starts at 0 only where all add it.

    Args:
        plans: of the blocks.
        where: names the layer in errors.

    Raises:
        InputError: such blocks cannot share weights.
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
    assert plan.expand is not None  # noqa: S101 - only a depthwise convolution does without
    return plan.expand.out_channels


def _square(conv: ConvPlan, channels: Iterable[int]) -> list[ConvPlan]:
    """Return what a convolution would be where it is left out, because input and output are equally wide."""
    return [replace(conv, in_channels=each, out_channels=each) for each in channels]


def _widest_conv(convs: Sequence[ConvPlan], where: str) -> ConvPlan:
    """Return a convolution that holds all; a depthwise one stays depthwise."""
    shapes = {(conv.in_channels, conv.out_channels) for conv in convs}
    ins, outs = max(before for before, _ in shapes), max(after for _, after in shapes)
    depthwise = all(conv.groups == conv.in_channels == conv.out_channels for conv in convs)
    if len(shapes) > 1 and not depthwise and any(conv.groups > 1 for conv in convs):
        raise InputError(
            f"{where} has convolutions of several groups whose channels are open: narrower ones would have other "
            "weights; say 'g' 1, or one value for 'c' and 'e' there and for 'c' before"
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
            f"{where} has fused blocks of which some have no projection, those with 'e' 1; leave 'e' 1 out or alone"
        )
    if not projects and plans[0].se and len({plan.out_channels for plan in plans}) > 1:
        raise InputError(
            f"{where} has a fused block without projection, with squeeze-excite and open channels; say one 'c', or "
            "another 'e'"
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
    """Return the expansion; it is as wide as the middle also where only narrower blocks have one."""
    expands = _there(plan.expand for plan in plans)
    if not expands:
        return None
    bare = [plan.depthwise[0].in_channels for plan in plans if plan.expand is None]
    return _widest_conv([*expands, *_square(expands[0], bare)], where)


def _there(parts: Iterable[PlanT | None]) -> list[PlanT]:
    return [part for part in parts if part is not None]
