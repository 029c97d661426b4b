"""Heat maps of probabilities: rows are options, columns are moments such as epochs.

The opacity of a single hue shows the probability, which works in light and dark themes. Adjacent cells of equal
color are one shape, so that a page can contain many maps.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from markupsafe import Markup

from fbnet_zoo.report.charts.svg import element, percent, picture

ROW = 15
"""Height of a row, px; the same as that of the row names in the style sheet."""

_GAP = 2
"""Gap between two rows, px."""

_LEVELS = 20
"""Number of shades above 0."""

_GAMMA = 0.6
"""Exponent of the probability, so that 1/10, the uniform probability of ten options, is visible."""

_KEYS = (0, 0.05, 0.1, 0.25, 0.5, 0.75, 1)
_KEY_WIDTH = 38


def heatmap(
    columns: Sequence[Sequence[float]],
    *,
    label: str,
    titles: Sequence[str],
    chosen: int | None = None,
    after: int = 0,
) -> Markup:
    """Draw a map that fills the width of its container, without the names of the rows.

    Args:
        columns: probabilities of all options at each moment.
        label: description for screen readers.
        titles: tooltips of the rows.
        chosen: row with a frame (default: none).
        after: number of columns before a dashed line (default: no line).

    >>> drawn = heatmap([[0.5, 0.5], [1, 0]], label="theta", titles=("a", "b"), chosen=0)
    >>> drawn.count('class="row"'), drawn.count("<path")
    (2, 2)
    """
    height = len(titles) * ROW - _GAP
    cells = element(
        "svg",
        *_shades(columns),
        viewBox=f"0 0 {len(columns)} {height}",
        preserveAspectRatio="none",
        width="100%",
        height=height,
    )
    return picture(
        *(_row(title, at) for at, title in enumerate(titles)),
        cells,
        *(_break(after / len(columns), height) if after else ()),
        *(_frame(chosen) if chosen is not None else ()),
        label=label,
        height=height,
        class_="heat",
    )


def shade(probability: float) -> int:
    """Return the shade of a probability.

    >>> shade(0.0), shade(0.1), shade(1.0)
    (0, 5, 20)
    """
    return round(_LEVELS * min(1.0, max(0.0, probability)) ** _GAMMA)


def _shades(columns: Sequence[Sequence[float]]) -> Iterator[Markup]:
    """Draw all cells, with one path per shade."""
    paths: dict[int, list[str]] = {}
    for row, shares in enumerate(zip(*columns, strict=True)):
        start = 0
        for level, run in groupby(map(shade, shares)):
            width = len(list(run))
            if level:
                paths.setdefault(level, []).append(f"M{start} {row * ROW}h{width}v{ROW - _GAP}h-{width}z")
            start += width
    for level, path in sorted(paths.items()):
        yield element("path", d="".join(path), fill_opacity=level / _LEVELS)


def _row(title: str, at: int) -> Markup:
    return element("rect", element("title", title), y=at * ROW, width="100%", height=ROW - _GAP, class_="row")


def _break(share: float, height: float) -> Iterator[Markup]:
    yield element("line", x1=percent(share), x2=percent(share), y1=-2, y2=height + 2, class_="break")


def _frame(row: int) -> Iterator[Markup]:
    yield element("rect", y=row * ROW - 1, width="100%", height=ROW, rx=2, class_="taken")


def key() -> Markup:
    """Draw the legend of the shades.

    >>> key().count("<rect")
    14
    """
    return picture(
        *(part for at, probability in enumerate(_KEYS) for part in _key(probability, at * _KEY_WIDTH)),
        label="higher opacity means higher probability",
        width=len(_KEYS) * _KEY_WIDTH,
        height=28,
        class_="heat",
    )


def _key(probability: float, left: float) -> Iterator[Markup]:
    place = {"x": left, "width": _KEY_WIDTH - _GAP, "height": 12}
    yield element("rect", class_="row", **place)
    yield element("rect", class_="shade", fill_opacity=shade(probability) / _LEVELS, **place)
    middle = left + (_KEY_WIDTH - _GAP) / 2
    yield element("text", f"{probability:.0%}", x=middle, y=25, text_anchor="middle", class_="axis")
