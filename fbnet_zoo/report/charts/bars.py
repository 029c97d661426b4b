"""Bar, strip and column charts as SVG that stretches with the page: widths are relative, text keeps its size.

Colors are classes of the style sheet: `plain`, `strong` (highlighted) and `warn`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from fbnet_zoo.report.charts.svg import element, percent, picture

Tone = Literal["plain", "strong", "warn"]

_ROW, _BAR, _AXIS = 44, 16, 22
"""Heights of a row of a bar chart, of the bar in it, and of the axis, px."""

_ROOM = 0.78
"""Width of the longest bar, as a fraction; its value follows it."""

_CHARACTER = 6.4
"""Width of a character in a label, px."""

_TALL, _HEADROOM = 160, 14
"""Heights of a column chart, and of the margin above its tallest column, px."""

_NARROW, _WIDE = 330, 1000
"""Page widths that labels must fit, px: of a phone and of a desktop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of a bar chart.

    Attributes:
        label: text above the bar.
        value: length of the bar.
        text: value as text, after the bar.
        low: lower end of the value's interval, if it has one.
        high: upper end of the interval.
    """

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLine:
    """A labeled dashed line across a chart."""

    value: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A segment of a strip, or a column of a column chart.

    Attributes:
        value: width or height, in a unit common to all marks.
        title: tooltip.
        label: text inside the segment, if it fits; unused for columns.
    """

    value: float
    title: str
    label: str = ""
    tone: Tone = "plain"


def bars(rows: Sequence[Bar], *, unit: str, label: str, reference: ReferenceLine | None = None) -> Markup:
    """Draw horizontal bars from 0, with whiskers for intervals.

    >>> chart = bars([Bar(label="fp32", value=12.0, text="12.0 ms", low=11.5, high=12.5)], unit="ms", label="latency")
    >>> chart.count('class="bar plain"'), chart.count('class="whisker"')
    (1, 3)
    """
    ends = [max(row.value, row.high or 0) for row in rows] + ([reference.value] if reference else [])
    ticks = nice_ticks(max(ends))
    scale = _ROOM / max(ends) if max(ends) else 0
    height = _ROW * len(rows)
    return picture(
        *(_grid_line(tick, tick * scale, height) for tick in ticks if tick * scale < 1),
        *(_reference_line(reference, scale, height) if reference else ()),
        *(_bar(row, at * _ROW, scale) for at, row in enumerate(rows)),
        element("text", unit, x="100%", y=height + 15, text_anchor="end", class_="axis"),
        label=label,
        height=height + _AXIS + (15 if reference else 0),
        class_="chart",
    )


def nice_ticks(largest: float, *, most: int = 5) -> list[float]:
    """Return 0 and the round numbers up to `largest`, in at most `most` steps.

    >>> nice_ticks(12.3), nice_ticks(0.7)
    ([0.0, 5.0, 10.0], [0.0, 0.2, 0.4, 0.6])
    """
    if largest <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(largest / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if largest <= power * factor * most)
    return [round(step * count, 12) for count in range(int(largest / step + 1e-9) + 1)]


def _grid_line(tick: float, share: float, height: float) -> Markup:
    at, anchor = percent(share), "start" if tick == 0 else "middle"
    line = element("line", x1=at, x2=at, y1=0, y2=height, class_="grid")
    return line + element("text", f"{tick:g}", x=at, y=height + 15, text_anchor=anchor, class_="axis")


def _bar(row: Bar, top: float, scale: float) -> Markup:
    middle = top + 20 + _BAR / 2
    end = percent(max(row.value, row.high or 0) * scale)
    return element(
        "g",
        element("title", f"{row.label}: {row.text}"),
        element("text", row.label, x=0, y=top + 14, class_="label"),
        element("rect", y=top + 20, width=percent(row.value * scale), height=_BAR, rx=2, class_=f"bar {row.tone}"),
        *(_whisker(row.low * scale, row.high * scale, middle) if row.low is not None and row.high is not None else ()),
        element("text", row.text, x=end, dx=8, y=middle + 4.5, class_="value"),
    )


def _whisker(low: float, high: float, middle: float) -> Iterator[Markup]:
    start, end = percent(low), percent(high)
    yield element("line", x1=start, x2=end, y1=middle, y2=middle, class_="whisker")
    for at in (start, end):
        yield element("line", x1=at, x2=at, y1=middle - 5, y2=middle + 5, class_="whisker")


def _reference_line(reference: ReferenceLine, scale: float, height: float) -> Iterator[Markup]:
    at, anchor = percent(reference.value * scale), "end" if reference.value * scale > _ROOM / 2 else "start"
    yield element("line", x1=at, x2=at, y1=0, y2=height + 20, class_="reference")
    yield element("text", reference.text, x=at, y=height + 32, text_anchor=anchor, class_="axis")


def strip(rows: Sequence[Sequence[Mark]], *, label: str) -> Markup:
    """Draw rows of segments below each other, like a flame graph; all rows have the same scale.

    A label is omitted if it does not fit on a desktop, and hidden on phones if it does not fit there.

    >>> drawn = strip([[Mark(label="conv", value=3, title="conv: 3 ms"), Mark(label="add", value=1, title="add")]],
    ...     label="operators")
    >>> drawn.count("<rect"), '75%' in drawn
    (2, True)
    """
    total = max((sum(mark.value for mark in row) for row in rows), default=0)
    tall, gap = 30, 2
    drawn = (
        placed
        for at, row in enumerate(rows)
        for placed in _pieces(row, top=at * (tall + gap), height=tall, total=total)
    )
    return picture(*drawn, label=label, height=len(rows) * (tall + gap) - gap, class_="strip")


def _pieces(row: Sequence[Mark], *, top: float, height: float, total: float) -> Iterator[Markup]:
    start = 0.0
    for mark in row:
        width = mark.value / total if total else 0
        yield element(
            "svg",
            element("title", mark.title),
            element("rect", width="100%", height=height, class_=f"segment {mark.tone}"),
            *_fitting(mark, width, height),
            x=percent(start),
            y=top,
            width=percent(width),
            height=height,
        )
        start += width


def _fitting(mark: Mark, width: float, height: float) -> Iterator[Markup]:
    needed = len(mark.label) * _CHARACTER + 8
    if needed <= width * _WIDE:
        class_ = mark.tone if needed <= width * _NARROW else f"{mark.tone} roomy"
        yield element("text", mark.label, x="50%", y=height / 2 + 4, text_anchor="middle", class_=class_)


def columns(values: Sequence[Mark], *, unit: str, label: str, top: float) -> Markup:
    """Draw vertical columns from 0; values above `top` are clipped, negative ones are a thin line.

    >>> marks = [Mark(value=20, title="a: 20 dB"), Mark(value=-3, title="b: -3 dB")]
    >>> columns(marks, unit="dB", label="SQNR", top=60).count("<rect")
    2
    """
    scale = (_TALL - _HEADROOM) / top
    return picture(
        *(_level(level, _TALL - level * scale, unit) for level in nice_ticks(top, most=4)),
        *(_column(mark, at, len(values), scale * min(mark.value, top)) for at, mark in enumerate(values)),
        label=label,
        height=_TALL + 1,
        class_="chart inset",
    )


def _level(level: float, y: float, unit: str) -> Markup:
    line = element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid")
    return line + element("text", f"{level:g} {unit}", x=-6, y=y + 4, text_anchor="end", class_="axis")


def _column(mark: Mark, at: int, count: int, height: float) -> Markup:
    return element(
        "rect",
        element("title", mark.title),
        x=percent((at + 0.1) / count),
        y=_TALL - max(height, 1),
        width=percent(0.8 / count),
        height=max(height, 1),
        class_=f"bar {mark.tone}",
    )


def meter(share: float) -> Markup:
    """Draw a thin bar for a cell of a table, next to the number.

    >>> meter(0.25)
    Markup('<svg width="100%" height="4" class="meter" aria-hidden="true"><rect width="25%" height="4" rx="1"/></svg>')
    """
    bar = element("rect", width=percent(min(1.0, max(0.0, share))), height=4, rx=1)
    return element("svg", bar, width="100%", height=4, class_="meter", aria_hidden="true")
