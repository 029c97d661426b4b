"""Networks evaluated one by one: accuracy over time, and the best so far."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fbnet_zoo.report.charts.lines import Line, lines
from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.search.metrics import metric_title
from fbnet_zoo.report.text import amount, counted, duration
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
    best = networks[-1].best
    first = next(each.number for each in networks if each.best == best)
    about = f"{counted(len(networks), 'network')}, top-1 {record.judged}; the best, {best:.2f} %, was number {first}."
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


def _table(record: SearchRecord, networks: Sequence[EvaluatedNetwork]) -> Table:
    titles = [f">{metric_title(metric.name)}" for metric in record.metrics]
    return Table(
        caption="Networks in the order of their evaluation",
        columns=columns(">number", ">top-1, %", ">best so far, %", *titles, ">since start", "options"),
        rows=[tuple(_row(record, each)) for each in networks],
    )


def _row(record: SearchRecord, network: EvaluatedNetwork) -> Iterator[str]:
    yield str(network.number)
    yield f"{network.top1:.2f}"
    yield f"{network.best:.2f}"
    yield from (amount(network.costs[metric.name], metric.unit) for metric in record.metrics)
    yield duration(network.seconds)
    taken = zip(record.decisions, network.positions, strict=True)
    yield ", ".join(decision.options[position] for decision, position in taken)
