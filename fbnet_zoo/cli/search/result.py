"""Output of `fbnet-zoo search`: progress and results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import screen
from fbnet_zoo.search.history import EvaluatedNetwork

if TYPE_CHECKING:
    from fbnet_zoo.search.history import HistoryRecord
    from fbnet_zoo.search.networks import NetworkRecord
    from fbnet_zoo.search.predictive.accuracy import PredictorErrors
    from fbnet_zoo.search.record import MetricRecord, SearchRecord
    from fbnet_zoo.search.runs import SearchRun
    from fbnet_zoo.spec import ArchSpec
    from fbnet_zoo.train import EpochMetrics

_DIGITS, _SHOWN = 4, 12


@dataclass(slots=True)
class Listener:
    """Reports the progress of a search or a training on stderr."""

    step: Callable[[str], None]
    total: int
    noun: str
    last: str

    def begin(self) -> None:
        """Report that the first epoch, or network, begins."""
        self.step(f"{self.noun} 1 of {self.total}")

    def searched(self, record: "HistoryRecord") -> None:
        """Report an epoch or a network of the search."""
        self.step(f"{self.noun} {record.number} of {self.total}: {record.summary()}")
        if self.last and record.number == self.total:
            self.step(self.last)

    def trained(self, epoch: "EpochMetrics") -> None:
        """Report an epoch of the training."""
        top1 = "" if epoch.top1 is None else f", held-out top-1 {epoch.top1:.2f} %"
        self.step(f"{self.noun} {epoch.epoch} of {self.total}: loss {epoch.loss:.3f}{top1}")


@contextmanager
def listening(title: str, total: int, *, noun: str = "epoch", times: int = 1, last: str = "") -> Iterator[Listener]:
    """Yield a listener that shows the progress of a search, or of several trainings in turn.

    `last` says what a search does after its last epoch, if that takes long.
    """
    with screen.steps(title, total * times) as step:
        yield Listener(step, total, noun, last)


def to_json(run: "SearchRun", *, report: Path) -> dict[str, Any]:
    """Return a run as plain values, for `--json`."""
    record = run.record
    return {
        "name": run.definition.name,
        "definition": str(run.folder / "result.yaml"),
        "weights": str(run.weights) if run.weights else None,
        "top1": record.trained.top1 if record.trained else None,
        "met": record.met,
        "limits": record.config.limits,
        "costs": record.best.costs,
        "judged": record.judged,
        "judged_top1": record.best.top1,
        "supernet_top1": None if record.best.log_probability is None else record.best.top1,
        "choices": str(record.best.choices),
        "seed": record.config.seed,
        "seconds": record.seconds,
        "run": str(run.folder),
        "report": str(report),
        "used_percent": record.used,
        "compared": len(record.networks),
        "failed": _failed(run),
        "predictor": (predictor := _predictor(run)) and asdict(predictor),
        "epochs_trained": record.effort and record.effort.trained,
        "epochs_saved_percent": record.effort and record.effort.saved,
        "entropy": record.entropy,
        "front": [each.model_dump(mode="json") for each in record.front],
        "random": [each.model_dump(mode="json") for each in record.random],
        "random_tried": record.tried,
        "agreement": record.agreement,
        "improvement": record.improvement,
    }


def show(run: "SearchRun", *, report: Path, entry: "ArchSpec | None") -> None:
    """Print the result of a run."""
    from fbnet_zoo.report.search import against_random

    record = run.record
    screen.show(_networks(record), *_rest(run), Text())
    screen.show(_verdict(record))
    if record.trained and record.data:
        held_out = f"{record.data.held_out} held-out images"
        screen.show(f"trained from scratch: top-1 {record.trained.top1:.2f} % on {held_out}")
    if record.front:
        screen.show(_front(record), f"definitions: {run.folder / 'front'}")
    if record.random:
        screen.show(against_random.sentence(record))
    where = f"; registered for create('{entry.name}')" if entry else ""
    screen.show(f"{run.definition.name}: {run.folder / 'result.yaml'}{where}")
    screen.show(f"report: {report}")


def spread(runs: "Sequence[SearchRun]") -> str:
    """Return the spread of results over seeds, in words."""
    first = runs[0].record.metrics[0]
    costs = [run.record.best.costs[first.name] for run in runs]
    tops = [run.record.best.top1 for run in runs]
    met = sum(run.record.met for run in runs)
    cost = f"{first.name} {_figure(min(costs))} to {_figure(max(costs))} {first.unit}"
    top1 = f"top-1 {runs[0].record.judged} {min(tops):.1f} to {max(tops):.1f} %"
    return f"{len(runs)} seeds: {met} within the limits; {cost}, {top1}"


def _networks(record: "SearchRecord") -> Table:
    lines = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    lines.add_column("network")
    for metric in record.metrics:
        lines.add_column(f"{metric.name}\n{metric.unit}", justify="right")
    for header in ("top-1\n%", "within\nlimits"):
        lines.add_column(header, justify="right")
    for network in record.networks[:_SHOWN]:
        lines.add_row(*_row(network, record.metrics))
    return lines


def _front(record: "SearchRecord") -> Table:
    lines = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    unit = next(metric.unit for metric in record.metrics if metric.name == record.front[0].metric)
    for header in (f"limit on {record.front[0].metric}\n{unit}", f"network\n{unit}", "top-1\n%"):
        lines.add_column(header, justify="right")
    for each in record.front:
        lines.add_row(_figure(each.limit), _figure(each.network.costs[each.metric]), f"{each.network.top1:.1f}")
    return lines


def _rest(run: "SearchRun") -> Iterator[str]:
    """Yield lines below the table: the number of other networks, how accuracy was determined, what was saved."""
    from fbnet_zoo.report.search import foretold

    record, failed = run.record, _failed(run)
    more = len(record.networks) - _SHOWN
    if more > 0:
        yield f"and {more} more networks in search.json"
    if failed:
        yield f"and {failed} that could not be evaluated, see metrics.jsonl"
    yield f"top-1 {record.judged}"
    if record.effort is not None:
        yield record.effort.summary
    if predictor := _predictor(run):
        yield foretold.sentence(predictor)


def _predictor(run: "SearchRun") -> "PredictorErrors | None":
    """Return the errors of accuracies that were predicted before the evaluation."""
    from fbnet_zoo.report.search import foretold

    return foretold.errors([each for each in run.history if isinstance(each, EvaluatedNetwork)])


def _failed(run: "SearchRun") -> int:
    return sum(isinstance(each, EvaluatedNetwork) and each.failed is not None for each in run.history)


def _row(network: "NetworkRecord", metrics: "Sequence[MetricRecord]") -> Iterator[Text | str]:
    from fbnet_zoo.report.text import counted

    yield Text(network.name, style="bold")
    yield from (_figure(network.costs[metric.name]) for metric in metrics)
    yield f"{network.top1:.1f}" + ("" if network.epochs is None else f" ({counted(network.epochs, 'epoch')})")
    yield "yes" if network.within_limits else "NO"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10_000 else f"{value:.{_DIGITS}g}"


def _verdict(record: "SearchRecord") -> Text:
    limits: Mapping[str, float] = record.config.limits
    units = {metric.name: metric.unit for metric in record.metrics}
    costs = ", ".join(f"{name} {_figure(value)} {units[name]}".rstrip() for name, value in record.best.costs.items())
    if not limits:
        return Text(f"found: {costs}")
    requested = " and ".join(f"{name} {_figure(value)} {units[name]}".rstrip() for name, value in limits.items())
    if record.met:
        return Text(f"found: {costs}; the limit of {requested} is met, {record.used:.1f} % of it used")
    return Text(f"found: {costs}; the limit of {requested} is NOT MET", style="yellow")
