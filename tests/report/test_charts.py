"""Charts: lengths, marks and words of the SVG that is drawn."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from jinja2 import UndefinedError

from fbnet_zoo.report.charts.bars import Bar, Mark, ReferenceLine, bars, columns, meter, nice_ticks, strip
from fbnet_zoo.report.charts.svg import element, picture
from fbnet_zoo.report.html import render

HOSTILE = "<script>alert('x')</script>&\""


def share(length: str) -> float:
    assert length.endswith("%")
    return float(length[:-1])


def of_class(root: ET.Element, class_: str) -> list[ET.Element]:
    return [found for found in root.iter() if class_ in found.get("class", "").split()]


def test_bars_are_as_long_as_their_values() -> None:
    rows = [Bar(label="a", value=10.0, text="10 ms"), Bar(label="b", value=2.5, text="2.5 ms", tone="warn")]
    long, short = of_class(ET.fromstring(bars(rows, unit="ms", label="times")), "bar")
    assert share(long.get("width", "")) == pytest.approx(4 * share(short.get("width", "")), rel=1e-3)
    assert short.get("class") == "bar warn"


def test_whiskers_span_the_interval_on_the_scale_of_the_bars() -> None:
    drawn = ET.fromstring(bars([Bar(label="a", value=10, text="10 ms", low=8, high=12)], unit="ms", label="times"))
    (bar,), (span, *caps) = of_class(drawn, "bar"), of_class(drawn, "whisker")
    per_ms = share(bar.get("width", "")) / 10
    assert [share(span.get(end, "")) / per_ms for end in ("x1", "x2")] == pytest.approx([8, 12], rel=1e-3)
    assert [cap.get("x1") for cap in caps] == [span.get("x1"), span.get("x2")]


def test_value_without_interval_has_no_whisker() -> None:
    assert 'class="whisker"' not in bars([Bar(label="a", value=1, text="1 ms")], unit="ms", label="times")


def test_reference_stands_at_its_value_and_fits() -> None:
    reference = ReferenceLine(value=20, text="before, 20 ms")
    drawn = ET.fromstring(bars([Bar(label="a", value=5, text="5 ms")], unit="ms", label="times", reference=reference))
    (bar,), (line,) = of_class(drawn, "bar"), of_class(drawn, "reference")
    assert share(line.get("x1", "")) == pytest.approx(4 * share(bar.get("width", "")), rel=1e-3)
    assert share(line.get("x1", "")) <= 100
    assert "before, 20 ms" in "".join(drawn.itertext())


def test_bars_of_nothing_are_drawn() -> None:
    drawn = ET.fromstring(bars([Bar(label="a", value=0, text="0 ms")], unit="ms", label="times"))
    assert [bar.get("width") for bar in of_class(drawn, "bar")] == ["0%"]


def test_chart_says_what_it_shows() -> None:
    drawn = ET.fromstring(bars([Bar(label="fp32", value=3, text="3.00 ms")], unit="ms", label="all the times"))
    assert (drawn.get("role"), drawn.get("aria-label")) == ("img", "all the times")
    assert {"fp32", "3.00 ms", "ms"} <= set(drawn.itertext())


@pytest.mark.parametrize("largest", [0.003, 0.7, 1, 9.99, 10, 12.3, 480, 1e6])
def test_ticks_are_few_even_and_inside(largest: float) -> None:
    ticks = nice_ticks(largest)
    steps = [after - before for before, after in pairwise(ticks)]
    assert ticks[0] == 0
    assert ticks[-1] <= largest * (1 + 1e-9)
    assert 2 <= len(ticks) <= 6
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_strip_shares_its_width() -> None:
    marks = [Mark(value=value, title=f"{value} ms", label="x") for value in (1, 2, 3, 6)]
    drawn = ET.fromstring(strip([marks], label="operators"))
    pieces = [piece for piece in drawn if piece.tag == "svg"]
    widths = [share(piece.get("width", "")) for piece in pieces]
    starts = [share(piece.get("x", "")) for piece in pieces]
    assert widths == pytest.approx([100 / 12, 200 / 12, 25, 50], abs=1e-3)
    assert sum(widths) == pytest.approx(100, abs=1e-2)
    assert starts == pytest.approx([0, *(sum(widths[: at + 1]) for at in range(3))], abs=1e-2)


def test_rows_of_a_strip_are_on_one_scale() -> None:
    drawn = ET.fromstring(strip([[Mark(value=8, title="all")], [Mark(value=2, title="part")]], label="operators"))
    widths = {piece.get("y"): share(piece.get("width", "")) for piece in drawn if piece.tag == "svg"}
    assert sorted(widths.values()) == pytest.approx([25, 100])


def test_strip_marks_pieces_and_writes_only_labels_that_fit() -> None:
    marks = [Mark(value=97, title="big", label="Conv"), Mark(value=3, title="small", label="HardSwish", tone="warn")]
    drawn = ET.fromstring(strip([marks], label="operators"))
    assert [text.text for text in drawn.iter("text")] == ["Conv"]
    assert [piece.get("class") for piece in of_class(drawn, "segment")] == ["segment plain", "segment warn"]
    assert [title.text for title in drawn.iter("title")] == ["big", "small"]


def test_label_that_fits_a_desk_only_is_marked() -> None:
    marks = [Mark(value=10, title="", label="Convolution"), Mark(value=90, title="", label="Gemm")]
    labels = {text.text: text.get("class", "") for text in ET.fromstring(strip([marks], label="x")).iter("text")}
    assert "roomy" in labels["Convolution"]
    assert "roomy" not in labels["Gemm"]


def test_columns_are_as_tall_as_their_values_and_cut_at_the_top() -> None:
    values = [Mark(value=value, title=f"{value} dB") for value in (40, 20, 300, -5)]
    drawn = ET.fromstring(columns(values, unit="dB", label="SQNR", top=80))
    tall, half, cut, below = (float(bar.get("height", "")) for bar in of_class(drawn, "bar"))
    assert tall == pytest.approx(2 * half)
    assert cut == pytest.approx(2 * tall)
    assert below == 1
    assert "300 dB" in "".join(drawn.itertext())


@pytest.mark.parametrize(("value", "width"), [(0.25, "25%"), (-1, "0%"), (7, "100%")])
def test_meter_stays_inside_its_cell(value: float, width: str) -> None:
    drawn = ET.fromstring(meter(value))
    assert drawn[0].get("width") == width
    assert drawn.get("aria-hidden") == "true"


def test_hostile_text_stays_text() -> None:
    drawn = (
        bars([Bar(label=HOSTILE, value=1, text=HOSTILE)], unit=HOSTILE, label=HOSTILE),
        strip([[Mark(value=1, title=HOSTILE, label=HOSTILE)]], label=HOSTILE),
        columns([Mark(value=1, title=HOSTILE)], unit=HOSTILE, label=HOSTILE, top=1),
        picture(element("text", HOSTILE), label=HOSTILE, title=HOSTILE, height=1),
    )
    for svg in drawn:
        assert "<script" not in svg
        root = ET.fromstring(svg)
        assert root.get("aria-label") == HOSTILE
        assert HOSTILE in list(root.itertext())


def test_numbers_are_short() -> None:
    assert element("line", x1=1 / 3, x2=2.0, y1=0, y2=None) == '<line x1="0.333" x2="2" y1="0"/>'


def test_missing_value_of_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'profile' is undefined"):
        render("profile.html.jinja", name="tiny")
