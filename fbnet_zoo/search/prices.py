"""What the parts of a network cost one by one, by counting or by a latency table."""

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from fbnet_zoo import complexity, layers
from fbnet_zoo.benchmarks.latency_table import LatencyTable, network_ms
from fbnet_zoo.benchmarks.operators import Operator, block_operators, end_operators
from fbnet_zoo.plans import BlockPlan, InvertedResidualPlan, NetworkPlan
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.walk import block_layers, end_layers


class Prices(Protocol):
    """A cost of parts that adds up.

    Attributes:
        name: of the metric.
        unit: of all figures.
        sized: whether the size of images matters.
        constant: what every network costs beside its parts.
        in_channels: channels of the image.
        num_classes: outputs of the classifier.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def sized(self) -> bool: ...
    @property
    def constant(self) -> float: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def num_classes(self) -> int: ...

    def block(self, plan: BlockPlan, size: int) -> float:
        """Return the cost of one block on images of `size` px."""

    def end(self, network: NetworkPlan, size: int) -> float:
        """Return the cost of pooling and classifier, where the head puts out images of `size` px."""

    def whole(self, arch: ArchSpec) -> float:
        """Return the cost of a network, found without adding up blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Trainable values or multiply-accumulates, for one image."""

    name: Literal["params", "macs"]
    in_channels: int
    num_classes: int
    constant: float = 0.0
    _known: dict[tuple[BlockPlan, int], tuple[int, int]] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Of all figures."""
        return "parameters" if self.name == "params" else "MACs"

    @property
    def sized(self) -> bool:
        """Whether the size of images matters."""
        return self.name == "macs"

    def block(self, plan: BlockPlan, size: int) -> float:
        """Count a block; what comes before its projection is counted once for all widths of the output."""
        if not isinstance(plan, InvertedResidualPlan) or plan.project is None:
            return self._counted(plan, size)[0]
        inner = plan.project.in_channels
        front = replace(plan, project=None, out_channels=inner, residual=False, zero_init=False)
        value, after = self._counted(front, size)
        return value + self._counted(plan.project, after)[0]

    def end(self, network: NetworkPlan, size: int) -> float:
        """Count the classifier."""
        return complexity.count(end_layers(network, size))[self.sized]

    def whole(self, arch: ArchSpec) -> float:
        """Count a network."""
        return getattr(complexity.cost(arch, in_channels=self.in_channels, num_classes=self.num_classes), self.name)

    def _counted(self, plan: BlockPlan, size: int) -> tuple[int, int]:
        """Return the count of a part and the size of what it puts out."""
        if (plan, size) not in self._known:
            walked = list(block_layers("block", plan, size))
            after = walked[-1].size_out if walked else size
            self._known[plan, size] = (complexity.count(walked)[self.sized], after)
        return self._known[plan, size]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLatency:
    """Milliseconds by a latency table, with its correction."""

    table: LatencyTable
    in_channels: int
    num_classes: int
    name: str = "latency"
    unit: str = "ms"
    sized: bool = True

    @property
    def constant(self) -> float:
        """What every network costs beside its parts."""
        return self.table.corrected_ms(self.table.base_ms or 0.0)

    def block(self, plan: BlockPlan, size: int) -> float:
        """Look a block up."""
        return self._beyond(block_operators(plan, size, self.table.level))

    def end(self, network: NetworkPlan, size: int) -> float:
        """Look pooling and classifier up."""
        return self._beyond(end_operators(network, size))

    def whole(self, arch: ArchSpec) -> float:
        """Return the latency of a network."""
        plan = layers.plan(arch, in_channels=self.in_channels, num_classes=self.num_classes)
        return network_ms(self.table, plan, arch.input_size)

    def _beyond(self, operators: tuple[Operator, ...]) -> float:
        fit = self.table.calibration
        total = sum(self.table.operator_ms(operator) for operator in operators)
        return total if fit is None else fit.slope * total
