"""Predicted against measured latency of whole networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.text import amount, counted
from fbnet_zoo.search.record import MeasuredRecord
from fbnet_zoo.stats import mape, spearman

_ENOUGH = 3
"""Lowest number of networks for which the mean error is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedView:
    """Predicted against measured latency.

    Attributes:
        about: agreement of prediction and measurement, in words.
        chart: scatter plot with a point for each network.
        table: predicted and measured latencies.
    """

    about: str
    chart: Markup
    table: Table


def view(measured: Sequence[MeasuredRecord], chosen: str) -> PredictedView:
    """Return the view of measured networks, at least one.

    Args:
        measured: the measured networks.
        chosen: name of the network that the search returned.
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
        return f"{count} measured as a whole: too few to judge the table's predictions."
    predicted, median = [each.predicted_ms for each in measured], [each.measured_ms for each in measured]
    return (
        f"Over {count} measured as a whole, the table's mean absolute percentage error (MAPE) is "
        f"{mape(predicted, median):.1f} %, its rank correlation (Spearman) {spearman(predicted, median):.3f}."
    )


def _point(each: MeasuredRecord, chosen: str) -> Point:
    both = f"predicted {amount(each.predicted_ms, 'ms')}, measured {amount(each.measured_ms, 'ms')}"
    return Point(
        x=each.predicted_ms,
        y=each.measured_ms,
        low=each.p10_ms,
        high=each.p90_ms,
        title=f"{each.name}: {both}",
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
