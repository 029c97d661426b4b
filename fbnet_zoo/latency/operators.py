"""Operators, the entries of latency tables: blocks or layers of a network, with the size of their input.

Blocks that run alike are the same operator wherever they occur. Biases and batch norm make no difference, as they are
folded when a file is written.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from fbnet_zoo.errors import InputError
from fbnet_zoo.layers import Layer, block_layers, conv_output_size, end_layers, walk, walk_blocks
from fbnet_zoo.planner import plan
from fbnet_zoo.plans import (
    BlockPlan,
    ConvPlan,
    IdentityPlan,
    InvertedResidualPlan,
    NetworkPlan,
    PoolHeadPlan,
    SqueezeExcitationPlan,
    same_padding,
)
from fbnet_zoo.spec import Activation, ArchSpec, Gate, OneOrTwo, Record

OperatorType = Literal["conv", "ir", "fused_ir", "ir_pool", "skip", "pool", "linear", "add", "mul", "shuffle"]
Level = Literal["block", "layer"]

_Whole = Annotated[int, Field(ge=1)]

_PLAIN = {0, 1, None}
_SHORT = {"kernel_size": "k", "groups": "g", "dilation": "dilation ", "depthwise_groups": "dwg", "se_channels": "se"}
_WINDOW = ("kernel_size", "stride", "padding", "dilation")


class Operator(Record):
    """One operator on a square input; hashable, and equal to all others of the same shape.

    Attributes:
        op: `conv` (including folded layers), a block (`ir`, `fused_ir`, `ir_pool`, `skip`), `pool` (global average),
            `linear`, and, in tables of layers, `add`, `mul` and `shuffle`.
        input_size: side of the input, px.
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: kernel size of the convolution; in a block, of the depthwise or fused one.
        stride: stride of the same convolution.
        padding: padding of the same convolution.
        dilation: dilation of the same convolution.
        groups: groups of a convolution, a shuffle, or both pointwise convolutions of a block.
        middle_channels: channels inside a block: `in_channels` times the expansion.
        expand: whether a block has the first pointwise convolution.
        project: whether a block has the last pointwise convolution.
        depthwise_repeats: number of consecutive depthwise convolutions.
        depthwise_groups: groups of the depthwise convolutions (default: one per channel).
        linear_depthwise: whether no activation follows the depthwise convolution.
        se_channels: hidden channels of squeeze-excite; 0 without it.
        se_act: hidden activation of squeeze-excite.
        se_gate: gate of squeeze-excite.
        act: activation; in a block, after its inner convolutions.
        residual: whether the input is added to the output.
    """

    op: OperatorType
    input_size: _Whole
    in_channels: _Whole
    out_channels: _Whole
    kernel_size: _Whole = 1
    stride: OneOrTwo = 1
    padding: Annotated[int, Field(ge=0)] = 0
    dilation: _Whole = 1
    groups: _Whole = 1
    middle_channels: _Whole | None = None
    expand: bool = True
    project: bool = True
    depthwise_repeats: OneOrTwo = 1
    depthwise_groups: _Whole | None = None
    linear_depthwise: bool = False
    se_channels: Annotated[int, Field(ge=0)] = 0
    se_act: Activation | None = None
    se_gate: Gate | None = None
    act: Activation | Gate | None = None
    residual: bool = False

    @property
    def expansion(self) -> float:
        """Channels inside a block, relative to its input."""
        return (self.middle_channels or self.in_channels) / self.in_channels

    @property
    def output_size(self) -> int:
        """Side of the output, px."""
        if self.op in {"pool", "ir_pool"}:
            return 1
        return conv_output_size(self.input_size, self.kernel_size, self.stride, self.padding, self.dilation)

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Shape of its place in a network: input size (px), input channels, output channels, stride."""
        return self.input_size, self.in_channels, self.out_channels, self.stride

    @property
    def is_free(self) -> bool:
        """Whether nothing is computed: a skip that returns its input, or the average of one value."""
        return self.op == "skip" or (self.op == "pool" and self.input_size == 1)

    def __str__(self) -> str:
        """Return a short description, such as `ir k3 e6 24->24, 56 px, relu, residual`."""
        shown = {short: getattr(self, field) for field, short in _SHORT.items()}
        parts = [self.op, *(f"{short}{value}" for short, value in shown.items() if value not in _PLAIN)]
        parts += [] if self.middle_channels is None else [f"e{self.expansion:g}"]
        parts += [f"{self.in_channels}->{self.out_channels}", *(["/2"] if self.stride > 1 else [])]
        return ", ".join([" ".join(parts), f"{self.input_size} px", *self._details()])

    def _details(self) -> Iterator[str]:
        if self.padding != same_padding(self.kernel_size, self.dilation):
            yield f"padding {self.padding}"
        if self.act:
            yield self.act
        if not self.expand:
            yield "no expansion"
        if not self.project:
            yield "no projection"
        if self.linear_depthwise:
            yield "linear depthwise"
        if self.residual:
            yield "residual"


def network_operators(
    network: ArchSpec | NetworkPlan, input_size: int | None = None, *, level: Level = "block", num_classes: int = 1000
) -> tuple[Operator, ...]:
    """Return the operators of a network in execution order.

    Args:
        network: a definition, or a plan, which has its own number of classes.
        input_size: side of the image, px (default: that of the definition).
        level: whole blocks, or their layers with batch norm and activation folded into the convolutions.
        num_classes: number of classes, for a definition (default: 1000).

    Raises:
        InputError: the network cannot be built, or not for this size.

    >>> from fbnet_zoo.registry import get_spec
    >>> [str(operator) for operator in network_operators(get_spec("fbnet_b"))[:2]]
    ['conv k3 3->16 /2, 224 px, relu', 'ir k3 e1 16->16, 112 px, relu, no expansion, residual']
    """
    size = network.input_size if input_size is None and isinstance(network, ArchSpec) else input_size
    if size is None:
        raise InputError("a network plan has no default input size; input_size is required")
    resolved = plan(network, num_classes=num_classes) if isinstance(network, ArchSpec) else network
    return tuple(_block_operators(resolved, size) if level == "block" else _layer_operators(walk(resolved, size)))


def block_operator(block: BlockPlan, input_size: int) -> Operator:
    """Return the operator of a block plan on an input of this size (px)."""
    match block:
        case ConvPlan():
            return _conv(block, input_size)
        case InvertedResidualPlan():
            return _inverted_residual(block, input_size)
        case PoolHeadPlan():
            return _pool_head(block, input_size)
        case IdentityPlan(out_channels=channels):
            return Operator(op="skip", input_size=input_size, in_channels=channels, out_channels=channels)


def block_operators(block: BlockPlan, input_size: int, level: Level) -> tuple[Operator, ...]:
    """Return the operators of a block plan on an input of this size (px): one, or one per layer."""
    if level == "block":
        return (block_operator(block, input_size),)
    return tuple(_layer_operators(block_layers("block", block, input_size)))


def end_operators(network: NetworkPlan, size: int) -> tuple[Operator, ...]:
    """Return the pooling and the classifier of a network whose head outputs `size` x `size` px."""
    return tuple(_layer_operators(end_layers(network, size)))


def _block_operators(network: NetworkPlan, input_size: int) -> Iterator[Operator]:
    for _, block, size in walk_blocks(network, input_size):
        yield block_operator(block, size)
    yield from classifier_operators(network, input_size)


def classifier_operators(network: NetworkPlan, input_size: int) -> Iterator[Operator]:
    """Yield the pooling and the classifier of a network for images of `input_size` px."""
    return _layer_operators(layer for layer in walk(network, input_size) if layer.name in {"pool", "classifier"})


def _conv(conv: ConvPlan, size: int) -> Operator:
    return _operator(
        "conv",
        input_size=size,
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        groups=conv.groups,
        act=conv.act,
        **_window(conv),
    )


def _window(conv: ConvPlan | Layer) -> dict[str, int]:
    return {field: getattr(conv, field) for field in _WINDOW}


def _inverted_residual(block: InvertedResidualPlan, size: int) -> Operator:
    spread = block.depthwise[0] if block.depthwise else block.expand
    first, inner = block.expand or block.depthwise[0], block.project or block.expand
    assert spread is not None  # noqa: S101 - a block without depthwise is fused: it has an expansion
    assert inner is not None  # noqa: S101 - a block without projection likewise
    depthwise_groups = spread.groups if block.depthwise and spread.groups != spread.out_channels else None
    return _operator(
        "ir" if block.depthwise else "fused_ir",
        input_size=size,
        in_channels=first.in_channels,
        out_channels=block.out_channels,
        groups=inner.groups,
        middle_channels=spread.out_channels,
        expand=block.expand is not None,
        project=block.project is not None,
        depthwise_repeats=len(block.depthwise) or 1,
        depthwise_groups=depthwise_groups,
        linear_depthwise=bool(block.depthwise) and spread.act is None,
        act=first.act,
        residual=block.residual,
        **_window(spread),
        **_squeeze_excitation(block.se),
    )


def _pool_head(head: PoolHeadPlan, size: int) -> Operator:
    return _operator(
        "ir_pool",
        input_size=size,
        in_channels=head.expand.in_channels,
        out_channels=head.out_channels,
        middle_channels=head.expand.out_channels,
        act=head.expand.act,
        **_squeeze_excitation(head.se),
    )


def _squeeze_excitation(se: SqueezeExcitationPlan | None) -> dict[str, Any]:
    return {} if se is None else {"se_channels": se.hidden_channels, "se_act": se.act, "se_gate": se.gate}


def _layer_operators(layers: Iterator[Layer]) -> Iterator[Operator]:
    """Yield convolutions, with the layers folded into them, and all other layers that take time."""
    last: Layer | None = None
    for layer in layers:
        if layer.type == "act" and last is not None:
            last = replace(last, function=layer.function)
        elif layer.type != "bn":
            if last is not None:
                yield _layer_operator(last)
            last = layer
    if last is not None and last.out_channels:  # a classifier without outputs does not exist
        yield _layer_operator(last)


def _layer_operator(layer: Layer) -> Operator:
    return _operator(
        "pool" if layer.type == "gap" else layer.type,
        input_size=layer.size_in,
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        groups=layer.groups,
        act=layer.function,
        **_window(layer),
    )


def _operator(op: str, **fields: Any) -> Operator:
    """Return an operator; in plans, activations have the type `str`."""
    checked: Any = op
    return Operator(op=checked, **fields)
