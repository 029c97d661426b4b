"""The course of a search: costs, accuracy, losses, temperature and multipliers, from epoch to epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from fbnet_zoo.report.charts.bars import Tone
from fbnet_zoo.report.charts.lines import Line, lines
from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.search.metrics import axis_title, metric_title
from fbnet_zoo.report.text import NOTHING, amount, duration
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.record import MetricRecord, SearchRecord

_TONES: tuple[Tone, ...] = ("strong", "plain", "warn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The legend entry of a line.

    Attributes:
        style: style sheet class of the line.
        text: name and last value of the line.
    """

    style: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart with its heading.

    Attributes:
        title: quantity shown, with its unit.
        legend: legend entries of the lines.
        chart: line chart.
    """

    title: str
    legend: tuple[Key, ...]
    chart: Markup


def panels(record: SearchRecord, epochs: Sequence[SearchEpoch], warmup_epochs: int) -> Iterator[Panel]:
    """Yield a panel for every logged quantity, over at least one epoch.

    Quantities without a value in any epoch are omitted.
    """
    draw = _Drawing(warmup_epochs, epochs)
    for metric in record.metrics:
        yield from _cost(record, metric, draw)
    top1 = Line(label="top-1", values=[epoch.top1 for epoch in epochs])
    yield from draw.panel("Top-1 of the supernet under masks, %", [top1], _percent, top=100.0)
    yield from draw.panel("Losses", list(_losses(epochs)), _number)
    entropy = Line(label="mean", values=[fmean(epoch.entropy) for epoch in epochs])
    yield from draw.panel("Entropy of the decisions, nats", [entropy], _number)
    skip = Line(label="mean", values=[_skip(epoch) for epoch in epochs])
    yield from draw.panel("Probability of a skip, %", [skip], _percent, top=100.0)
    temperature = Line(label="tau", values=[epoch.temperature for epoch in epochs])
    yield from draw.panel("Temperature of the masks", [temperature], _number)
    yield from draw.panel("Multipliers of the limits", list(_multipliers(record, epochs)), _number)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """Draws panels over the same epochs."""

    warmup: int
    epochs: Sequence[SearchEpoch]

    def panel(
        self,
        title: str,
        drawn: Sequence[Line],
        write: Callable[[float], str],
        *,
        limit: float | None = None,
        top: float = float("inf"),
    ) -> Iterator[Panel]:
        """Yield one panel, or none if no line has a value."""
        known = [line for line in drawn if any(value is not None for value in line.values)]
        if not known:
            return
        chart = lines(
            known,
            moments=[epoch.epoch for epoch in self.epochs],
            noun="epoch",
            write=write,
            label=f"{title}, by epoch: {'; '.join(_course(line, write) for line in known)}",
            reference=limit,
            washed=sum(epoch.epoch <= self.warmup for epoch in self.epochs),
            top=top,
        )
        keys = [_key(line, write) for line in known]
        keys += [] if limit is None else [Key(style="dashes", text=f"limit {write(limit)}")]
        yield Panel(title=title, legend=tuple(keys), chart=chart)


def _cost(record: SearchRecord, metric: MetricRecord, draw: _Drawing) -> Iterator[Panel]:
    limit, title = record.config.limits.get(metric.name), axis_title(metric)

    def write(value: float) -> str:
        return amount(value, metric.unit)

    return draw.panel(
        f"{title[0].upper()}{title[1:]}",
        [
            Line(label="sampled", values=[epoch.sampled.get(metric.name) for epoch in draw.epochs], tone="plain"),
            Line(label="expected", values=[epoch.expected.get(metric.name) for epoch in draw.epochs]),
        ],
        write,
        limit=limit,
    )


def _losses(epochs: Sequence[SearchEpoch]) -> Iterator[Line]:
    yield Line(label="theta, all terms", values=[epoch.theta_loss for epoch in epochs], tone="plain")
    yield Line(label="weights, cross-entropy", values=[epoch.weight_loss for epoch in epochs])


def _skip(epoch: SearchEpoch) -> float | None:
    known = [share for share in epoch.skip if share is not None]
    return 100 * fmean(known) if known else None


def _multipliers(record: SearchRecord, epochs: Sequence[SearchEpoch]) -> Iterator[Line]:
    for at, name in enumerate(record.config.limits):
        values = [epoch.multipliers[at] for epoch in epochs]
        yield Line(label=metric_title(name), values=values, tone=_TONES[at % len(_TONES)])


def _course(line: Line, write: Callable[[float], str]) -> str:
    known = [value for value in line.values if value is not None]
    return f"{line.label} from {write(known[0])} to {write(known[-1])}"


def _key(line: Line, write: Callable[[float], str]) -> Key:
    last = [value for value in line.values if value is not None][-1]
    return Key(style=f"line {line.tone}", text=f"{line.label} {write(last)}")


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def _number(value: float) -> str:
    return f"{value:.3g}"


def table(record: SearchRecord, epochs: Sequence[SearchEpoch]) -> Table:
    """Return a table with a row for each epoch."""
    titles = [metric_title(metric.name) for metric in record.metrics]
    return Table(
        caption="Epoch by epoch",
        columns=columns(
            "epoch", ">temperature", ">loss of weights", ">loss of theta", ">top-1, %", ">mean entropy, nats",
            *(f">{what} {title}" for title in titles for what in ("expected", "sampled")),
            ">multipliers", ">since start",
        ),
        rows=[tuple(_row(record, epoch)) for epoch in epochs],
    )  # fmt: skip


def _row(record: SearchRecord, epoch: SearchEpoch) -> Iterator[str]:
    yield str(epoch.epoch)
    yield f"{epoch.temperature:.3f}"
    yield f"{epoch.weight_loss:.4f}"
    yield NOTHING if epoch.theta_loss is None else f"{epoch.theta_loss:.4f}"
    yield NOTHING if epoch.top1 is None else f"{epoch.top1:.2f}"
    yield f"{fmean(epoch.entropy):.3f}"
    for metric in record.metrics:
        for costs in (epoch.expected, epoch.sampled):
            value = costs.get(metric.name)
            yield NOTHING if value is None else amount(value, metric.unit)
    yield ", ".join(_number(value) for value in epoch.multipliers) or NOTHING
    yield duration(epoch.seconds)
