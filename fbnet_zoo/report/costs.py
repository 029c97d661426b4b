"""Table of the cost of each part of a network."""

from collections.abc import Iterator

from markupsafe import Markup

from fbnet_zoo.complexity import BYTES_PER_VALUE, Cost
from fbnet_zoo.report.blocks import Block, part_title
from fbnet_zoo.report.charts.bars import meter
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.text import by, megabytes, share, short_count


def table(blocks: tuple[Block, ...], cost: Cost) -> Table:
    """Return the costs of stem, stages, head and classifier, each absolute and relative to the whole."""
    parts = cost.by_part()
    return Table(
        caption=f"Cost of one image of {by(cost.input_size, cost.input_size)} px, by part of the network",
        columns=columns("part", ">blocks", ">output", ">parameters", ">MACs", ">activations", ">peak memory"),
        rows=[
            (part_title(name), *_place(tuple(block for block in blocks if block.part == name)), *_amounts(part, cost))
            for name, part in parts.items()
        ],
        total=("total", str(len(blocks)), "", *_amounts(cost, cost)),
    )


def _place(members: tuple[Block, ...]) -> tuple[str, str]:
    last = members[-1]
    return str(len(members)), by(last.channels, last.size, last.size)


def _amounts(part: Cost, whole: Cost) -> Iterator[Markup]:
    yield _amount(short_count(part.params), part.params / whole.params, exact=f"{part.params:,}")
    yield _amount(short_count(part.macs), part.macs / whole.macs, exact=f"{part.macs:,}")
    size = part.activations * BYTES_PER_VALUE
    yield _amount(megabytes(size), part.activations / whole.activations, exact=f"{size:,} bytes")
    peak = part.peak_activations * BYTES_PER_VALUE
    yield span(megabytes(peak), title=f"{peak:,} bytes")


def _amount(text: str, of_whole: float, *, exact: str) -> Markup:
    """Return an amount with its share of the whole, as a number and as a bar."""
    return span(meter(of_whole) + span(text, title=exact) + span(share(of_whole), class_="share"), class_="amount")
