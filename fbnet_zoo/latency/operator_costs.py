"""What an operator computes, from its shape alone."""

from dataclasses import dataclass

from fbnet_zoo.latency.operators import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost:
    """One operator on one image, without squeeze-excite, batch norm and biases.

    Attributes:
        pointwise_macs: multiply-accumulates of everything that mixes channels.
        depthwise_macs: of depthwise convolutions.
        weights: of both.
        activations: values in the outputs of the convolutions.
    """

    pointwise_macs: int
    depthwise_macs: int
    weights: int
    activations: int

    @property
    def macs(self) -> int:
        """All multiply-accumulates."""
        return self.pointwise_macs + self.depthwise_macs


def operator_cost(operator: Operator) -> OperatorCost:
    """Return what an operator costs; nothing for those without weights.

    >>> operator_cost(Operator(op="conv", input_size=8, in_channels=16, out_channels=32)).macs
    32768
    """
    if operator.op in {"conv", "linear"}:
        weights = operator.kernel_size**2 * operator.in_channels * operator.out_channels // operator.groups
        after = output_size(operator) ** 2
        return OperatorCost(
            pointwise_macs=weights * after,
            depthwise_macs=0,
            weights=weights,
            activations=operator.out_channels * after,
        )
    if operator.middle_channels is None:
        return OperatorCost(pointwise_macs=0, depthwise_macs=0, weights=0, activations=0)
    return _block_cost(operator, operator.middle_channels)


def _block_cost(operator: Operator, middle: int) -> OperatorCost:
    """Count a block: its first convolution at the size that this has, the last one at the size of the output."""
    before, after = operator.input_size**2, output_size(operator) ** 2
    kernel, fused = operator.kernel_size**2, operator.op == "fused_ir"
    first = operator.in_channels * middle // operator.groups * (kernel if fused else 1) if operator.expand else 0
    first_size = after if fused else before
    last = middle * operator.out_channels // operator.groups if operator.project else 0
    between = 0
    if operator.op == "ir":
        between = kernel * middle**2 // (operator.depthwise_groups or middle) * operator.depthwise_repeats
    last_size = 1 if operator.op == "ir_pool" else after
    return OperatorCost(
        pointwise_macs=first * first_size + last * last_size,
        depthwise_macs=between * after,
        weights=first + between + last,
        activations=middle * (first_size * operator.expand + after * bool(between))
        + operator.out_channels * last_size * operator.project,
    )


def output_size(operator: Operator) -> int:
    """Return the side of what the convolution gives, px."""
    reach = operator.dilation * (operator.kernel_size - 1) + 1
    return (operator.input_size + 2 * operator.padding - reach) // operator.stride + 1
