"""From the rows of a definition to concrete layers: the one place where they are resolved.

Rounding, squeeze-excite width, paddings, dilations and shapes are decided here. `plan` gives the
structure that `fbnet_zoo.blocks` builds modules from; `walk` gives the flat list of layers with their
shapes that `fbnet_zoo.complexity` counts. Layer names are the module names of the built network.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import ArchSpec, BlockSpec

LayerType = Literal["conv", "bn", "act", "shuffle", "gap", "mul", "add", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvPlan:
    """A convolution, then batch norm and activation where they are there."""

    in_channels: int
    out_channels: int
    kernel_size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = True
    act: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeExcitationPlan:
    """Squeeze-excite: pool, 1x1 to `hidden_channels`, `act`, 1x1 back, `gate`, multiply."""

    channels: int
    hidden_channels: int
    act: str
    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedResidualPlan:
    """Expand, shuffle, depthwise, squeeze-excite, project; `x +` where `residual`.

    A fused block has no depthwise, and no projection where it does not widen (Tan and Le, arXiv:2104.00298).
    """

    expand: ConvPlan | None
    shuffle: int
    depthwise: tuple[ConvPlan, ...]
    se: SqueezeExcitationPlan | None
    project: ConvPlan | None
    residual: bool
    zero_init: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHeadPlan:
    """Expand, squeeze-excite, global average pool, project (MobileNetV3's efficient last stage)."""

    expand: ConvPlan
    se: SqueezeExcitationPlan | None
    project: ConvPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPlan:
    """A skipped block."""

    channels: int


BlockPlan = ConvPlan | InvertedResidualPlan | PoolHeadPlan | IdentityPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The blocks of one stage.

    Attributes:
        name: the definition's output stride, as text; names the module.
        output_stride: of the built network, smaller than the name where strides became dilations.
    """

    name: str
    output_stride: int
    blocks: tuple[BlockPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """A whole network with every number decided."""

    stem: ConvPlan
    stages: tuple[StagePlan, ...]
    head: ConvPlan | PoolHeadPlan
    classifier: Literal["linear", "conv"]
    num_classes: int

    @property
    def features(self) -> int:
        """Channels that enter the classifier."""
        return out_channels(self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer as it runs: `(N, in_channels, size_in, size_in)` to `(N, out_channels, size_out, size_out)`.

    `function` names an activation; `groups` is also that of a shuffle; sizes are in pixels.
    """

    name: str
    type: LayerType
    in_channels: int
    out_channels: int
    size_in: int
    size_out: int
    kernel_size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    function: str | None = None


def round_channels(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, upwards where rounding would lose over 5 %.

    The rule of mobile-vision's and timm's FBNet code; whole multiples stay as they are.

    >>> round_channels(24 * 4.7912, 8), round_channels(12, 8), round_channels(43.6528, 1)
    (112, 16, 44)
    """
    if channels % divisor == 0:
        return int(channels)
    rounded = max(1, math.floor(channels / divisor + 0.5)) * divisor
    return rounded if rounded >= 0.95 * channels else rounded + divisor


def out_channels(plan: BlockPlan) -> int:
    """Return the channels of a block's output."""
    match plan:
        case ConvPlan():
            return plan.out_channels
        case IdentityPlan():
            return plan.channels
        case InvertedResidualPlan(project=None):
            return plan.expand.out_channels if plan.expand else 0
        case _:
            return plan.project.out_channels


def plan(
    spec: ArchSpec, *, in_channels: int = 3, num_classes: int = 1000, output_stride: int | None = None
) -> NetworkPlan:
    """Resolve a definition.

    Args:
        spec: the definition.
        in_channels: channels of the image.
        num_classes: outputs of the classifier.
        output_stride: strides beyond it become dilations; `None` leaves all strides.
    """
    stem = _conv(spec, spec.stem, in_channels, _Spacing())
    stages, channels, spacing = [], stem.out_channels, _Spacing(stride=spec.stem.stride)
    for stage in spec.stages:
        blocks = []
        for row in stage.blocks:
            for single in _repeat(row):
                block, spacing = _block(spec, single, channels, spacing, output_stride)
                channels = out_channels(block)
                blocks.append(block)
        stages.append(
            StagePlan(name=str(stage.output_stride), output_stride=spacing.stride, blocks=tuple(blocks)),
        )
    return NetworkPlan(
        stem=stem,
        stages=tuple(stages),
        head=_head(spec, channels),
        classifier=spec.classifier,
        num_classes=num_classes,
    )


@dataclass(frozen=True, slots=True)
class _Spacing:
    """The output stride reached so far, and the dilation that stands for strides left out."""

    stride: int = 1
    dilation: int = 1


def _repeat(row: BlockSpec) -> Iterator[BlockSpec]:
    yield row
    if row.repeats > 1:
        rest = row.model_copy(update={"stride": 1})
        yield from (rest for _ in range(row.repeats - 1))


def _block(
    spec: ArchSpec, row: BlockSpec, channels: int, spacing: _Spacing, limit: int | None
) -> tuple[BlockPlan, _Spacing]:
    """Plan one block; a stride beyond the limit dilates the blocks after it, as in timm."""
    after = _Spacing(spacing.stride * row.stride, spacing.dilation)
    if limit is not None and after.stride > limit:
        after = _Spacing(spacing.stride, spacing.dilation * row.stride)
        row = row.model_copy(update={"stride": 1, "padding": None})
    here = _Spacing(after.stride, spacing.dilation)
    match spec.row_option(row, "op"):
        case "skip":
            return _skip(row, channels), after
        case "conv":
            return _conv(spec, row, channels, here), after
        case _:
            return _inverted_residual(spec, row, channels, here), after


def _head(spec: ArchSpec, channels: int) -> ConvPlan | PoolHeadPlan:
    if spec.row_option(spec.head, "op") == "ir_pool":
        return _pool_head(spec, spec.head, channels)
    return _conv(spec, spec.head, channels, _Spacing())


def _padding(row: BlockSpec, kernel_size: int, dilation: int) -> int:
    return dilation * (kernel_size // 2) if row.padding is None else row.padding


def _conv(spec: ArchSpec, row: BlockSpec, channels: int, spacing: _Spacing) -> ConvPlan:
    plain = ConvPlan(
        in_channels=channels,
        out_channels=row.out_channels,
        groups=row.groups,
        bias=spec.row_option(row, "bias"),
        act=spec.row_option(row, "act"),
    )
    return _spread(plain, row, spacing)


def _skip(row: BlockSpec, channels: int) -> BlockPlan:
    if row.stride == 1 and row.out_channels == channels:
        return IdentityPlan(channels=channels)
    return ConvPlan(in_channels=channels, out_channels=row.out_channels, stride=row.stride, act="relu")


def _inverted_residual(spec: ArchSpec, row: BlockSpec, channels: int, spacing: _Spacing) -> InvertedResidualPlan:
    fused = spec.row_option(row, "op") == "fused_ir"
    direct = fused and row.expansion == 1
    middle = row.out_channels if direct else _middle_channels(spec, row, channels)
    bias, act = spec.row_option(row, "bias"), spec.row_option(row, "act")
    pointwise = ConvPlan(in_channels=channels, out_channels=middle, groups=row.groups, bias=bias, act=act)
    keep = middle != channels or spec.row_option(row, "keep_expand")
    residual = row.stride == 1 and channels == row.out_channels
    project = ConvPlan(in_channels=middle, out_channels=row.out_channels, groups=row.groups, bias=bias)
    return InvertedResidualPlan(
        expand=_spread(pointwise, row, spacing) if fused else (pointwise if keep else None),
        shuffle=1 if fused else row.groups,
        depthwise=() if fused else _depthwise(spec, row, middle, spacing),
        se=_squeeze_excitation(spec, row, middle),
        project=None if direct else project,
        residual=residual,
        zero_init=residual and spec.zero_init_residual,
    )


def _spread(conv: ConvPlan, row: BlockSpec, spacing: _Spacing) -> ConvPlan:
    """Give a convolution the row's kernel, stride and padding."""
    kernel_size = row.kernel_size or 1
    return replace(
        conv,
        kernel_size=kernel_size,
        stride=row.stride,
        padding=_padding(row, kernel_size, spacing.dilation),
        dilation=spacing.dilation if kernel_size > 1 else 1,
    )


def _depthwise(spec: ArchSpec, row: BlockSpec, middle: int, spacing: _Spacing) -> tuple[ConvPlan, ...]:
    """Plan the depthwise convolutions; those after the first keep the size."""
    linear = spec.row_option(row, "linear_depthwise")
    plain = ConvPlan(
        in_channels=middle,
        out_channels=middle,
        groups=row.depthwise_groups or middle,
        bias=spec.row_option(row, "bias") and not linear,
        norm=not linear,
        act=None if linear else spec.row_option(row, "act"),
    )
    same = row.model_copy(update={"stride": 1, "padding": None})
    return tuple(_spread(plain, row if index == 0 else same, spacing) for index in range(row.depthwise_repeats))


def _middle_channels(spec: ArchSpec, row: BlockSpec, channels: int) -> int:
    expansion = 1 if row.expansion is None else row.expansion
    return round_channels(channels * expansion, spec.row_option(row, "divisor"))


def _squeeze_excitation(spec: ArchSpec, row: BlockSpec, middle: int) -> SqueezeExcitationPlan | None:
    """Plan squeeze-excite; a ratio of the block's input is that of the middle over the expansion."""
    if row.se_ratio == 0:
        return None
    of_input = spec.row_option(row, "se_of") == "input"
    ratio = row.se_ratio / (row.expansion or 1) if of_input else row.se_ratio
    return SqueezeExcitationPlan(
        channels=middle,
        hidden_channels=round_channels(math.floor(middle * ratio), spec.row_option(row, "divisor")),
        act=spec.row_option(row, "se_act") or spec.row_option(row, "act"),
        gate=spec.row_option(row, "se_gate"),
    )


def _pool_head(spec: ArchSpec, row: BlockSpec, channels: int) -> PoolHeadPlan:
    middle = _middle_channels(spec, row, channels)
    bias, act = spec.row_option(row, "bias"), spec.row_option(row, "act")
    return PoolHeadPlan(
        expand=ConvPlan(in_channels=channels, out_channels=middle, bias=bias, act=act),
        se=_squeeze_excitation(spec, row, middle),
        project=ConvPlan(in_channels=middle, out_channels=row.out_channels, bias=bias, norm=False, act=act),
    )


def walk(network: NetworkPlan, input_size: int) -> Iterator[Layer]:
    """Yield the layers in the order they run, for square images of `input_size` px.

    Raises:
        InputError: the image is too small for the network.
    """
    size = input_size
    for layer in _conv_layers("stem", network.stem, size):
        size = layer.size_out
        yield layer
    for stage in network.stages:
        for index, block in enumerate(stage.blocks):
            for layer in _block_layers(f"stages.{stage.name}.{index}", block, size):
                _check_size(layer, input_size)
                size = layer.size_out
                yield layer
    yield from _head_layers(network, size)


def _check_size(layer: Layer, input_size: int) -> None:
    if layer.size_out < 1:
        raise InputError(f"an image of {input_size} px is too small: {layer.name} would have no output; use a larger one")


def _block_layers(name: str, block: BlockPlan, size: int) -> Iterator[Layer]:
    match block:
        case ConvPlan():
            return _conv_layers(name, block, size)
        case InvertedResidualPlan():
            return _inverted_residual_layers(name, block, size)
        case PoolHeadPlan():
            return _pool_head_layers(name, block, size)
        case _:
            return iter(())


def _conv_layers(name: str, conv: ConvPlan, size: int) -> Iterator[Layer]:
    reach = conv.dilation * (conv.kernel_size - 1) + 1
    after = (size + 2 * conv.padding - reach) // conv.stride + 1
    yield Layer(
        name=f"{name}.conv",
        type="conv",
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        size_in=size,
        size_out=after,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias,
    )
    if conv.norm:
        yield _same(f"{name}.bn", "bn", conv.out_channels, after)
    if conv.act:
        yield _same(f"{name}.act", "act", conv.out_channels, after, function=conv.act)


def _inverted_residual_layers(name: str, block: InvertedResidualPlan, size: int) -> Iterator[Layer]:
    last = None
    for last in _branch_layers(name, block, size):
        yield last
    if block.residual and last is not None:
        yield _same(f"{name}.add", "add", last.out_channels, last.size_out)


def _branch_layers(name: str, block: InvertedResidualPlan, size: int) -> Iterator[Layer]:
    if block.expand is not None:
        for layer in _conv_layers(f"{name}.expand", block.expand, size):
            size = layer.size_out
            yield layer
    if block.shuffle > 1:
        channels = block.depthwise[0].in_channels
        yield _same(f"{name}.shuffle", "shuffle", channels, size, groups=block.shuffle)
    for index, depthwise in enumerate(block.depthwise):
        for layer in _conv_layers(f"{name}.depthwise.{index}", depthwise, size):
            size = layer.size_out
            yield layer
    if block.se is not None:
        yield from _squeeze_excitation_layers(f"{name}.se", block.se, size)
    if block.project is not None:
        yield from _conv_layers(f"{name}.project", block.project, size)


def _squeeze_excitation_layers(name: str, se: SqueezeExcitationPlan, size: int) -> Iterator[Layer]:
    yield _pool(f"{name}.pool", se.channels, size)
    squeeze = ConvPlan(in_channels=se.channels, out_channels=se.hidden_channels, bias=True, norm=False, act=se.act)
    for layer in _conv_layers(name, squeeze, 1):
        yield replace(layer, name=f"{name}.reduce" if layer.type == "conv" else layer.name)
    excite = ConvPlan(in_channels=se.hidden_channels, out_channels=se.channels, bias=True, norm=False, act=se.gate)
    for layer in _conv_layers(name, excite, 1):
        yield replace(layer, name=f"{name}.expand" if layer.type == "conv" else f"{name}.gate")
    yield _same(f"{name}.mul", "mul", se.channels, size)


def _pool_head_layers(name: str, head: PoolHeadPlan, size: int) -> Iterator[Layer]:
    yield from _conv_layers(f"{name}.expand", head.expand, size)
    if head.se is not None:
        yield from _squeeze_excitation_layers(f"{name}.se", head.se, size)
    yield _pool(f"{name}.pool", head.expand.out_channels, size)
    yield from _conv_layers(f"{name}.project", head.project, 1)


def _head_layers(network: NetworkPlan, size: int) -> Iterator[Layer]:
    yield from _block_layers("head", network.head, size)
    pooled = isinstance(network.head, PoolHeadPlan)
    yield _pool("pool", network.features, 1 if pooled else size)
    yield Layer(
        name="classifier",
        type=network.classifier,
        in_channels=network.features,
        out_channels=network.num_classes,
        size_in=1,
        size_out=1,
        bias=True,
    )


def _pool(name: str, channels: int, size: int) -> Layer:
    return Layer(name=name, type="gap", in_channels=channels, out_channels=channels, size_in=size, size_out=1)


def _same(
    name: str, kind: LayerType, channels: int, size: int, *, function: str | None = None, groups: int = 1
) -> Layer:
    return Layer(
        name=name,
        type=kind,
        in_channels=channels,
        out_channels=channels,
        size_in=size,
        size_out=size,
        function=function,
        groups=groups,
    )
