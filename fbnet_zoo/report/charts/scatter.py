"""Scatter charts with a point for each network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from fbnet_zoo.report.charts.axes import Axis, axis, level_lines, numbers_below
from fbnet_zoo.report.charts.bars import ReferenceLine, Tone
from fbnet_zoo.report.charts.svg import element, percent, picture

_TALL, _BELOW = 280, 36
"""Heights of the chart, and of the axis and its title, px."""

_FAR = 0.85
"""Position, as a fraction of the width, beyond which centered text might be clipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a chart.

    Attributes:
        x: horizontal value.
        y: vertical value.
        title: tooltip.
        label: text next to the point.
        low: lower end of the interval of `y`, if it has one.
        high: upper end of the interval.
        tone: style; `strong` is highlighted and larger, `warn` is hollow.
    """

    x: float
    y: float
    title: str
    label: str = ""
    low: float | None = None
    high: float | None = None
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Axes and reference lines of a chart.

    Attributes:
        across: title of the horizontal axis, with its unit.
        up: title of the vertical axis, with its unit.
        limit: dashed vertical line.
        diagonal: whether both axes have the same scale, with a line at y = x.
        top: largest value with a tick on the vertical axis.
    """

    across: str
    up: str
    limit: ReferenceLine | None = None
    diagonal: bool = False
    top: float = float("inf")


def scatter(points: Sequence[Point], frame: Frame, *, label: str, front: Sequence[Point] = ()) -> Markup:
    """Draw points.

    Args:
        points: points, at least one.
        frame: axes and reference lines.
        label: description for screen readers.
        front: points to join by a line, in this order.

    >>> chart = scatter([Point(x=1, y=2, title="a")], Frame(across="ms", up="%"), label="networks")
    >>> chart.count("<circle")
    1
    """
    across, up = _axes(points, frame)
    return picture(
        element("text", frame.up, x=0, y=-24, class_="axis"),
        *level_lines(up, _TALL),
        *numbers_below(across.ticks(most=7), across, _TALL),
        element("text", frame.across, x="100%", y=_TALL + 31, text_anchor="end", class_="axis"),
        *((element("line", x1=0, x2="100%", y1=_TALL, y2=0, class_="reference"),) if frame.diagonal else ()),
        *(_limit(frame.limit, across) if frame.limit else ()),
        *(_joined(pair, across, up) for pair in pairwise(front)),
        *(_point(point, across, up) for point in sorted(points, key=lambda point: point.tone == "strong")),
        label=label,
        height=_TALL + _BELOW,
        class_="chart inset scattered",
    )


def _axes(points: Sequence[Point], frame: Frame) -> tuple[Axis, Axis]:
    widths = [point.x for point in points] + ([frame.limit.value] if frame.limit else [])
    ends = (value for point in points for value in (point.y, point.low, point.high))
    heights = [value for value in ends if value is not None]
    if frame.diagonal:
        both = axis([*widths, *heights])
        return both, both
    return axis(widths), axis(heights, top=frame.top)


def _limit(limit: ReferenceLine, across: Axis) -> Iterator[Markup]:
    share = across.share(limit.value)
    anchor = "end" if share > _FAR else "start" if share < 1 - _FAR else "middle"
    yield element("line", x1=percent(share), x2=percent(share), y1=0, y2=_TALL, class_="reference")
    yield element("text", limit.text, x=percent(share), y=-6, text_anchor=anchor, class_="axis")


def _joined(pair: tuple[Point, Point], across: Axis, up: Axis) -> Markup:
    (x1, y1), (x2, y2) = (_place(point, across, up) for point in pair)
    return element("line", x1=x1, x2=x2, y1=y1, y2=y2, class_="front")


def _place(point: Point, across: Axis, up: Axis) -> tuple[str, float]:
    return percent(across.share(point.x)), _TALL * (1 - up.share(point.y))


def _point(point: Point, across: Axis, up: Axis) -> Markup:
    x, y = _place(point, across, up)
    return element(
        "g",
        element("title", point.title),
        *(_interval(point.low, point.high, x, up) if point.low is not None and point.high is not None else ()),
        element("circle", cx=x, cy=y, r=7 if point.tone == "strong" else 5, class_=f"dot {point.tone}"),
        *(_beside(point, x, y, across) if point.label else ()),
    )


def _interval(low: float, high: float, x: str, up: Axis) -> Iterator[Markup]:
    ends = [_TALL * (1 - up.share(value)) for value in (low, high)]
    yield element("line", x1=x, x2=x, y1=ends[0], y2=ends[1], class_="whisker")


def _beside(point: Point, x: str, y: float, across: Axis) -> Iterator[Markup]:
    """Draw a label above the point, where no other point or line of a front can be."""
    anchor, aside = ("start", 6) if across.share(point.x) < 1 - _FAR else ("end", -6)
    yield element("text", point.label, x=x, dx=aside, y=y - 12, text_anchor=anchor, class_="value")
