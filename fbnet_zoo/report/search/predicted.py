"""How well the latency table predicts whole networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.text import amount, counted
from fbnet_zoo.search.record import MeasuredRecord
from fbnet_zoo.stats import mape, spearman

_ENOUGH = 3
"""Networks from which on an error in the mean says something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedView:
    """Predicted against measured latency.

    Attributes:
        about: how well they agree, in words.
        chart: a point for each network.
        table: their numbers.
    """

    about: str
    chart: Markup
    table: Table


def view(measured: Sequence[MeasuredRecord], chosen: str) -> PredictedView:
    """Draw networks that were measured; there is at least one.

    Args:
        measured: the networks.
        chosen: name of the one that the search returned.
    """
    return PredictedView(
        about=_about(measured),
        chart=scatter(
            [_point(each, chosen) for each in measured],
            Frame(across="predicted by the table, ms", up="measured, ms", diagonal=True),
            label=f"measured against predicted latency of {counted(len(measured), 'network')}",
        ),
        table=_table(measured),
    )


def _about(measured: Sequence[MeasuredRecord]) -> str:
    count = counted(len(measured), "network")
    if len(measured) < _ENOUGH:
        return f"{count} measured whole, too few to tell how well the table predicts."
    predicted, median = [each.predicted_ms for each in measured], [each.measured_ms for each in measured]
    return (
        f"Over {count} measured whole, the table's mean absolute error (MAPE) is {mape(predicted, median):.1f} %, "
        f"its rank correlation (Spearman) {spearman(predicted, median):.3f}."
    )


def _point(each: MeasuredRecord, chosen: str) -> Point:
    said = f"predicted {amount(each.predicted_ms, 'ms')}, measured {amount(each.measured_ms, 'ms')}"
    return Point(
        x=each.predicted_ms,
        y=each.measured_ms,
        low=each.p10_ms,
        high=each.p90_ms,
        title=f"{each.name}: {said}",
        label="chosen" if each.name == chosen else "",
        tone="strong" if each.name == chosen else "plain",
    )


def _table(measured: Sequence[MeasuredRecord]) -> Table:
    return Table(
        caption="Predicted and measured latency",
        columns=columns("network", ">predicted", ">measured median", ">p10", ">p90", ">error of the table"),
        rows=[tuple(_row(each)) for each in measured],
    )


def _row(each: MeasuredRecord) -> Iterator[str]:
    yield each.name
    yield from (amount(value, "ms") for value in (each.predicted_ms, each.measured_ms, each.p10_ms, each.p90_ms))
    yield f"{100 * (each.predicted_ms / each.measured_ms - 1):+.1f} %"
