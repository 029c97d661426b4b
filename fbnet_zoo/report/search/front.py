"""Networks for several limits, from the supernet of one search."""

from collections.abc import Iterator

from markupsafe import Markup

from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.search.compared import front
from fbnet_zoo.report.search.metrics import axis_title, metric_title
from fbnet_zoo.report.text import amount
from fbnet_zoo.search.record import MetricRecord, SearchRecord


def chart(record: SearchRecord) -> Markup:
    """Return a scatter plot of the networks by cost and accuracy; there is at least one."""
    metric = _metric(record)
    points = [
        Point(
            x=each.network.costs[metric.name],
            y=each.network.top1,
            title=f"limit {amount(each.limit, metric.unit)}: {each.network.name}, {each.network.top1:.2f} %",
            tone="strong",
        )
        for each in record.front
    ]
    frame = Frame(across=axis_title(metric), up=f"top-1 {record.judged}, %", top=100.0)
    label = f"{len(points)} networks, each the best for a limit on {metric_title(metric.name)}"
    return scatter(points, frame, label=label, front=front(points))


def table(record: SearchRecord) -> Table:
    """Return a table with a row for each limit."""
    metric = _metric(record)
    return Table(
        caption="Networks for several limits",
        columns=columns(">limit", "network", *_titles(record), ">used, %", ">top-1, %", "choices"),
        rows=[tuple(_row(record, metric, at)) for at in range(len(record.front))],
    )


def _titles(record: SearchRecord) -> list[str]:
    return [f">{metric_title(metric.name)}" for metric in record.metrics]


def _row(record: SearchRecord, metric: MetricRecord, at: int) -> Iterator[str]:
    each = record.front[at]
    yield amount(each.limit, metric.unit)
    yield each.network.name
    yield from (amount(each.network.costs[other.name], other.unit) for other in record.metrics)
    yield f"{100 * each.network.costs[metric.name] / each.limit:.1f}"
    yield f"{each.network.top1:.2f}"
    yield span(str(each.network.choices), class_="code choices")


def _metric(record: SearchRecord) -> MetricRecord:
    return next(metric for metric in record.metrics if metric.name == record.front[0].metric)
