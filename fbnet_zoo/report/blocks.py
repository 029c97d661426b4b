"""What there is to say of each block of a network: its shapes, its size and what it costs."""

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
    """One layer of a block: `pointwise` is 1x1, `kernel` looks around, `pool` takes the mean over the image."""

    kind: Literal["pointwise", "kernel", "pool"]
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a network, or its classifier.

    Attributes:
        part: of the network, as `Cost.by_part` calls it.
        shapes: its layers in order, with their channels; none for a skipped block.
        heading: what it is, in a few characters.
        words: the same at length.
        channels: of the output.
        size: side of the output, px.
        macs_share: of the whole network's.
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
        """All about it in one sentence."""
        output = f"output {by(self.channels, self.size, self.size)}"
        cost = f"{short_count(self.macs)} MACs ({share(self.macs_share)}), {short_count(self.params)} parameters"
        return f"{self.words}; {output}; {cost}"


def blocks(spec: ArchSpec, cost: Cost, *, in_channels: int = 3, num_classes: int = 1000) -> Iterator[Block]:
    """Yield the blocks of a network in order.

    Args:
        spec: the definition.
        cost: of the network with the same channels and classes.
        in_channels: channels of the image.
        num_classes: outputs of the classifier.
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
    """Return the name of a part for headings.

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
            twice = f"{len(spatial)}·" if len(spatial) > 1 else ""
            return f"{twice}{_side(spatial[0].kernel_size)} e{_expansion(block, channels)}"
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
            return f"expansion {_ratio(block.expand.out_channels, channels)}, mean over the image, projection"
        case _:
            return "skipped, the input goes on unchanged"


def _residual_words(block: InvertedResidualPlan, channels: int) -> Iterator[str]:
    spatial = _spatial(block)
    kind = "depthwise" if block.depthwise else "full"
    twice = f"{len(spatial)} times " if len(spatial) > 1 else ""
    yield f"{twice}{kind} {_side(spatial[0].kernel_size)}{_stride_words(spatial[0])}"
    yield f"expansion {_expansion(block, channels)}"
    if block.shuffle > 1:
        yield f"{block.shuffle} groups, shuffled"
    if block.se is not None:
        yield f"squeeze-excite with {block.se.hidden_channels} channels"
    if block.residual:
        yield "residual"


def _spatial(block: InvertedResidualPlan) -> tuple[ConvPlan, ...]:
    """Return the convolutions that look around: depthwise ones, or the full one of a fused block."""
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
