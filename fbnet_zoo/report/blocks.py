"""Description of each block of a network: layers, output size and cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fbnet_zoo import planner
from fbnet_zoo.complexity import Cost
from fbnet_zoo.layers import walk
from fbnet_zoo.plans import BlockPlan, ConvPlan, InvertedResidualPlan, NetworkPlan, PoolHeadPlan
from fbnet_zoo.report.text import TIMES, by, share, short_count
from fbnet_zoo.spec import ArchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One layer of a block: a 1x1 convolution (`pointwise`), a larger one (`kernel`) or global pooling (`pool`)."""

    kind: Literal["pointwise", "kernel", "pool"]
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a network, or its classifier.

    Attributes:
        part: part of the network, as in `Cost.by_part`.
        shapes: layers in order; empty for a skip.
        heading: short description.
        words: full description.
        channels: number of output channels.
        size: side of the output, px.
        macs_share: fraction of the network's MACs.
    """

    part: str
    shapes: tuple[Shape, ...]
    heading: str
    words: str
    channels: int
    size: int
    stride: int
    se: bool
    residual: bool
    macs: int
    params: int
    macs_share: float

    @property
    def title(self) -> str:
        """Description, output size and cost in one sentence."""
        output = f"output {by(self.channels, self.size, self.size)}"
        cost = f"{short_count(self.macs)} MACs ({share(self.macs_share)}), {short_count(self.params)} parameters"
        return f"{self.words}; {output}; {cost}"


def blocks(spec: ArchSpec, cost: Cost, *, in_channels: int = 3, num_classes: int = 1000) -> Iterator[Block]:
    """Yield the blocks of a network in order.

    Args:
        spec: definition of the network.
        cost: cost of the network with the same image channels and classes.
        in_channels: channels of the image (default: 3).
        num_classes: number of classes (default: 1000).
    """
    plan = planner.plan(spec, in_channels=in_channels, num_classes=num_classes)
    ends = {layer.name: layer.size_out for layer in walk(plan, cost.input_size)}
    channels, size = in_channels, cost.input_size
    for part, name, block in _named(plan):
        inside = [layer for layer in cost.layers if layer.name == name or layer.name.startswith(f"{name}.")]
        size = ends[inside[-1].name] if inside else size
        macs = sum(layer.macs for layer in inside)
        yield Block(
            part=part,
            shapes=tuple(_shapes(block)),
            heading="linear" if name == "classifier" and plan.classifier == "linear" else _heading(block, channels),
            words=f"{name}: {_words(block, channels)}",
            channels=block.out_channels,
            size=size,
            stride=_stride(block),
            se=getattr(block, "se", None) is not None,
            residual=getattr(block, "residual", False),
            macs=macs,
            params=sum(layer.params for layer in inside),
            macs_share=macs / cost.macs,
        )
        channels = block.out_channels


def part_title(part: str) -> str:
    """Return the heading of a part.

    >>> part_title("stages.8"), part_title("stem")
    ('Stage 8', 'Stem')
    """
    return f"Stage {part.removeprefix('stages.')}" if part.startswith("stages.") else part.capitalize()


def _named(plan: NetworkPlan) -> Iterator[tuple[str, str, BlockPlan]]:
    yield "stem", "stem", plan.stem
    for stage in plan.stages:
        for index, block in enumerate(stage.blocks):
            yield f"stages.{stage.name}", f"stages.{stage.name}.{index}", block
    yield "head", "head", plan.head
    yield "classifier", "classifier", ConvPlan(in_channels=plan.features, out_channels=plan.num_classes)


def _shapes(block: BlockPlan) -> Iterator[Shape]:
    match block:
        case ConvPlan():
            yield _shape(block)
        case InvertedResidualPlan():
            chain = (block.expand, *block.depthwise, block.project)
            yield from (_shape(conv) for conv in chain if conv is not None)
        case PoolHeadPlan():
            middle = block.expand.out_channels
            yield _shape(block.expand)
            yield Shape(kind="pool", before=middle, after=middle)
            yield _shape(block.project)


def _shape(conv: ConvPlan) -> Shape:
    kind: Literal["pointwise", "kernel"] = "pointwise" if conv.kernel_size == 1 else "kernel"
    return Shape(kind=kind, before=conv.in_channels, after=conv.out_channels)


def _heading(block: BlockPlan, channels: int) -> str:
    match block:
        case ConvPlan():
            return f"{_side(block.kernel_size)} conv"
        case InvertedResidualPlan():
            spatial = _spatial(block)
            repeats = f"{len(spatial)}·" if len(spatial) > 1 else ""
            return f"{repeats}{_side(spatial[0].kernel_size)} e{_expansion(block, channels)}"
        case PoolHeadPlan():
            return f"pool e{_ratio(block.expand.out_channels, channels)}"
        case _:
            return "skip"


def _words(block: BlockPlan, channels: int) -> str:
    match block:
        case ConvPlan():
            return f"convolution {_side(block.kernel_size)}{_stride_words(block)}"
        case InvertedResidualPlan():
            return ", ".join(_residual_words(block, channels))
        case PoolHeadPlan():
            return f"expansion {_ratio(block.expand.out_channels, channels)}, global average pooling, projection"
        case _:
            return "skip, the input is passed on unchanged"


def _residual_words(block: InvertedResidualPlan, channels: int) -> Iterator[str]:
    spatial = _spatial(block)
    kind = "depthwise" if block.depthwise else "full"
    repeats = f"{len(spatial)} times " if len(spatial) > 1 else ""
    yield f"{repeats}{kind} {_side(spatial[0].kernel_size)}{_stride_words(spatial[0])}"
    yield f"expansion {_expansion(block, channels)}"
    if block.shuffle > 1:
        yield f"{block.shuffle} groups, shuffled"
    if block.se is not None:
        yield f"squeeze-excite with {block.se.hidden_channels} channels"
    if block.residual:
        yield "residual"


def _spatial(block: InvertedResidualPlan) -> tuple[ConvPlan, ...]:
    """Return the spatial convolutions: the depthwise ones, or the full one of a fused block."""
    return block.depthwise or ((block.expand,) if block.expand is not None else ())


def _expansion(block: InvertedResidualPlan, channels: int) -> str:
    return _ratio(_spatial(block)[-1].out_channels, channels)


def _ratio(middle: int, channels: int) -> str:
    return f"{middle / channels:.2g}"


def _side(kernel_size: int) -> str:
    return f"{kernel_size}{TIMES}{kernel_size}"


def _stride_words(conv: ConvPlan) -> str:
    return f", stride {conv.stride}" if conv.stride > 1 else ""


def _stride(block: BlockPlan) -> int:
    match block:
        case ConvPlan():
            return block.stride
        case InvertedResidualPlan():
            return max(conv.stride for conv in _spatial(block))
        case _:
            return 1
