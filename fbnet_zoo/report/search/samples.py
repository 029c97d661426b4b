"""Networks evaluated one by one: accuracy over time, and the best so far."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fbnet_zoo.report.charts.lines import Line, lines
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.search.metrics import metric_title
from fbnet_zoo.report.text import NOTHING, amount, counted, duration
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.record import SearchRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesView:
    """All networks in the order of their evaluation.

    Attributes:
        about: number of networks and how accuracy was determined.
        chart: accuracy of each network, and the best so far.
        table: one row for each network.
    """

    about: str
    chart: Markup
    table: Table


def view(record: SearchRecord, networks: Sequence[EvaluatedNetwork]) -> SamplesView | None:
    """Return the view of networks evaluated one by one; `None` if there are none."""
    if not networks:
        return None
    about = "; ".join((f"{counted(len(networks), 'network')}, top-1 {record.judged}", *_notes(record, networks))) + "."
    chart = lines(
        [
            Line(label="each", values=[each.top1 for each in networks], tone="plain"),
            Line(label="best so far", values=[each.best for each in networks]),
        ],
        moments=[each.number for each in networks],
        noun="network",
        write=lambda value: f"{value:.2f} %",
        label=about,
        top=100.0,
    )
    return SamplesView(about=about, chart=chart, table=_table(record, networks))


def _notes(record: SearchRecord, networks: Sequence[EvaluatedNetwork]) -> Iterator[str]:
    """Yield the best network, the epochs that were saved, and the failures, in words."""
    best = networks[-1].best
    if best is not None:
        first = next(each.number for each in networks if each.best == best)
        yield f"the best, {best:.2f} %, was number {first}"
    if record.effort is not None:
        yield record.effort.summary
    if failed := [each for each in networks if each.failed is not None]:
        yield f"the evaluation of {counted(len(failed), 'network')} failed"


def _table(record: SearchRecord, networks: Sequence[EvaluatedNetwork]) -> Table:
    titles = [f">{metric_title(metric.name)}" for metric in record.metrics]
    return Table(
        caption="Networks in the order of their evaluation",
        columns=columns(">number", ">top-1, %", ">best so far, %", *titles, ">since start", "options"),
        rows=[tuple(_row(record, each)) for each in networks],
    )


def _row(record: SearchRecord, network: EvaluatedNetwork) -> Iterator[str]:
    yield str(network.number)
    yield _accuracy(network)
    yield NOTHING if network.best is None else f"{network.best:.2f}"
    yield from (amount(network.costs[metric.name], metric.unit) for metric in record.metrics)
    yield duration(network.seconds)
    taken = zip(record.decisions, network.positions, strict=True)
    yield ", ".join(decision.options[position] for decision, position in taken)


def _accuracy(network: EvaluatedNetwork) -> str:
    if network.top1 is None:
        return span("failed", class_="warn", title=network.failed or "")
    stopped = "" if network.epochs is None else f" after {counted(network.epochs, 'epoch')}"
    return f"{network.top1:.2f}{stopped}"
