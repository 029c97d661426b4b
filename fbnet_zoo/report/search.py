"""The page of a search: what was found, how the search came to it, and how it can be repeated."""

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from fbnet_zoo.complexity import Cost, cost
from fbnet_zoo.report import against_random, architecture, compared, predicted, settings, theta, trajectory
from fbnet_zoo.report.blocks import blocks
from fbnet_zoo.report.html import Fact, render
from fbnet_zoo.report.metrics import exceeded, metric_title, verdict
from fbnet_zoo.report.text import TIMES, amount, counted, day, duration, short_count, versions
from fbnet_zoo.search.health import SearchEpoch
from fbnet_zoo.search.record import DataRecord, MetricRecord, SearchRecord
from fbnet_zoo.spec import ArchSpec

_METHODS = {
    "dnas": "DNAS, the stochastic supernet of FBNet",
    "dmasking": "DMaskingNAS, the masked supernet of FBNetV2",
}

_CHANNELS = 3
"""Of the images that searched networks take."""


def page(record: SearchRecord, epochs: Sequence[SearchEpoch], arch: ArchSpec) -> str:
    """Return one self-contained HTML page about a search.

    The same records give the same page: it shows their dates, not its own.

    Args:
        record: of the search.
        epochs: one record for each, in order; what they would show is said to be missing where there are none.
        arch: definition of the network that the search returned.
    """
    spent = cost(arch, in_channels=_CHANNELS, num_classes=record.data.classes)
    drawn = tuple(blocks(arch, spent, in_channels=_CHANNELS, num_classes=record.data.classes))
    return render(
        "search.html.jinja",
        record=record,
        arch=arch,
        counted=counted,
        method=_METHODS[record.method],
        date=day(record.date),
        warning="; ".join(exceeded(record, record.best)),
        facts=tuple(_facts(record, spent)),
        origin=tuple(_origin(record)),
        decisions=theta.view(record, epochs) if epochs else None,
        panels=tuple(trajectory.panels(record, epochs)) if epochs else (),
        by_epoch=trajectory.table(record, epochs),
        pareto=compared.chart(record) if record.metrics else None,
        networks=compared.table(record),
        against_random=against_random,
        groups=architecture.draw(drawn),
        chosen=theta.table(record, epochs),
        predicted=predicted.view(record.measured, record.best.name) if record.measured else None,
        settings=settings,
    )


def _facts(record: SearchRecord, spent: Cost) -> Iterator[Fact]:
    """Yield the numbers for the top of the page."""
    yield _accuracy(record)
    yield from (_cost(record, metric) for metric in record.metrics)
    known = {metric.name for metric in record.metrics}
    if "macs" not in known:
        yield Fact(value=short_count(spent.macs), title="MACs", note=f"at {spent.input_size} px")
    if "params" not in known:
        yield Fact(value=short_count(spent.params), title="parameters", note=f"{spent.params:,}")
    yield _size(record)
    note = f"{counted(record.processes, 'process', 'processes')} on {record.device}, seed {record.config.seed}"
    yield Fact(value=duration(record.seconds), title="of search", note=note)


def _accuracy(record: SearchRecord) -> Fact:
    if record.trained is None:
        note = f"of {counted(record.data.theta, 'image')}; not trained on its own yet"
        return Fact(value=f"{record.best.top1:.2f} %", title="top-1 with the supernet's weights", note=note)
    epochs = counted(record.trained.recipe.epochs, "epoch")
    note = f"of {counted(record.data.held_out, 'image')}, after {epochs} of training from scratch"
    return Fact(value=f"{record.trained.top1:.2f} %", title="top-1 on held-out images", note=note)


def _cost(record: SearchRecord, metric: MetricRecord) -> Fact:
    found, limit = record.best.costs[metric.name], record.config.limits.get(metric.name)
    title = metric_title(metric.name)
    value = amount(found, metric.unit).removesuffix(f" {title}")
    title = f"{title} by the table" if metric.table else title
    if limit is None:
        return Fact(value=value, title=title, note="no limit")
    kept = "good" if found <= limit else "warn"
    return Fact(value=value, title=title, note=verdict(metric, found, limit), verdict=kept)


def _size(record: SearchRecord) -> Fact:
    count = math.prod(map(len, record.options))
    options = counted(sum(map(len, record.options)), "option")
    note = f"{counted(len(record.decisions), 'decision')} among {options}"
    return Fact(value=_large(count), title="networks in the space", note=note)


def _large(count: int) -> str:
    """Write a count of any size.

    >>> _large(1720), _large(9**22) == f"9.8 {TIMES} 10<sup>20</sup>"
    ('1,720', True)
    """
    if count < 1_000_000:
        return f"{count:,}"
    digits = len(str(count)) - 1
    lead = f"{count / 10**digits:.1f}"
    return Markup("{} {} 10<sup>{}</sup>").format(lead, TIMES, digits)


def _origin(record: SearchRecord) -> Iterator[tuple[str, str]]:
    """Yield what was searched, on what, and with what."""
    yield "Method", _METHODS[record.method]
    yield "Space", f"{record.space}, at {record.input_size} px"
    yield "Data", _data(record.data)
    for metric in record.metrics:
        if metric.table:
            yield "Table", ", ".join(part for part in (metric.table, metric.device) if part)
    yield "Limits", "; ".join(_limits(record)) or "none"
    yield "Made with", versions([record.versions])


def _limits(record: SearchRecord) -> Iterator[str]:
    for metric in record.metrics:
        if metric.name in record.config.limits:
            said = verdict(metric, record.best.costs[metric.name], record.config.limits[metric.name])
            yield f"{metric_title(metric.name)} {said}"


def _data(data: DataRecord) -> str:
    learnt = f"{counted(data.weights, 'image')} for the weights, {data.theta:,} others for theta"
    classes = counted(data.classes, "class", "classes")
    return f"{data.name}, {classes}: {learnt}, {data.held_out:,} held out ({data.split})"
