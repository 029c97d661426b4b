"""Cost of an operator, from its shape alone."""

from dataclasses import dataclass

from fbnet_zoo.latency.operators import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost:
    """Cost of an operator for one image, without squeeze-excite, batch norm and biases.

    Attributes:
        pointwise_macs: multiply-accumulates of all layers but depthwise convolutions.
        depthwise_macs: multiply-accumulates of depthwise convolutions.
        weights: number of weights.
        activations: number of values in the outputs of the convolutions.
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
    """Return the cost of an operator, which is zero without weights.

    >>> operator_cost(Operator(op="conv", input_size=8, in_channels=16, out_channels=32)).macs
    32768
    """
    if operator.op in {"conv", "linear"}:
        weights = operator.kernel_size**2 * operator.in_channels * operator.out_channels // operator.groups
        after = operator.output_size**2
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
    before, after = operator.input_size**2, operator.output_size**2
    kernel, fused = operator.kernel_size**2, operator.op == "fused_ir"
    first = operator.in_channels * middle // operator.groups * (kernel if fused else 1) if operator.expand else 0
    first_size = after if fused else before
    last = middle * operator.out_channels // operator.groups if operator.project else 0
    between = 0
    if operator.op == "ir":
        between = kernel * middle**2 // (operator.depthwise_groups or middle) * operator.depthwise_repeats
    return OperatorCost(
        pointwise_macs=first * first_size + last * after,
        depthwise_macs=between * after,
        weights=first + between + last,
        activations=middle * (first_size * operator.expand + after * bool(between))
        + operator.out_channels * after * operator.project,
    )
