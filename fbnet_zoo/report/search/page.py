"""The page of a search: its result, its course, and how to repeat it."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from fbnet_zoo.complexity import Cost, cost
from fbnet_zoo.report import architecture
from fbnet_zoo.report.blocks import blocks
from fbnet_zoo.report.html import Fact, render
from fbnet_zoo.report.search import (
    against_random,
    compared,
    foretold,
    front,
    predicted,
    samples,
    settings,
    theta,
    trajectory,
)
from fbnet_zoo.report.search.metrics import exceeded, metric_title, verdict
from fbnet_zoo.report.text import TIMES, amount, counted, day, duration, short_count, versions
from fbnet_zoo.search.config import LATENCY
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.history import EvaluatedNetwork, HistoryRecord
from fbnet_zoo.search.record import DataRecord, MetricRecord, PredictorRecord, SearchRecord
from fbnet_zoo.spec import ArchSpec

_CHANNELS = 3
"""Input channels of searched networks."""

_CLASSES = 1000
"""Number of classes of a search without images."""


def search_page(record: SearchRecord, history: Sequence[HistoryRecord], arch: ArchSpec) -> str:
    """Return a self-contained HTML page about a search.

    Equal records give an equal page: it shows their dates, not its own.

    Args:
        record: record of the search.
        history: records of its epochs or evaluated networks, in order; may be empty.
        arch: definition of the network that the search returned.
    """
    classes = record.data.classes if record.data else _CLASSES
    spent = cost(arch, in_channels=_CHANNELS, num_classes=classes)
    drawn = tuple(blocks(arch, spent, in_channels=_CHANNELS, num_classes=classes))
    epochs = [each for each in history if isinstance(each, SearchEpoch)]
    evaluated = [each for each in history if isinstance(each, EvaluatedNetwork)]
    return render(
        "search.html.jinja",
        record=record,
        arch=arch,
        counted=counted,
        method=record.method.title,
        date=day(record.date),
        warning="; ".join(exceeded(record, record.best)),
        facts=tuple(_facts(record, spent)),
        origin=tuple(_origin(record)),
        theta=_theta(record, epochs),
        samples=samples.view(record, evaluated),
        foretold=foretold.view(evaluated),
        pareto=compared.chart(record) if record.metrics else None,
        networks=compared.table(record),
        proposed=sum(each.proposed for each in record.networks),
        front=front,
        against_random=against_random,
        groups=architecture.draw(drawn),
        chosen=theta.table(record, epochs),
        measurable=any(metric.table for metric in record.metrics),
        predicted=predicted.view(record.measured, record.best.name) if record.measured else None,
        settings=settings,
    )


def _theta(record: SearchRecord, epochs: Sequence[SearchEpoch]) -> dict[str, Any] | None:
    """Return the views of theta; `None` for methods without theta."""
    if not isinstance(record.config, GradientConfig):
        return None
    warmup = record.config.warmup_epochs
    return {
        "view": theta.view(record, epochs, warmup) if epochs else None,
        "panels": tuple(trajectory.panels(record, epochs, warmup)) if epochs else (),
        "table": trajectory.table(record, epochs),
        "warmup": warmup,
    }


def _facts(record: SearchRecord, spent: Cost) -> Iterator[Fact]:
    """Yield the key figures at the top of the page."""
    yield _accuracy(record)
    yield from (_cost(record, metric) for metric in record.metrics)
    known = {metric.name for metric in record.metrics}
    if "macs" not in known:
        yield Fact(value=short_count(spent.macs), title="MACs", note=f"at {spent.input_size} px")
    if "params" not in known:
        yield Fact(value=short_count(spent.params), title="parameters", note=f"{spent.params:,}")
    yield _size(record)
    if record.entropy is not None:
        most = fmean(math.log(len(decision.options)) for decision in record.decisions)
        yield Fact(value=f"{record.entropy:.2f} nats", title="mean entropy of P(theta)", note=f"at most {most:.2f}")
    note = f"{counted(record.processes, 'process', 'processes')} on {record.device}, seed {record.config.seed}"
    yield Fact(value=duration(record.seconds), title="of search", note=note)


def _accuracy(record: SearchRecord) -> Fact:
    if record.trained is None:
        seen = f"on {counted(record.data.selection, 'image')}; " if record.data else ""
        note = f"{seen}not trained from scratch yet"
        return Fact(value=f"{record.best.top1:.2f} %", title=f"top-1 {record.judged}", note=note)
    epochs = counted(record.trained.recipe.epochs, "epoch")
    seen = f"{counted(record.data.held_out, 'image')}, " if record.data else ""
    note = f"{seen}after {epochs} of training from scratch"
    return Fact(value=f"{record.trained.top1:.2f} %", title="top-1 on held-out images", note=note)


def _cost(record: SearchRecord, metric: MetricRecord) -> Fact:
    found, limit = record.best.costs[metric.name], record.config.limits.get(metric.name)
    title = metric_title(metric.name)
    value = amount(found, metric.unit).removesuffix(f" {title}")
    title = f"{title} by the table" if metric.table else f"{title} by the predictor" if metric.predictor else title
    if limit is None:
        return Fact(value=value, title=title, note="no limit")
    kept = "good" if found <= limit else "warn"
    return Fact(value=value, title=title, note=verdict(metric, found, limit), verdict=kept)


def _size(record: SearchRecord) -> Fact:
    counts = [len(decision.options) for decision in record.decisions]
    count, options = math.prod(counts), counted(sum(counts), "option")
    note = f"{counted(len(record.decisions), 'decision')} among {options}"
    return Fact(value=_large(count), title="networks in the space", note=note)


def _large(count: int) -> str:
    """Return a count of any size as text.

    >>> _large(1720), _large(9**22) == f"9.8 {TIMES} 10<sup>20</sup>"
    ('1,720', True)
    """
    if count < 1_000_000:
        return f"{count:,}"
    digits = len(str(count)) - 1
    lead = f"{count / 10**digits:.1f}"
    return Markup("{} {} 10<sup>{}</sup>").format(lead, TIMES, digits)


def _origin(record: SearchRecord) -> Iterator[tuple[str, str]]:
    """Yield method, space, data, table, limits and versions of the search."""
    yield "Method", record.method.title
    yield "Space", f"{record.space}, at {record.input_size} px"
    if record.data:
        yield "Data", _data(record.data)
    yield "Accuracy", f"top-1 {record.judged}"
    for metric in record.metrics:
        of_cost = "" if metric.name == LATENCY else f" of {metric_title(metric.name)}"
        if metric.table:
            yield f"Table{of_cost}", ", ".join(part for part in (metric.table, metric.device) if part)
        if metric.predictor:
            yield f"Predictor{of_cost}", _predictor(metric.predictor, metric_title(metric.name))
    yield "Limits", "; ".join(_limits(record)) or "none"
    yield "Versions", versions([record.versions])


def _predictor(predictor: PredictorRecord, title: str) -> str:
    count, priors = counted(predictor.networks, "network"), f", from {', '.join(predictor.priors)} on"
    return (
        f"{predictor.name}: fitted to {count}{priors if predictor.priors else ''}; the error for each, left out, is "
        f"{predictor.error:.1f} %; a network stays below its {title} here with a probability of 84 %"
    )


def _limits(record: SearchRecord) -> Iterator[str]:
    for metric in record.metrics:
        if metric.name in record.config.limits:
            limit = record.config.limits[metric.name]
            yield f"{metric_title(metric.name)} {verdict(metric, record.best.costs[metric.name], limit)}"


def _data(data: DataRecord) -> str:
    images = f"{counted(data.weights, 'image')} for the weights, {data.selection:,} others to select networks"
    classes = counted(data.classes, "class", "classes")
    return f"{data.name}, {classes}: {images}, {data.held_out:,} held out ({data.split})"
