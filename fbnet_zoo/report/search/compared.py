"""Networks that a search compared: cost against accuracy."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from fbnet_zoo.report.charts.bars import ReferenceLine, Tone
from fbnet_zoo.report.charts.scatter import Frame, Point, scatter
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.search.metrics import axis_title, exceeded, metric_title
from fbnet_zoo.report.text import amount, counted
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.search.record import MetricRecord, SearchRecord


def chart(record: SearchRecord) -> Markup:
    """Return a scatter plot of all networks by the first metric and accuracy; there is at least one metric."""
    metric = record.metrics[0]
    limit = record.config.limits.get(metric.name)
    points = [_point(record, metric, network) for network in record.networks]
    return scatter(
        points,
        Frame(
            across=axis_title(metric),
            up=f"top-1 {record.judged}, %",
            limit=ReferenceLine(value=limit, text=f"limit {amount(limit, metric.unit)}") if limit is not None else None,
            top=100.0,
        ),
        label=f"{counted(len(points), 'network')} by {metric_title(metric.name)} and top-1, chosen: {points[0].title}",
        front=front([point for point, each in zip(points, record.networks, strict=True) if each.epochs is None]),
    )


def front(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto front: points with no other one as far left and higher, or as high and further left.

    >>> ends = front([Point(x=1, y=1, title="a"), Point(x=2, y=1, title="b"), Point(x=3, y=2, title="c")])
    >>> [point.title for point in ends]
    ['a', 'c']
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def _point(record: SearchRecord, metric: MetricRecord, network: NetworkRecord) -> Point:
    cost, chosen = network.costs[metric.name], network is record.best
    plain: Tone = "plain" if network.within_limits else "warn"
    return Point(
        x=cost,
        y=network.top1,
        title=f"{network.name}: {amount(cost, metric.unit)}, {network.top1:.2f} %{_stopped(network)}",
        label="chosen" if chosen else "",
        tone="strong" if chosen else plain,
    )


def _stopped(network: NetworkRecord) -> str:
    return "" if network.epochs is None else f" after {counted(network.epochs, 'epoch')}"


def table(record: SearchRecord) -> Table:
    """Return a table with a row for each network, the best first."""
    titles = [f">{metric_title(metric.name)}" for metric in record.metrics]
    return Table(
        caption="Networks that were compared",
        columns=columns("network", *titles, ">top-1, %", *_epochs(record), *_extra(record), "limits", "choices"),
        rows=[tuple(_row(record, network)) for network in record.networks],
    )


def _has_stopped(record: SearchRecord) -> bool:
    return any(network.epochs is not None for network in record.networks)


def _epochs(record: SearchRecord) -> tuple[str, ...]:
    """Return the column that exists only if trainings were stopped early."""
    return (">epochs",) if _has_stopped(record) else ()


def _extra(record: SearchRecord) -> tuple[str, ...]:
    """Return the columns that exist only for methods with theta."""
    return () if record.best.log_probability is None else (">log-probability", "origin")


def _row(record: SearchRecord, network: NetworkRecord) -> Iterator[str]:
    yield network.name
    yield from (amount(network.costs[metric.name], metric.unit) for metric in record.metrics)
    yield f"{network.top1:.2f}"
    if _has_stopped(record):
        yield "all" if network.epochs is None else str(network.epochs)
    if network.log_probability is not None:
        yield f"{network.log_probability:.2f}"
        yield _origin(network)
    yield _limits(record, network)
    yield span(str(network.choices), class_="code choices")


def _origin(network: NetworkRecord) -> str:
    if network.proposed:
        return "near the limits"
    return "P(theta), projected" if network.projected else "P(theta)"


def _limits(record: SearchRecord, network: NetworkRecord) -> str:
    if network.within_limits:
        return "met" if record.config.limits else "none"
    return span("; ".join(exceeded(record, network)) or "not met", class_="warn")
