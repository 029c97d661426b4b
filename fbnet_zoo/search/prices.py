"""Costs of the parts of a network, by counting, from a latency table or for a predictor.

A cost is a tuple of summands in the order of summation over a whole network: another order may change the last digit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from fbnet_zoo import complexity, planner
from fbnet_zoo.latency.operators import Operator, block_operators, end_operators, network_operators
from fbnet_zoo.latency.predictor import Predictor
from fbnet_zoo.latency.table import LatencyTable, network_ms
from fbnet_zoo.layers import Layer, block_layers, end_layers
from fbnet_zoo.plans import BlockPlan, ConvPlan, InvertedResidualPlan, NetworkPlan
from fbnet_zoo.spec import ArchSpec

Summands = tuple[float, ...]


class Prices(Protocol):
    """A cost that is determined by the costs of blocks.

    Attributes:
        name: name of the cost.
        unit: unit of all values.
        sized: whether the cost depends on the image size.
        in_channels: number of image channels.
        num_classes: number of outputs of the classifier.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def sized(self) -> bool: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def num_classes(self) -> int: ...

    def block(self, plan: BlockPlan, size: int) -> Summands:
        """Return the cost of one block on images of `size` px."""

    def end(self, network: NetworkPlan, size: int) -> Summands:
        """Return the cost of pooling and classifier, for a head output of `size` px."""

    def network(self, arch: ArchSpec) -> float:
        """Return the cost of a whole network, computed without adding up blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Trainable parameters or multiply-accumulates, for one image."""

    name: Literal["params", "macs"]
    in_channels: int
    num_classes: int
    _known: dict[tuple[BlockPlan, int], tuple[int, int]] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Unit of all values."""
        return "parameters" if self.name == "params" else "MACs"

    @property
    def sized(self) -> bool:
        """Whether the cost depends on the image size."""
        return self.name == "macs"

    def block(self, plan: BlockPlan, size: int) -> Summands:
        """Count a block; the part before the projection is counted once for all output widths."""
        if not isinstance(plan, InvertedResidualPlan) or plan.project is None:
            return (self._counted(plan, size)[0],)
        value, after = self._counted(_front(plan, plan.project), size)
        return (value + self._counted(plan.project, after)[0],)

    def end(self, network: NetworkPlan, size: int) -> Summands:
        """Count the classifier."""
        return (complexity.count(end_layers(network, size))[self.sized],)

    def network(self, arch: ArchSpec) -> float:
        """Count a network."""
        return getattr(complexity.cost(arch, in_channels=self.in_channels, num_classes=self.num_classes), self.name)

    def _counted(self, plan: BlockPlan, size: int) -> tuple[int, int]:
        """Return the count of a part and the size of its output."""
        if (plan, size) not in self._known:
            walked = list(block_layers("block", plan, size))
            after = walked[-1].size_out if walked else size
            self._known[plan, size] = (complexity.count(walked)[self.sized], after)
        return self._known[plan, size]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakActivations:
    """The largest number of activation values alive at once: the largest of any block's, since none outlives it."""

    in_channels: int
    num_classes: int
    name: str = "memory"
    unit: str = "values"
    sized: bool = True
    _known: dict[tuple[BlockPlan, int, bool], tuple[int, int]] = field(default_factory=dict)

    def block(self, plan: BlockPlan, size: int) -> Summands:
        """Return the peak inside a block; the part before the projection is computed once for all output widths."""
        if not isinstance(plan, InvertedResidualPlan) or plan.project is None:
            return (_peak(block_layers("block", plan, size)),)
        front, stays = _front(plan, plan.project), plan.residual
        if (front, size, stays) not in self._known:
            walked = list(block_layers("block", front, size))
            after = walked[-1].size_out if walked else size
            self._known[front, size, stays] = (_peak(walked, input_stays=stays), after**2)
        peak, pixels = self._known[front, size, stays]
        projecting = (plan.project.in_channels + plan.project.out_channels) * pixels
        return (max(peak, projecting + (plan.project.out_channels * size**2 if stays else 0)),)

    def end(self, network: NetworkPlan, size: int) -> Summands:
        """Return the peak of pooling and classifier."""
        return (_peak(end_layers(network, size)),)

    def network(self, arch: ArchSpec) -> float:
        """Return the peak of a network."""
        return complexity.cost(arch, in_channels=self.in_channels, num_classes=self.num_classes).peak_activations


def _peak(walked: Iterable[Layer], *, input_stays: bool = False) -> int:
    layers = tuple(walked)
    return max(complexity.live_values(layers, input_stays=input_stays)) if layers else 0


def _front(plan: InvertedResidualPlan, project: ConvPlan) -> InvertedResidualPlan:
    """Return a block without its projection."""
    return replace(plan, project=None, out_channels=project.in_channels, residual=False, zero_init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLatency:
    """Milliseconds from a latency table, without its correction."""

    table: LatencyTable
    in_channels: int
    num_classes: int
    name: str = "latency"
    unit: str = "ms"
    sized: bool = True

    def block(self, plan: BlockPlan, size: int) -> Summands:
        """Look up the operators of a block."""
        return self._times(block_operators(plan, size, self.table.level))

    def end(self, network: NetworkPlan, size: int) -> Summands:
        """Look up pooling and classifier."""
        return self._times(end_operators(network, size))

    def network(self, arch: ArchSpec) -> float:
        """Return the latency of a network, with the table's correction."""
        plan = planner.plan(arch, in_channels=self.in_channels, num_classes=self.num_classes)
        return network_ms(self.table, plan, arch.input_size)

    def _times(self, operators: tuple[Operator, ...]) -> Summands:
        return tuple(self.table.operator_ms(operator) for operator in operators)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorValues:
    """The values that a predictor adds up over the parts of a network."""

    predictor: Predictor
    in_channels: int
    num_classes: int
    sized: bool = True

    @property
    def name(self) -> str:
        """Name of the predicted cost."""
        return self.predictor.cost

    @property
    def unit(self) -> str:
        """Unit of the predicted cost."""
        return self.predictor.unit

    def block(self, plan: BlockPlan, size: int) -> Summands:
        """Return the sum over the operators of a block."""
        return tuple(self.predictor.features.sums([block_operators(plan, size, "block")])[0].tolist())

    def end(self, network: NetworkPlan, size: int) -> Summands:
        """Return the sum over pooling and classifier."""
        return tuple(self.predictor.features.sums([end_operators(network, size)])[0].tolist())

    def network(self, arch: ArchSpec) -> float:
        """Return the total of all values of a network, to check that they add up over its parts."""
        plan = planner.plan(arch, in_channels=self.in_channels, num_classes=self.num_classes)
        return float(self.predictor.features.sums([network_operators(plan, arch.input_size)]).sum())
