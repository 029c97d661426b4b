"""The module of an operator of a latency table, as in a converted network: batch norm is folded."""

from torch import nn

from fbnet_zoo import blocks
from fbnet_zoo.converters.respell import StaticConvClassifier
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.plans import (
    BlockPlan,
    ConvPlan,
    InvertedResidualPlan,
    PoolHeadPlan,
    SqueezeExcitationPlan,
    same_padding,
)

_NO_NORM = 0.0


def operator_module(operator: Operator) -> nn.Module:
    """Return a module with random weights for an operator; its input is `(N, in_channels, input_size, input_size)`.

    Raises:
        InputError: the operator takes no time, or has several inputs, like the layers `add` and `mul`.

    >>> from fbnet_zoo.latency.operators import Operator
    >>> type(operator_module(Operator(op="conv", input_size=8, in_channels=3, out_channels=16))).__name__
    'ConvBNAct'
    """
    match operator.op:
        case "pool":
            return nn.AdaptiveAvgPool2d(1)
        case "linear":
            module: nn.Module = StaticConvClassifier(operator.in_channels, operator.out_channels)
        case "shuffle":
            return blocks.ChannelShuffle(operator.groups)
        case _:
            module = blocks.block(operator_plan(operator), bn_eps=_NO_NORM)
    blocks.init_weights(module)
    return module.eval().requires_grad_(False)


def operator_plan(operator: Operator) -> BlockPlan:
    """Return the plan of a convolution or a block, with biases and without batch norm.

    Raises:
        InputError: the operator is neither a convolution nor a block.
    """
    match operator.op:
        case "conv":
            before, after = operator.in_channels, operator.out_channels
            return _spread(operator, before, after, groups=operator.groups, act=operator.act)
        case "ir" | "fused_ir":
            return _inverted_residual(operator)
        case "ir_pool":
            return _pool_head(operator)
        case _:
            raise InputError(f"{operator} cannot be built alone; expected a convolution or a block")


def _inverted_residual(block: Operator) -> InvertedResidualPlan:
    before, middle, after = block.in_channels, _middle(block), block.out_channels
    spread = _spread(block, before, middle, groups=block.groups, act=block.act)
    expand = spread if block.op == "fused_ir" else _pointwise(block, before, middle, act=block.act)
    return InvertedResidualPlan(
        out_channels=after,
        expand=expand if block.expand else None,
        shuffle=1 if block.op == "fused_ir" else block.groups,
        depthwise=() if block.op == "fused_ir" else _depthwise(block),
        se=_squeeze_excitation(block),
        project=_pointwise(block, middle, after, act=None) if block.project else None,
        residual=block.residual,
        zero_init=False,
    )


def _depthwise(block: Operator) -> tuple[ConvPlan, ...]:
    """Plan the depthwise convolutions; those after the first keep the size."""
    middle, act = _middle(block), None if block.linear_depthwise else block.act
    groups = block.depthwise_groups or middle
    kept = block.model_copy(update={"stride": 1, "padding": same_padding(block.kernel_size, block.dilation)})
    first, same = (_spread(each, middle, middle, groups=groups, act=act) for each in (block, kept))
    return (first, *(same for _ in range(block.depthwise_repeats - 1)))


def _pool_head(head: Operator) -> PoolHeadPlan:
    return PoolHeadPlan(
        expand=_pointwise(head, head.in_channels, _middle(head), act=head.act),
        se=_squeeze_excitation(head),
        project=_pointwise(head, _middle(head), head.out_channels, act=head.act),
    )


def _middle(block: Operator) -> int:
    return block.middle_channels or block.in_channels


def _spread(operator: Operator, before: int, after: int, *, groups: int, act: str | None) -> ConvPlan:
    return ConvPlan(
        in_channels=before,
        out_channels=after,
        kernel_size=operator.kernel_size,
        stride=operator.stride,
        padding=operator.padding,
        dilation=operator.dilation,
        groups=groups,
        bias=True,
        norm=False,
        act=act,
    )


def _pointwise(block: Operator, before: int, after: int, act: str | None) -> ConvPlan:
    groups = 1 if block.op == "ir_pool" else block.groups
    return ConvPlan(in_channels=before, out_channels=after, groups=groups, bias=True, norm=False, act=act)


def _squeeze_excitation(block: Operator) -> SqueezeExcitationPlan | None:
    if not block.se_channels:
        return None
    assert block.se_act is not None  # noqa: S101 - operators are made from plans, which have both
    assert block.se_gate is not None  # noqa: S101 - likewise
    return SqueezeExcitationPlan(
        channels=_middle(block), hidden_channels=block.se_channels, act=block.se_act, gate=block.se_gate
    )
