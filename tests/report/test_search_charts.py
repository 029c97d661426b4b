"""The charts of the page of a search: shades, lines and points stand where their values are."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from fbnet_zoo.report.charts.axes import Axis, axis
from fbnet_zoo.report.charts.bars import ReferenceLine
from fbnet_zoo.report.charts.heatmap import ROW, heatmap
from fbnet_zoo.report.charts.lines import Line, lines
from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.search.compared import front
from tests.report.test_charts import HOSTILE, of_class, share

COURSE = [[0.25, 0.75, 0.0], [0.25, 0.5, 0.25], [0.05, 0.9, 0.05], [0.0, 1.0, 0.0]]


def opacities(map_: str) -> dict[tuple[int, int], float]:
    """Return how opaque each cell is, by column and row, as a browser would paint the paths."""
    found: dict[tuple[int, int], float] = {}
    for path in (each for each in ET.fromstring(map_).iter() if each.tag == "path"):
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v\d+h-\d+z", path.get("d", "")):
            for column in range(int(x), int(x) + int(width)):
                assert (column, int(y) // ROW) not in found
                found[column, int(y) // ROW] = float(path.get("fill-opacity", ""))
    return found


def test_cells_are_the_more_opaque_the_more_probable() -> None:
    drawn = opacities(heatmap(COURSE, label="theta", titles=("a", "b", "c")))
    cells = [(COURSE[column][row], drawn.get((column, row), 0.0)) for column in range(4) for row in range(3)]
    shades = [shade for _, shade in sorted(cells)]
    assert shades == sorted(shades)
    assert dict(cells)[0.0] == 0
    assert dict(cells)[1.0] == 1
    assert len(set(shades)) == len({probability for probability, _ in cells})


def test_equal_cells_in_a_row_are_one_shape() -> None:
    drawn = heatmap([[0.25, 0.75]] * 50, label="theta", titles=("a", "b"))
    assert drawn.count("M0 ") == drawn.count("h50") == 2


def test_break_and_frame_stand_where_they_are_said_to() -> None:
    drawn = ET.fromstring(heatmap(COURSE, label="theta", titles=("a", "b", "c"), chosen=1, after=1))
    (line,), (frame,) = of_class(drawn, "break"), of_class(drawn, "taken")
    assert share(line.get("x1", "")) == 25
    assert ROW - 2 < float(frame.get("y", "")) < ROW + 1
    assert of_class(ET.fromstring(heatmap(COURSE, label="theta", titles=("a", "b", "c"))), "taken") == []


def test_titles_of_charts_are_escaped() -> None:
    point = Point(x=1, y=1, title=HOSTILE, label=HOSTILE)
    frame = Frame(across=HOSTILE, up=HOSTILE, limit=ReferenceLine(value=1, text=HOSTILE))
    line = Line(label=HOSTILE, values=[1.0, 2.0])
    for drawn in (
        heatmap(COURSE, label=HOSTILE, titles=(HOSTILE,) * 3),
        scatter([point], frame, label=HOSTILE),
        lines([line], moments=[1, 2], noun=HOSTILE, write=str, label=HOSTILE),
    ):
        assert HOSTILE in " ".join(ET.fromstring(drawn).itertext())


def corners(drawn: str) -> list[list[tuple[float, float]]]:
    found = (each for each in ET.fromstring(drawn).iter() if each.tag == "polyline")
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", each.get("points", ""))] for each in found
    ]


def line_chart(*values: float | None, **options: float) -> str:
    moments = range(1, len(values) + 1)
    return lines([Line(label="a", values=values)], moments=moments, noun="epoch", write=str, label="a", **options)


def test_line_goes_through_its_values() -> None:
    ((first, middle, last),) = corners(line_chart(10.0, 20.0, 15.0))
    assert (first[0], middle[0], last[0]) == (0, 500, 1000)
    assert middle[1] < last[1] < first[1]
    assert last[1] == pytest.approx((first[1] + middle[1]) / 2, abs=0.1)


def test_line_is_broken_where_there_is_no_value() -> None:
    drawn = line_chart(None, 1.0, 2.0, None, 3.0, 4.0, None, 5.0)
    assert [len(piece) for piece in corners(drawn)] == [2, 2]
    assert len(of_class(ET.fromstring(drawn), "dot")) == 1


def test_reference_is_on_the_axis_of_the_lines() -> None:
    drawn = line_chart(10.0, 20.0, reference=15.0, washed=1)
    ((first, last),) = corners(drawn)
    (line,) = of_class(ET.fromstring(drawn), "reference")
    assert float(line.get("y1", "")) == pytest.approx((first[1] + last[1]) / 2, abs=0.1)


def test_moments_under_the_pointer_cover_the_chart_once() -> None:
    drawn = ET.fromstring(line_chart(*(float(at) for at in range(150))))
    spans = sorted((share(each.get("x", "")), share(each.get("width", ""))) for each in of_class(drawn, "hover"))
    assert len(spans) <= 60
    for (left, width), (right, _) in pairwise(spans):
        assert left + width == pytest.approx(right, abs=0.01)
    assert "epoch 150: a 149.0" in "".join(drawn.itertext())


def test_points_are_placed_by_their_values() -> None:
    points = [
        Point(x=x, y=y, title="", tone=tone) for x, y, tone in ((1, 10, "plain"), (2, 30, "warn"), (3, 20, "strong"))
    ]
    drawn = ET.fromstring(scatter(points, Frame(across="ms", up="%"), label="networks"))
    left, middle, right = ((share(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in of_class(drawn, "dot"))
    assert middle[0] - left[0] == pytest.approx(right[0] - middle[0], abs=0.01)
    assert left[1] - right[1] == pytest.approx(right[1] - middle[1], abs=0.01)
    assert middle[1] < right[1] < left[1]


def test_points_on_the_diagonal_are_equal() -> None:
    points = [Point(x=3, y=3, title="a"), Point(x=1, y=2, title="b", low=1.0, high=4.0)]
    drawn = ET.fromstring(scatter(points, Frame(across="ms", up="ms", diagonal=True), label="networks"))
    (line,), (whisker,), dots = of_class(drawn, "reference"), of_class(drawn, "whisker"), of_class(drawn, "dot")
    tall = float(line.get("y1", ""))
    above = [1 - float(dot.get("cy", "")) / tall - share(dot.get("cx", "")) / 100 for dot in dots]
    assert above[0] == pytest.approx(0, abs=1e-3)
    assert above[1] > 0.1
    assert 0 < float(whisker.get("y2", "")) < float(dots[1].get("cy", "")) < float(whisker.get("y1", "")) < tall


def test_front_is_what_no_point_beats() -> None:
    values = [(5, 1), (1, 3), (4, 9), (2, 2), (3, 7), (4, 8), (6, 9)]
    points = [Point(x=x, y=y, title="") for x, y in values]
    beaten = {(x, y) for x, y in values for a, b in values if a <= x and b >= y and (a, b) != (x, y)}
    assert [(point.x, point.y) for point in front(points)] == sorted(set(values) - beaten)


@pytest.mark.parametrize("values", [[0.0], [100.0], [-3.0, -3.0], [1e-5, 1.1e-5], [4e7, 5e9]])
def test_axis_has_room_and_numbers(values: list[float]) -> None:
    scale = axis(values)
    assert all(0 < scale.share(value) < 1 for value in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(scale.low <= tick <= scale.high for tick in ticks)


def test_axis_ends_at_its_top() -> None:
    assert max(Axis(low=90, high=110, top=100).ticks()) == 100
