"""Drawing of a network: one cell per block, grouped by output stride.

A cell shows the tensors that flow through the block from left to right; the height of a shape is the number of
channels, on a square-root scale common to the whole network. Each cell is a separate picture, so that a page can break
the row between any two; residual connections stay inside their block.
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
"""Size of a cell, px."""

_FLOW = 46
"""Vertical position of the tensors, px from the top of a cell."""

_TALLEST = 68
"""Height of the shape with the most channels in a network, px."""

_WIDTHS = {"pointwise": 12, "kernel": 22, "pool": 6}
"""Widths of shapes in blocks of several layers, px."""

_SINGLE = 30
"""Width of a shape in a block of one layer, px."""

_EDGE = 4
"""Distance of the ends of a residual connection from the sides of a cell, px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Blocks under one heading.

    Attributes:
        title: heading, such as `Stem` or `Stage 8`.
        size: side of the output, px.
        macs_share: fraction of the network's MACs.
        cells: pictures of the blocks.
    """

    title: str
    size: int
    macs_share: float
    cells: tuple[Markup, ...]

    @property
    def cost(self) -> str:
        """Fraction of the MACs, as text."""
        return f"{share(self.macs_share)} MACs"


def draw(blocks: tuple[Block, ...]) -> tuple[Group, ...]:
    """Return the pictures of all blocks of a network, in groups."""
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
    """Draw one block, with its numbers below."""
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
    """Draw a residual connection, and the sum at its end."""
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
