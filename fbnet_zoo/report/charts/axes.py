"""Axes of charts that need not start at 0."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from fbnet_zoo.report.charts.bars import nice_ticks
from fbnet_zoo.report.charts.svg import element, percent

_ROOM = 0.08
"""Margin at each end, as a fraction of the range of values, so that no mark is clipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A linear axis.

    Attributes:
        low: value at the start.
        high: value at the end.
        top: largest value with a tick.
    """

    low: float
    high: float
    top: float = math.inf

    def share(self, value: float) -> float:
        """Return the position of a value: 0 at the start, 1 at the end."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self, *, most: int = 5) -> list[float]:
        """Return the round numbers on the axis, at most `most` + 1.

        >>> Axis(low=0.9, high=2.2).ticks()
        [1.0, 1.5, 2.0]
        """
        step = nice_ticks(self.high - self.low, most=most)[1]
        first, last = math.ceil(self.low / step - 1e-9), math.floor(min(self.high, self.top) / step + 1e-9)
        return [round(step * count, 12) for count in range(first, last + 1)]


def axis(values: Iterable[float], *, top: float = math.inf) -> Axis:
    """Return an axis that contains all values, with margins.

    >>> axis([10.0, 20.0]), axis([0.0])
    (Axis(low=9.2, high=20.8, top=inf), Axis(low=-0.08, high=1.08, top=inf))
    """
    known = list(values)
    low, high = min(known), max(known)
    if low == high:
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0.0, 1.0)
    room = _ROOM * (high - low)
    return Axis(low=low - room, high=high + room, top=top)


def tick_text(value: float) -> str:
    """Return a round number in few characters.

    >>> tick_text(0.025), tick_text(1500), tick_text(25e4), tick_text(15e5)
    ('0.025', '1500', '250 k', '1.5 M')
    """
    for unit, size, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if abs(value) >= least:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def level_lines(scale: Axis, height: float) -> Iterator[Markup]:
    """Draw the numbers of a vertical axis, left of the chart, and a grid line for each."""
    for tick in scale.ticks():
        at = height * (1 - scale.share(tick))
        yield element("line", x1=0, x2="100%", y1=at, y2=at, class_="grid")
        yield element("text", tick_text(tick), x=-6, y=at + 4, text_anchor="end", class_="axis")


def numbers_below(ticks: Iterable[float], scale: Axis, height: float) -> Iterator[Markup]:
    """Draw the numbers of a horizontal axis, below the chart, and a tick for each."""
    for tick in ticks:
        at, anchor = percent(scale.share(tick)), "end" if scale.share(tick) > 0.97 else "middle"
        yield element("line", x1=at, x2=at, y1=height, y2=height + 4, class_="grid")
        yield element("text", tick_text(tick), x=at, y=height + 16, text_anchor=anchor, class_="axis")
