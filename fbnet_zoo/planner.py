"""From the rows of a definition to concrete layers: the only place where rows are resolved.

`resolve` fills in what a row leaves out. `plan` decides rounding, squeeze-excite widths, paddings and dilations: its
result is what `fbnet_zoo.blocks` builds modules from and `fbnet_zoo.layers` lists layer by layer.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import Any, Literal

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError, located, require_whole
from fbnet_zoo.plans import (
    BlockPlan,
    ConvPlan,
    IdentityPlan,
    InvertedResidualPlan,
    NetworkPlan,
    PoolHeadPlan,
    SqueezeExcitationPlan,
    StagePlan,
    same_padding,
)
from fbnet_zoo.spec import FIELDS_OF_OP, Activation, ArchSpec, BlockSpec, Gate, Op, op_of

MAX_CHANNELS, MAX_CLASSES = 65536, 1 << 20

_SE_FIELDS = {"se_of", "se_act", "se_gate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedBlock:
    """One block with every option decided; options that do not apply to its op have the defaults below.

    Attributes:
        expansion: widening inside the block; 0 for ops without expansion.
        se_ratio: squeeze-excite width as a share of `se_of`; 0 for none.
        depthwise_groups: groups of the depthwise convolution; 0 for one per channel.
    """

    op: Op
    act: Activation = "relu"
    bias: bool = False
    divisor: int = 1
    se_of: Literal["input", "expanded"] = "expanded"
    se_act: Activation = "relu"
    se_gate: Gate = "hard_sigmoid"
    keep_expand: bool = False
    linear_depthwise: bool = False
    out_channels: int
    kernel_size: int = 1
    expansion: float = 0
    stride: int = 1
    groups: int = 1
    se_ratio: float = 0
    padding: int = 0
    depthwise_repeats: int = 1
    depthwise_groups: int = 0


_NO_SE: dict[str, Any] = {field.name: field.default for field in fields(ResolvedBlock) if field.name in _SE_FIELDS}


def resolve(spec: ArchSpec, row: BlockSpec) -> ResolvedBlock:
    """Return the first block of a row, with what the row leaves out taken from the defaults of its definition.

    >>> from fbnet_zoo import get_spec
    >>> spec = get_spec("fbnet_b")
    >>> resolve(spec, spec.head).act
    'relu'
    """
    op = op_of(row, spec.defaults)
    unused = {"repeats"} if row.se_ratio else {"repeats", *_SE_FIELDS}
    given = spec.defaults.model_dump(exclude_none=True) | row.model_dump(exclude_none=True)
    known = {field: given[field] for field in FIELDS_OF_OP[op] - unused if field in given}
    if "padding" in FIELDS_OF_OP[op]:
        known.setdefault("padding", same_padding(known.get("kernel_size", 1)))
    if row.se_ratio and "act" in known:
        known.setdefault("se_act", known["act"])
    return ResolvedBlock(op=op, out_channels=row.out_channels, **known)


def changed(block: ResolvedBlock, **values: Any) -> ResolvedBlock:
    """Return a block with other values; without squeeze-excite, it has no options of it, as from `resolve`."""
    found = replace(block, **values)
    return found if found.se_ratio else replace(found, **_NO_SE)


def resolve_all(spec: ArchSpec, row: BlockSpec) -> Iterator[ResolvedBlock]:
    """Yield the blocks of a row; only the first has the stride."""
    first = resolve(spec, row)
    yield first
    yield from repeat(replace(first, stride=1), row.repeats - 1)


def round_channels(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, upwards where rounding would lose over 5 %.

    The rule of mobile-vision's and timm's FBNet code: multiples stay as they are; the result is at least `divisor`.

    >>> round_channels(24 * 4.7912, 8), round_channels(12, 8), round_channels(43.6528, 1)
    (112, 16, 44)
    """
    if channels >= divisor and channels % divisor == 0:
        return int(channels)
    rounded = max(1, math.floor(channels / divisor + 0.5)) * divisor
    return rounded if rounded >= 0.95 * channels else rounded + divisor


def plan(
    spec: ArchSpec, *, in_channels: int = 3, num_classes: int = 1000, output_stride: int | None = None
) -> NetworkPlan:
    """Resolve a definition.

    Args:
        spec: the definition.
        in_channels: channels of the image.
        num_classes: outputs of the classifier.
        output_stride: largest output stride; strides beyond it become dilations (default: no limit).

    Raises:
        InputError: a row cannot be built (`location` gives its place), a number of channels or classes is invalid, or
            the network exceeds a limit of `fbnet_zoo.limits`.
    """
    require_whole("in_channels", in_channels, low=1, high=MAX_CHANNELS)
    require_whole("num_classes", num_classes, low=0, high=MAX_CLASSES)
    with located("stem"):
        stem = _conv(resolve(spec, spec.stem), in_channels, _Strides())
    stages, channels, strides = [], stem.out_channels, _Strides(spec.stem.stride, limit=output_stride)
    count, params = 0, stem.params
    for position, stage in enumerate(spec.stages):
        blocks = []
        for index, row in enumerate(stage.blocks):
            with located("stages", position, "blocks", index):
                count += row.repeats
                limits.check("blocks", count, "up to this row, the network has")
                for block in resolve_all(spec, row):
                    blocks.append(_block(block, channels, strides, zero_init=spec.zero_init_residual))
                    channels, strides = block.out_channels, strides.after(block.stride)
                    params += blocks[-1].params
                limits.check("params", params, "up to this row, the network has")
        stages.append(StagePlan(name=str(stage.output_stride), output_stride=strides.output, blocks=tuple(blocks)))
    with located("head"):
        head = _head(resolve(spec, spec.head), channels, strides)
    params += head.params + (head.out_channels + 1) * num_classes
    limits.check("params", params, f"with its head and {num_classes} classes, the network has")
    return NetworkPlan(stem=stem, stages=tuple(stages), head=head, classifier=spec.classifier, num_classes=num_classes)


def plan_block(spec: ArchSpec, row: BlockSpec | ResolvedBlock, in_channels: int) -> BlockPlan:
    """Resolve one block of a stage, or a head, on its own; what its row leaves out is taken from `spec`.

    Raises:
        InputError: the block cannot be built on this number of channels.
    """
    block = row if isinstance(row, ResolvedBlock) else resolve(spec, row)
    return _block(block, in_channels, _Strides(), zero_init=spec.zero_init_residual)


@dataclass(frozen=True, slots=True)
class _Strides:
    """The output stride in front of a block, and the dilation that replaces strides beyond the limit."""

    output: int = 1
    dilation: int = 1
    limit: int | None = None

    def drops(self, stride: int) -> bool:
        """Whether a stride is dropped because it would exceed the limit."""
        return self.limit is not None and stride > 1 and self.output * stride > self.limit

    def after(self, stride: int) -> "_Strides":
        if self.drops(stride):
            return replace(self, dilation=self.dilation * stride)
        return replace(self, output=self.output * stride)


def _block(block: ResolvedBlock, channels: int, strides: _Strides, *, zero_init: bool) -> BlockPlan:
    match block.op:
        case "skip" if block.stride == 1 and block.out_channels == channels:
            return IdentityPlan(out_channels=channels)
        case "skip" | "conv":
            return _conv(block, channels, strides)
        case "ir_pool":
            return _pool_head(block, channels)
        case _:
            return _inverted_residual(block, channels, strides, zero_init=zero_init)


def _head(block: ResolvedBlock, channels: int, strides: _Strides) -> ConvPlan | PoolHeadPlan:
    return _pool_head(block, channels) if block.op == "ir_pool" else _conv(block, channels, strides)


def _conv(block: ResolvedBlock, channels: int, strides: _Strides) -> ConvPlan:
    plain = ConvPlan(
        in_channels=channels,
        out_channels=block.out_channels,
        groups=block.groups,
        bias=block.bias,
        act=block.act,
    )
    return _spread(plain, block, strides)


def _inverted_residual(
    block: ResolvedBlock, channels: int, strides: _Strides, *, zero_init: bool
) -> InvertedResidualPlan:
    fused = block.op == "fused_ir"
    direct = fused and block.expansion == 1
    middle = block.out_channels if direct else _middle_channels(block, channels)
    pointwise = ConvPlan(in_channels=channels, out_channels=middle, groups=block.groups, bias=block.bias, act=block.act)
    residual = _is_residual(block, channels)
    project = ConvPlan(in_channels=middle, out_channels=block.out_channels, groups=block.groups, bias=block.bias)
    kept = pointwise if middle != channels or block.keep_expand else None
    return InvertedResidualPlan(
        out_channels=block.out_channels,
        expand=_spread(pointwise, block, strides) if fused else kept,
        shuffle=1 if fused else block.groups,
        depthwise=() if fused else _depthwise(block, middle, strides),
        se=_squeeze_excitation(block, middle),
        project=None if direct else project,
        residual=residual,
        zero_init=residual and zero_init,
    )


def _is_residual(block: ResolvedBlock, channels: int) -> bool:
    """Return whether the input is added; a stride that becomes a dilation still counts as a stride."""
    residual = block.stride == 1 and block.out_channels == channels
    if residual and block.kernel_size != 1 + 2 * block.padding:
        raise InputError(
            f"kernel_size {block.kernel_size} with padding {block.padding} changes the size of the image, but the "
            "input is added to the output; use an odd kernel_size without 'padding', other channels or a stride"
        )
    return residual


def _spread(conv: ConvPlan, block: ResolvedBlock, strides: _Strides) -> ConvPlan:
    """Return a convolution with the block's kernel, stride and padding; where the stride is dropped, the size stays."""
    dropped = strides.drops(block.stride)
    return replace(
        conv,
        kernel_size=block.kernel_size,
        stride=1 if dropped else block.stride,
        padding=strides.dilation * (same_padding(block.kernel_size) if dropped else block.padding),
        dilation=strides.dilation if block.kernel_size > 1 else 1,
    )


def _depthwise(block: ResolvedBlock, middle: int, strides: _Strides) -> tuple[ConvPlan, ...]:
    """Plan the depthwise convolutions; those after the first keep the size."""
    plain = ConvPlan(
        in_channels=middle,
        out_channels=middle,
        groups=block.depthwise_groups or middle,
        bias=block.bias and not block.linear_depthwise,
        norm=not block.linear_depthwise,
        act=None if block.linear_depthwise else block.act,
    )
    same = replace(block, stride=1, padding=same_padding(block.kernel_size))
    rest = [_spread(plain, same, strides.after(block.stride)) for _ in range(block.depthwise_repeats - 1)]
    return (_spread(plain, block, strides), *rest)


def _middle_channels(block: ResolvedBlock, channels: int) -> int:
    return round_channels(channels * block.expansion, block.divisor)


def _squeeze_excitation(block: ResolvedBlock, middle: int) -> SqueezeExcitationPlan | None:
    """Plan squeeze-excite; a share of the block's input is that share of the middle, over the expansion."""
    if block.se_ratio == 0:
        return None
    ratio = block.se_ratio / block.expansion if block.se_of == "input" else block.se_ratio
    return SqueezeExcitationPlan(
        channels=middle,
        hidden_channels=round_channels(math.floor(middle * ratio), block.divisor),
        act=block.se_act,
        gate=block.se_gate,
    )


def _pool_head(block: ResolvedBlock, channels: int) -> PoolHeadPlan:
    middle = _middle_channels(block, channels)
    return PoolHeadPlan(
        expand=ConvPlan(in_channels=channels, out_channels=middle, bias=block.bias, act=block.act),
        se=_squeeze_excitation(block, middle),
        project=ConvPlan(
            in_channels=middle, out_channels=block.out_channels, bias=block.bias, norm=False, act=block.act
        ),
    )
