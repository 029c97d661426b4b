"""From the rows of a definition to concrete layers: the one place where they are resolved.

Rounding, squeeze-excite width, paddings and dilations are decided here. `plan` gives the structure
that `fbnet_zoo.blocks` builds modules from and `fbnet_zoo.layers` lists layer by layer.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fbnet_zoo.errors import InputError, require_whole
from fbnet_zoo.plans import (
    BlockPlan,
    ConvPlan,
    IdentityPlan,
    InvertedResidualPlan,
    NetworkPlan,
    PoolHeadPlan,
    SqueezeExcitationPlan,
    StagePlan,
)
from fbnet_zoo.spec import ArchSpec, BlockSpec

MAX_CHANNELS, MAX_CLASSES = 65536, 1 << 20


def round_channels(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, upwards where rounding would lose over 5 %.

    The rule of mobile-vision's and timm's FBNet code; whole multiples stay as they are, and never below `divisor`.

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
        output_stride: strides beyond it become dilations; `None` leaves all strides.

    Raises:
        InputError: a row cannot be built, and `location` leads to it; or a number of channels or classes is none.
    """
    require_whole("in_channels", in_channels, low=1, high=MAX_CHANNELS)
    require_whole("num_classes", num_classes, low=0, high=MAX_CLASSES)
    with _at("stem"):
        stem = _conv(spec, spec.stem, in_channels, _Place())
    stages, channels, place = [], stem.out_channels, _Place(spec.stem.stride, limit=output_stride)
    for position, stage in enumerate(spec.stages):
        blocks = []
        for index, row in enumerate(stage.blocks):
            with _at("stages", position, "blocks", index):
                for single in repeated(row):
                    blocks.append(_block(spec, single, channels, place))
                    channels, place = row.out_channels, place.after(single.stride)
        stages.append(StagePlan(name=str(stage.output_stride), output_stride=place.stride, blocks=tuple(blocks)))
    with _at("head"):
        head = _head(spec, channels, place)
    return NetworkPlan(stem=stem, stages=tuple(stages), head=head, classifier=spec.classifier, num_classes=num_classes)


def plan_block(spec: ArchSpec, row: BlockSpec, in_channels: int) -> BlockPlan:
    """Resolve one block of the stages or one head alone; what its row leaves out is as in `spec`.

    Raises:
        InputError: the row cannot be built on so many channels.
    """
    if spec.row_option(row, "op") == "ir_pool":
        return _pool_head(spec, row, in_channels)
    return _block(spec, row, in_channels, _Place())


@contextmanager
def _at(*location: str | int) -> Iterator[None]:
    """Tell where in the definition an error of this row stands."""
    try:
        yield
    except InputError as error:
        error.location = location
        raise


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block stands: the output stride of its input, and the dilation that stands for strides left out."""

    stride: int = 1
    dilation: int = 1
    limit: int | None = None

    def drops(self, stride: int) -> bool:
        """Whether a stride is left out, because it would lead beyond the limit."""
        return self.limit is not None and stride > 1 and self.stride * stride > self.limit

    def after(self, stride: int) -> "_Place":
        """Return the place behind a stride."""
        if self.drops(stride):
            return replace(self, dilation=self.dilation * stride)
        return replace(self, stride=self.stride * stride)


def repeated(row: BlockSpec) -> Iterator[BlockSpec]:
    """Yield a row once for each of its blocks; only the first has the stride."""
    yield row
    if row.repeats > 1:
        rest = row.model_copy(update={"stride": 1})
        yield from (rest for _ in range(row.repeats - 1))


def _block(spec: ArchSpec, row: BlockSpec, channels: int, place: _Place) -> BlockPlan:
    match spec.row_option(row, "op"):
        case "skip":
            return _skip(row, channels, place)
        case "conv":
            return _conv(spec, row, channels, place)
        case _:
            return _inverted_residual(spec, row, channels, place)


def _head(spec: ArchSpec, channels: int, place: _Place) -> ConvPlan | PoolHeadPlan:
    if spec.row_option(spec.head, "op") == "ir_pool":
        return _pool_head(spec, spec.head, channels)
    return _conv(spec, spec.head, channels, place)


def _conv(spec: ArchSpec, row: BlockSpec, channels: int, place: _Place) -> ConvPlan:
    plain = ConvPlan(
        in_channels=channels,
        out_channels=row.out_channels,
        groups=row.groups,
        bias=spec.row_option(row, "bias"),
        act=spec.row_option(row, "act"),
    )
    return _spread(plain, row, place)


def _skip(row: BlockSpec, channels: int, place: _Place) -> BlockPlan:
    if row.stride == 1 and row.out_channels == channels:
        return IdentityPlan(out_channels=channels)
    return _spread(ConvPlan(in_channels=channels, out_channels=row.out_channels, act="relu"), row, place)


def _inverted_residual(spec: ArchSpec, row: BlockSpec, channels: int, place: _Place) -> InvertedResidualPlan:
    fused = spec.row_option(row, "op") == "fused_ir"
    direct = fused and row.expansion == 1
    middle = row.out_channels if direct else _middle_channels(spec, row, channels)
    bias, act = spec.row_option(row, "bias"), spec.row_option(row, "act")
    pointwise = ConvPlan(in_channels=channels, out_channels=middle, groups=row.groups, bias=bias, act=act)
    keep = middle != channels or spec.row_option(row, "keep_expand")
    residual = _is_residual(row, channels)
    project = ConvPlan(in_channels=middle, out_channels=row.out_channels, groups=row.groups, bias=bias)
    return InvertedResidualPlan(
        out_channels=row.out_channels,
        expand=_spread(pointwise, row, place) if fused else (pointwise if keep else None),
        shuffle=1 if fused else row.groups,
        depthwise=() if fused else _depthwise(spec, row, middle, place),
        se=_squeeze_excitation(spec, row, middle),
        project=None if direct else project,
        residual=residual,
        zero_init=residual and spec.zero_init_residual,
    )


def _is_residual(row: BlockSpec, channels: int) -> bool:
    """Tell whether the input is added, by the row as it is written: a stride that is left out changes nothing."""
    residual = row.stride == 1 and row.out_channels == channels
    kernel_size = row.kernel_size or 1
    if residual and kernel_size != 1 + 2 * _padding(row):
        raise InputError(
            f"kernel_size {kernel_size} with padding {_padding(row)} changes the size of the image, but the input is "
            "added to the output; use an odd kernel_size without padding, other channels or a stride"
        )
    return residual


def _padding(row: BlockSpec) -> int:
    return (row.kernel_size or 1) // 2 if row.padding is None else row.padding


def _spread(conv: ConvPlan, row: BlockSpec, place: _Place) -> ConvPlan:
    """Give a convolution the row's kernel, stride and padding; where the stride is left out, the size stays."""
    kernel_size, dropped = row.kernel_size or 1, place.drops(row.stride)
    return replace(
        conv,
        kernel_size=kernel_size,
        stride=1 if dropped else row.stride,
        padding=place.dilation * (kernel_size // 2 if dropped else _padding(row)),
        dilation=place.dilation if kernel_size > 1 else 1,
    )


def _depthwise(spec: ArchSpec, row: BlockSpec, middle: int, place: _Place) -> tuple[ConvPlan, ...]:
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
    rest = [_spread(plain, same, place.after(row.stride)) for _ in range(row.depthwise_repeats - 1)]
    return (_spread(plain, row, place), *rest)


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
