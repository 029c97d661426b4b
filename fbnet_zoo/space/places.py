"""The blocks of a search space with their shapes: what a supernet holds and what a latency table measures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from fbnet_zoo import limits
from fbnet_zoo.errors import located
from fbnet_zoo.layers import conv_output_size
from fbnet_zoo.planner import ResolvedBlock, changed, resolve
from fbnet_zoo.space.choices import LayerChoice
from fbnet_zoo.space.layers import OpenLayer
from fbnet_zoo.space.records import SpaceSpec
from fbnet_zoo.spec import ArchSpec, BlockSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBlock:
    """One block on an input `(N, in_channels, size_in, size_in)`; `Space.plan` gives its layers."""

    in_channels: int
    size_in: int
    row: ResolvedBlock

    @property
    def does_nothing(self) -> bool:
        """Whether the block is a skip that returns its input."""
        return self.row.op == "skip" and self.row.stride == 1 and self.row.out_channels == self.in_channels

    def having(self, in_channels: int, **fields: Any) -> "PlacedBlock":
        """Return the block with other input channels and other values in its row."""
        return replace(self, in_channels=in_channels, row=changed(self.row, **fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the network, and the blocks that it can hold.

    Attributes:
        name: name of the layer; with `.rest` for its blocks after the first, where the depth is open.
        channels: possible pairs of input and output channels, the widest last.
        size_in: side of the input, px.
        size_out: side of the output, px.
        stride: stride of the block.
        repeats: possible numbers of such blocks in a row.
        expansions: expansions to choose from; empty where each block has its own.
        se_ratios: squeeze-excite ratios to choose from; empty where each block has its own.
        blocks: name of each possible block to its widest form.
    """

    name: str
    channels: tuple[tuple[int, int], ...]
    size_in: int
    size_out: int
    stride: int
    repeats: tuple[int, ...]
    expansions: tuple[float, ...]
    se_ratios: tuple[float, ...]
    blocks: Mapping[str, PlacedBlock]

    def narrowed(self) -> Iterator[PlacedBlock]:
        """Yield every possible block, in all channels, expansions and ratios, except those that do nothing."""
        for (before, after), block in product(self.channels, self.blocks.values()):
            expansions = (self.expansions if block.row.expansion else ()) or (block.row.expansion,)
            ratios = (self.se_ratios if block.row.se_ratio else ()) or (block.row.se_ratio,)
            for expansion, se_ratio in product(expansions, ratios):
                narrow = block.having(before, out_channels=after, expansion=expansion, se_ratio=se_ratio)
                if not narrow.does_nothing:
                    yield narrow


def places(layers: Sequence[OpenLayer], frame: ArchSpec, spec: SpaceSpec, input_size: int) -> Iterator[Place]:
    """Yield the places of a space's layers, for images of `input_size` px.

    Kernels are odd and padded to keep the size, so that only the stride changes it.
    """
    size, before = conv_output_size(input_size, 1, spec.stem.stride), spec.stem.out_channels
    for layer in layers:
        after = layer.row.out_channels
        yield _place(layer, frame, size, tuple(product(before, after)))
        size, before = conv_output_size(size, 1, layer.stride), after
        if layer.row.repeats[-1] > 1:
            yield _place(layer, frame, size, tuple(zip(after, after, strict=True)), rest=True)


def check_places(layers: Sequence[OpenLayer], spec: SpaceSpec) -> None:
    """Check the number of blocks that a space's places can hold, in all their channels and expansions, by counting.

    Raises:
        InputError: there are more than the limit `candidates`; `location` is the row that exceeds it.
    """
    before, total = len(spec.stem.out_channels), 0
    for layer in layers:
        after, options = len(layer.row.out_channels), layer.options()
        for rest in (False, True) if layer.row.repeats[-1] > 1 else (False,):
            kernel, *others = (_field(layer, field, rest=rest) for field in ("kernel_size", "expansion", "se_ratio"))
            kinds = sum(len(layer.options(candidate).get(kernel, (None,))) for candidate in layer.ops)
            forms = math.prod(len(options.get(field, (None,))) for field in others)
            total += kinds * forms * after * (1 if rest else before)
        with located(*layer.location):
            limits.check("candidates", total, "up to this row, the layers can choose among")
        before = after


def placed_blocks(layers: Sequence[OpenLayer], frame: ArchSpec, spec: SpaceSpec, size: int) -> Iterator[PlacedBlock]:
    """Yield the blocks of a space from stem to head, for color images of `size` px, with duplicates."""
    stem = PlacedBlock(in_channels=3, size_in=size, row=resolve(frame, frame.stem))
    for channels in spec.stem.out_channels:
        yield stem.having(3, out_channels=channels)
    last, size_out = spec.stem.out_channels, conv_output_size(size, 1, spec.stem.stride)
    for place in places(layers, frame, spec, size):
        yield from place.narrowed()
        last, size_out = tuple(dict.fromkeys(after for _, after in place.channels)), place.size_out
    head = PlacedBlock(in_channels=last[0], size_in=size_out, row=resolve(frame, frame.head))
    for before, after in product(last, spec.head.out_channels):
        yield head.having(before, out_channels=after)


def _place(
    layer: OpenLayer, frame: ArchSpec, size: int, channels: tuple[tuple[int, int], ...], *, rest: bool = False
) -> Place:
    stride, widest = 1 if rest else layer.stride, channels[-1][0]
    return Place(
        name=f"{layer.name}.rest" if rest else layer.name,
        channels=channels,
        size_in=size,
        size_out=conv_output_size(size, 1, stride),
        stride=stride,
        repeats=tuple(count - 1 for count in layer.row.repeats if count > 1) if rest else (1,),
        expansions=layer.options().get(_field(layer, "expansion", rest=rest), ()),
        se_ratios=layer.options().get(_field(layer, "se_ratio", rest=rest), ()),
        blocks={
            name: PlacedBlock(in_channels=widest, size_in=size, row=resolve(frame, row))
            for name, row in _widest(layer, rest=rest)
        },
    )


def _widest(layer: OpenLayer, *, rest: bool) -> Iterator[tuple[str, BlockSpec]]:
    """Yield each candidate, or each kernel where that is open, with its widest row."""
    kernel = _field(layer, "kernel_size", rest=rest)
    for candidate in layer.ops:
        options = layer.options(candidate)
        chosen = {field: values[-1] for field, values in options.items()}
        for size in options.get(kernel, (None,)):
            choice = LayerChoice(candidate=candidate, **chosen | ({} if size is None else {kernel: size}))
            row = layer.rows(choice)[-1 if rest else 0]
            if rest:
                row = row.model_copy(update={"stride": 1})
            parts = (candidate, f"k{row.kernel_size}" if candidate is None or size is not None else None)
            yield "_".join(filter(None, parts)), row


def _field(layer: OpenLayer, field: str, *, rest: bool) -> str:
    """Return the field of a choice that holds a value of the first block, or of those after it."""
    own = rest and getattr(layer.row.rest, field, None) is not None
    return f"rest_{field}" if own else field
