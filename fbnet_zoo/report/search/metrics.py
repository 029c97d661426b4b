"""Costs of networks and their limits, in words."""

from collections.abc import Iterator

from fbnet_zoo.report.text import amount
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.search.record import MetricRecord, SearchRecord

_TITLES = {"macs": "MACs", "params": "parameters"}


def metric_title(name: str) -> str:
    """Return the name of a metric on pages.

    >>> metric_title("macs"), metric_title("latency")
    ('MACs', 'latency')
    """
    return _TITLES.get(name, name)


def axis_title(metric: MetricRecord) -> str:
    """Return the axis title of a metric.

    >>> axis_title(MetricRecord(name="latency", unit="ms", base=1.0))
    'latency, ms'
    """
    title = metric_title(metric.name)
    return title if metric.unit in {title, ""} else f"{title}, {metric.unit}"


def verdict(metric: MetricRecord, cost: float, limit: float) -> str:
    """Return whether a cost meets its limit, in words.

    >>> verdict(MetricRecord(name="latency", unit="ms", base=1.0), 5.5, 5.0)
    'limit 5.00 ms NOT met, 10.0 % above'
    """
    if cost <= limit:
        return f"limit {amount(limit, metric.unit)} met, {100 * cost / limit:.1f} % used"
    return f"limit {amount(limit, metric.unit)} NOT met, {100 * (cost / limit - 1):.1f} % above"


def exceeded(record: SearchRecord, network: NetworkRecord) -> Iterator[str]:
    """Yield a phrase for each limit that a network exceeds."""
    for metric in record.metrics:
        limit, cost = record.config.limits.get(metric.name), network.costs[metric.name]
        if limit is not None and cost > limit:
            found, most, over = (amount(value, metric.unit) for value in (cost, limit, cost - limit))
            title = metric_title(metric.name)
            lead = found if title == metric.unit else f"{title} {found}"
            yield f"{lead}, {over} ({100 * (cost / limit - 1):.1f} %) above {most}"
