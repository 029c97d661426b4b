"""The records of a resolved network: every number is decided, nothing is built yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fbnet_zoo.errors import InputError


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Return the padding with which a convolution of odd kernel size and stride 1 keeps the size of the image.

    >>> same_padding(5), same_padding(3, dilation=2)
    (2, 2)
    """
    return kernel_size // 2 * dilation


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvPlan:
    """A convolution, then batch norm and activation, both optional.

    Raises:
        InputError: the groups do not divide the channels.
    """

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

    def __post_init__(self) -> None:
        for channels in (self.in_channels, self.out_channels):
            if channels % self.groups:
                raise InputError(
                    f"{channels} channels cannot be split into {self.groups} groups; "
                    "choose groups that divide the channels before, in and after the block"
                )

    @property
    def params(self) -> int:
        """Trainable parameters."""
        weights = self.kernel_size**2 * self.in_channels * self.out_channels // self.groups
        return weights + self.out_channels * (self.bias + 2 * self.norm)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeExcitationPlan:
    """Squeeze-excite: pool, 1x1 to `hidden_channels`, `act`, 1x1 back, `gate`, multiply."""

    channels: int
    hidden_channels: int
    act: str
    gate: str

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return 2 * self.channels * self.hidden_channels + self.channels + self.hidden_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedResidualPlan:
    """Expand, shuffle, depthwise, squeeze-excite, project; `x +` where `residual`.

    A fused block has no depthwise convolution, and no projection at expansion 1 (Tan and Le, arXiv:2104.00298).
    """

    out_channels: int
    expand: ConvPlan | None
    shuffle: int
    depthwise: tuple[ConvPlan, ...]
    se: SqueezeExcitationPlan | None
    project: ConvPlan | None
    residual: bool
    zero_init: bool

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(part.params for part in (self.expand, *self.depthwise, self.se, self.project) if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHeadPlan:
    """Expand, squeeze-excite, global average pool, project (MobileNetV3's efficient last stage)."""

    expand: ConvPlan
    se: SqueezeExcitationPlan | None
    project: ConvPlan

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.project.out_channels

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(part.params for part in (self.expand, self.se, self.project) if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPlan:
    """A skipped block."""

    out_channels: int
    params: Literal[0] = 0


BlockPlan = ConvPlan | InvertedResidualPlan | PoolHeadPlan | IdentityPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The blocks of one stage.

    Attributes:
        name: output stride in the definition; also the name of the module.
        output_stride: output stride of the network, smaller than `name` where strides became dilations.
    """

    name: str
    output_stride: int
    blocks: tuple[BlockPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """A whole network."""

    stem: ConvPlan
    stages: tuple[StagePlan, ...]
    head: ConvPlan | PoolHeadPlan
    classifier: Literal["linear", "conv"]
    num_classes: int

    @property
    def features(self) -> int:
        """Channels of the input of the classifier."""
        return self.head.out_channels


def smallest_size(network: NetworkPlan) -> int:
    """Return the side of the smallest image with which every convolution has an output, px.

    It is 1 unless a padding is less than half the kernel.
    """
    size = 1
    for conv in reversed(list(_convolutions(network))):
        reach = conv.dilation * (conv.kernel_size - 1) + 1
        size = max(1, (size - 1) * conv.stride + reach - 2 * conv.padding)
    return size


def _convolutions(network: NetworkPlan) -> Iterator[ConvPlan]:
    """Yield the convolutions on maps, in order; those on pooled features depend on no size."""
    yield network.stem
    for stage in network.stages:
        for block in stage.blocks:
            yield from _in_block(block)
    yield from _in_block(network.head)


def _in_block(block: BlockPlan) -> Iterator[ConvPlan]:
    match block:
        case ConvPlan():
            yield block
        case InvertedResidualPlan():
            yield from (conv for conv in (block.expand, *block.depthwise, block.project) if conv is not None)
        case PoolHeadPlan():
            yield block.expand
