"""Line charts of values over epochs, which stretch with the page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fbnet_zoo.report.charts.axes import Axis, axis, level_lines, numbers_below
from fbnet_zoo.report.charts.bars import Tone
from fbnet_zoo.report.charts.svg import element, percent, picture

_TALL, _WIDE, _AXIS = 150, 1000, 20
"""Height of the chart, px, width of the grid before it is stretched, and height of the axis, px."""

_MOST_TITLES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes:
        label: name of the line.
        values: values at all moments; `None` if missing.
        tone: color.
    """

    label: str
    values: Sequence[float | None]
    tone: Tone = "strong"


def lines(
    drawn: Sequence[Line],
    *,
    moments: Sequence[int],
    noun: str,
    write: Callable[[float], str],
    label: str,
    reference: float | None = None,
    washed: int = 0,
    top: float = float("inf"),
) -> Markup:
    """Draw lines over moments.

    Args:
        drawn: lines, of which at least one has a value.
        moments: numbers in ascending order, such as epochs.
        noun: name of a moment, such as `epoch`.
        write: function that formats a value for tooltips.
        label: description for screen readers.
        reference: value of a dashed horizontal line (default: no line).
        washed: number of moments at the start with a shaded background (default: 0).
        top: largest value with a tick (default: no limit).

    >>> chart = lines([Line(label="a", values=[None, 1.0, 2.0])], moments=[1, 2, 3], noun="epoch", write=str, label="a")
    >>> chart.count("<polyline"), "epoch 3: a 2.0" in chart
    (1, True)
    """
    known = [value for line in drawn for value in line.values if value is not None]
    up = axis(known if reference is None else [*known, reference], top=top)
    across = _across(moments)
    return picture(
        *(_wash(across, moments[washed - 1]) if washed else ()),
        *level_lines(up, _TALL),
        *numbers_below((tick for tick in across.ticks() if tick == int(tick)), across, _TALL),
        *(() if reference is None else (_reference(reference, up),)),
        _plot(drawn, moments, across, up),
        *(dot for line in drawn for dot in _dots(line, moments, across, up)),
        *_titles(drawn, moments, across, noun, write),
        label=label,
        height=_TALL + _AXIS,
        class_="chart inset",
    )


def _across(moments: Sequence[int]) -> Axis:
    return Axis(low=moments[0], high=moments[-1]) if len(moments) > 1 else axis(moments)


def _wash(across: Axis, last: int) -> Iterator[Markup]:
    yield element("rect", width=percent(min(1.0, across.share(last))), height=_TALL, class_="wash")


def _reference(reference: float, up: Axis) -> Markup:
    at = _TALL * (1 - up.share(reference))
    return element("line", x1=0, x2="100%", y1=at, y2=at, class_="reference")


def _plot(drawn: Sequence[Line], moments: Sequence[int], across: Axis, up: Axis) -> Markup:
    """Draw the lines on a stretched grid, without stretching their stroke width."""
    paths = (
        element("polyline", points=" ".join(_corners(run, across, up)), class_=f"line {line.tone}")
        for line in drawn
        for run in _runs(line, moments)
        if len(run) > 1
    )
    box = f"0 0 {_WIDE} {_TALL}"
    return element("svg", *paths, viewBox=box, preserveAspectRatio="none", width="100%", height=_TALL)


def _runs(line: Line, moments: Sequence[int]) -> Iterator[list[tuple[int, float]]]:
    """Yield the segments of a line between missing values."""
    pairs = zip(moments, line.values, strict=True)
    for there, piece in groupby(pairs, key=lambda pair: pair[1] is not None):
        if there:
            yield [(moment, value) for moment, value in piece if value is not None]


def _corners(run: Sequence[tuple[int, float]], across: Axis, up: Axis) -> Iterator[str]:
    for moment, value in run:
        yield f"{_WIDE * across.share(moment):.1f},{_TALL * (1 - up.share(value)):.1f}"


def _dots(line: Line, moments: Sequence[int], across: Axis, up: Axis) -> Iterator[Markup]:
    """Draw isolated values, which no line would show."""
    for run in _runs(line, moments):
        if len(run) == 1:
            x, y = percent(across.share(run[0][0])), _TALL * (1 - up.share(run[0][1]))
            yield element("circle", cx=x, cy=y, r=3, class_=f"dot {line.tone}")


def _titles(
    drawn: Sequence[Line], moments: Sequence[int], across: Axis, noun: str, write: Callable[[float], str]
) -> Iterator[Markup]:
    every = -(-len(moments) // _MOST_TITLES)
    width = every / max(1, len(moments) - 1)
    for at in range(len(moments) - 1, -1, -every):
        values = ((line.label, line.values[at]) for line in drawn)
        words = ", ".join(f"{label} {write(value)}" for label, value in values if value is not None)
        left, right = (across.share(moments[at]) + side * width / 2 for side in (-1, 1))
        left, right = max(0.0, left), min(1.0, right)
        title = element("title", f"{noun} {moments[at]}: {words or 'no value'}")
        yield element("rect", title, x=percent(left), width=percent(right - left), height=_TALL, class_="hover")
