"""The trained network of a search among random ones within the same limits, trained in the same way."""

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.search.metrics import axis_title, metric_title
from fbnet_zoo.report.text import amount, counted
from fbnet_zoo.search.record import MetricRecord, RandomRecord, SearchRecord


def sentence(record: SearchRecord) -> str:
    """Return the mean accuracy of the random networks and the improvement of the search, as a sentence."""
    tops = [each.top1 for each in record.random]
    spread = f", standard deviation {statistics.stdev(tops):.2f}" if len(tops) > 1 else ""
    parts = [f"{counted(len(tops), 'random network')}: top-1 {statistics.fmean(tops):.2f} % on average{spread}."]
    if record.improvement is not None:
        parts.append(f"Relative improvement of the network found: {record.improvement:+.2f} %.")
    if record.agreement is not None:
        parts.append(f"Rank correlation (Kendall's tau) of top-1 {record.judged} and trained: {record.agreement:.2f}.")
    return " ".join(parts)


def chart(record: SearchRecord) -> Markup:
    """Return a scatter plot of all networks by the first metric and held-out accuracy; there is at least one metric."""
    metric = record.metrics[0]
    points = [_point(metric, each.name, each.costs, each.top1) for each in record.random]
    if record.trained:
        own = _point(metric, record.best.name, record.best.costs, record.trained.top1)
        points.append(Point(x=own.x, y=own.y, title=own.title, label="found", tone="strong"))
    frame = Frame(across=axis_title(metric), up="top-1 on held-out images, %", top=100.0)
    return scatter(points, frame, label=sentence(record))


def table(record: SearchRecord) -> Table:
    """Return a table with a row for each random network."""
    titles = [f">{metric_title(metric.name)}" for metric in record.metrics]
    return Table(
        caption="Random networks",
        columns=columns("network", *titles, ">top-1, %", *([f">top-1 {record.judged}, %"] if _judged(record) else [])),
        rows=[(each.name, *_costs(record.metrics, each.costs), *_accuracies(each)) for each in record.random],
    )


def _judged(record: SearchRecord) -> bool:
    return any(each.judged_top1 is not None for each in record.random)


def _accuracies(network: RandomRecord) -> tuple[str, ...]:
    judged = () if network.judged_top1 is None else (f"{network.judged_top1:.2f}",)
    return (f"{network.top1:.2f}", *judged)


def _costs(metrics: Sequence[MetricRecord], costs: dict[str, float]) -> list[str]:
    return [amount(costs[metric.name], metric.unit) for metric in metrics]


def _point(metric: MetricRecord, name: str, costs: dict[str, float], top1: float) -> Point:
    cost = costs[metric.name]
    return Point(x=cost, y=top1, title=f"{name}: {amount(cost, metric.unit)}, {top1:.2f} %")
