"""A network drawn from its plan: one cell for each block, in groups for each output stride.

A cell shows the block as the tensors that flow through it, from left to right: the height of a shape is the number of
channels, on a square-root scale that the whole network shares. Cells are small pictures of their own, so that a page
can break the row anywhere; a residual connection never leaves its block, so that nothing is cut.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fbnet_zoo.report.blocks import Block, Shape, part_title
from fbnet_zoo.report.charts.svg import element, picture
from fbnet_zoo.report.text import share

WIDTH, HEIGHT = 74, 134
"""Of a cell, px."""

_FLOW = 46
"""Where the tensors flow, px from the top of a cell."""

_TALLEST = 68
"""Shape of the most channels of a network, px."""

_WIDTHS = {"pointwise": 12, "kernel": 22, "pool": 6}
"""Of shapes beside others, px."""

_SINGLE = 30
"""Width of a shape that is a block of its own, px."""

_EDGE = 4
"""Where the arc of a residual connection leaves and comes back, px from the sides of a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Blocks under one heading.

    Attributes:
        title: `Stem`, `Stage 8`, ….
        size: side of the output, px.
        macs_share: of the whole network's.
        cells: a picture of each block.
    """

    title: str
    size: int
    macs_share: float
    cells: tuple[Markup, ...]

    @property
    def cost(self) -> str:
        """Its share of the MACs in words."""
        return f"{share(self.macs_share)} MACs"


def draw(blocks: tuple[Block, ...]) -> tuple[Group, ...]:
    """Draw all blocks of a network, for a page that sets the groups one after the other."""
    most_channels = max(max(shape.before, shape.after) for block in blocks for shape in block.shapes)
    most_macs = max(block.macs_share for block in blocks)
    return tuple(
        _group(part_title(part), tuple(members), most_channels, most_macs)
        for part, members in groupby(blocks, key=lambda block: block.part)
    )


def _group(title: str, members: tuple[Block, ...], most_channels: int, most_macs: float) -> Group:
    return Group(
        title=title,
        size=members[-1].size,
        macs_share=sum(block.macs_share for block in members),
        cells=tuple(_cell(block, most_channels, most_macs) for block in members),
    )


def _cell(block: Block, most_channels: int, most_macs: float) -> Markup:
    """Draw one block; its numbers stand below it."""
    tall = [_height(max(shape.before, shape.after), most_channels) for shape in block.shapes]
    return picture(
        element("line", x1=0, x2=WIDTH, y1=_FLOW, y2=_FLOW, class_="flow"),
        *(_arc(max(tall)) if block.residual else ()),
        *_trapezoids(block.shapes, most_channels),
        *(_badge("SE", WIDTH / 2) if block.se else ()),
        *(_stride_mark(block.stride) if block.stride > 1 else ()),
        _line(block.heading, 98, "label"),
        _line(f"{block.channels} ch", 111, "axis"),
        *_macs(block, most_macs),
        label=block.title,
        title=block.title,
        width=WIDTH,
        height=HEIGHT,
        class_="cell",
    )


def _height(channels: int, most_channels: int) -> float:
    return _TALLEST * math.sqrt(channels / most_channels)


def _trapezoids(shapes: tuple[Shape, ...], most_channels: int) -> Iterator[Markup]:
    widths = [_SINGLE if len(shapes) == 1 else _WIDTHS[shape.kind] for shape in shapes]
    left = (WIDTH - sum(widths)) / 2
    for shape, width in zip(shapes, widths, strict=True):
        before, after = _height(shape.before, most_channels) / 2, _height(shape.after, most_channels) / 2
        corners = (
            (left, _FLOW - before),
            (left + width, _FLOW - after),
            (left + width, _FLOW + after),
            (left, _FLOW + before),
        )
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        yield element("polygon", points=points, class_=f"shape {shape.kind}")
        left += width


def _arc(tall: float) -> Iterator[Markup]:
    """Draw the connection that carries the input around the block, and the sum at its end."""
    top, right = _FLOW - tall / 2 - 7, WIDTH - _EDGE
    path = f"M{_EDGE},{_FLOW} V{top + 6:.1f} q0,-6 6,-6 H{right - 6} q6,0 6,6 V{_FLOW}"
    yield element("path", d=path, class_="arc")
    yield element("circle", cx=right, cy=_FLOW, r=3.5, class_="sum")


def _badge(text: str, x: float) -> Iterator[Markup]:
    yield element("rect", x=x - 10, y=_FLOW - 7, width=20, height=14, rx=7, class_="badge")
    yield element("text", text, x=x, y=_FLOW + 3.5, text_anchor="middle", class_="badge-text")


def _stride_mark(stride: int) -> Iterator[Markup]:
    yield element("text", f"÷{stride}", x=3, y=_FLOW - 6, class_="stride")


def _line(text: str, y: float, class_: str) -> Markup:
    return element("text", text, x=WIDTH / 2, y=y, text_anchor="middle", class_=class_)


def _macs(block: Block, most_macs: float) -> Iterator[Markup]:
    yield _line(share(block.macs_share), 124, "axis")
    room = WIDTH - 16
    yield element("rect", x=8, y=129, width=room, height=3, class_="track")
    yield element("rect", x=8, y=129, width=room * block.macs_share / most_macs, height=3, class_="load")
