"""The flat list of layers of a resolved network, with their shapes.

Layer names are the module names of the built network; `mul` and `add` are named after the module
whose forward does them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError, require_whole
from fbnet_zoo.plans import (
    BlockPlan,
    ConvPlan,
    InvertedResidualPlan,
    NetworkPlan,
    PoolHeadPlan,
    SqueezeExcitationPlan,
    smallest_size,
)

MAX_SIZE = 4096
"""Largest side of an image, px."""

LayerType = Literal["conv", "bn", "act", "shuffle", "gap", "mul", "add", "linear"]


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

    @property
    def outputs(self) -> int:
        """Number of values in the output, for one image."""
        return self.out_channels * self.size_out**2

    @property
    def params(self) -> int:
        """Trainable parameters, including batch norm."""
        norm = 2 * self.out_channels if self.type == "bn" else 0
        return self._weights + (self.out_channels if self.bias else 0) + norm

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self._weights * self.size_out**2

    @property
    def _weights(self) -> int:
        weighs = self.type in {"conv", "linear"}
        return self.kernel_size**2 * self.in_channels * self.out_channels // self.groups if weighs else 0


def check_batch(network: NetworkPlan, input_size: int, images: int = 1) -> None:
    """Check that square images of `input_size` px can be run at once, before any memory is allocated.

    Raises:
        InputError: the batch, or the output of a layer for it, exceeds a limit of `fbnet_zoo.limits`.
    """
    limits.check("batch", images, "there are")
    largest = max(_layers(network, input_size), key=lambda layer: layer.outputs)
    subject = f"for {images} images of {input_size} px, {largest.name} outputs"
    limits.check("activations", images * largest.outputs, subject)


def walk(network: NetworkPlan, input_size: int) -> Iterator[Layer]:
    """Yield the layers in the order they run, for square images of `input_size` px.

    Raises:
        InputError: the size is not valid, too small for the network, or gives a layer an output above the limit.
    """
    require_whole("input_size", input_size, low=1, high=MAX_SIZE)
    largest = limits.limit("activations")
    for layer in _layers(network, input_size):
        if layer.outputs > largest:
            limits.check("activations", layer.outputs, f"for an image of {input_size} px, {layer.name} outputs")
        if layer.size_out < 1:
            raise _too_small(network, input_size, layer.name)
        yield layer


def walk_blocks(network: NetworkPlan, input_size: int) -> Iterator[tuple[str, BlockPlan, int]]:
    """Yield name, plan and input size (px) of the stem, of every block of the stages and of the head, in this order.

    Raises:
        InputError: the size is not valid, or too small for the network.
    """
    require_whole("input_size", input_size, low=1, high=MAX_SIZE)
    size = input_size
    for name, block in _blocks(network):
        yield name, block, size
        for layer in block_layers(name, block, size):
            size = layer.size_out
        if size < 1:
            raise _too_small(network, input_size, name)


def _too_small(network: NetworkPlan, input_size: int, name: str) -> InputError:
    smallest = smallest_size(network)
    return InputError(
        f"an image of {input_size} px is too small: {name} has no output; expected at least {smallest} px"
    )


def conv_output_size(size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Return the side of the output of a convolution, px; below 1 where the image is too small.

    >>> conv_output_size(224, kernel_size=3, stride=2, padding=1)
    112
    """
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


def _layers(network: NetworkPlan, size: int) -> Iterator[Layer]:
    for name, block in _blocks(network):
        for layer in block_layers(name, block, size):
            size = layer.size_out
            yield layer
    yield from end_layers(network, size)


def end_layers(network: NetworkPlan, size: int) -> Iterator[Layer]:
    """Yield the pooling and the classifier of a network whose head outputs maps of `size` px."""
    yield _pool("pool", network.features, size)
    yield Layer(
        name="classifier",
        type=network.classifier,
        in_channels=network.features,
        out_channels=network.num_classes,
        size_in=1,
        size_out=1,
        bias=True,
    )


def _blocks(network: NetworkPlan) -> Iterator[tuple[str, BlockPlan]]:
    yield "stem", network.stem
    for stage in network.stages:
        yield from ((f"stages.{stage.name}.{index}", block) for index, block in enumerate(stage.blocks))
    yield "head", network.head


def block_layers(name: str, block: BlockPlan, size: int) -> Iterator[Layer]:
    """Yield the layers of one block on inputs of `size` px, with names below `name`."""
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
    after = conv_output_size(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
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
