"""What `fbnet-zoo search` shows while it searches, and of what it found."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import screen

if TYPE_CHECKING:
    from fbnet_zoo.search.health import SearchEpoch
    from fbnet_zoo.search.record import MetricRecord, NetworkRecord, SearchRecord
    from fbnet_zoo.search.runs import SearchRun
    from fbnet_zoo.spec import ArchSpec
    from fbnet_zoo.train import EpochMetrics

_DIGITS = 4


@dataclass(slots=True)
class Listener:
    """Tells of the epochs of a search and of a training on stderr."""

    step: Callable[[str], None]
    epochs: int

    def searched(self, epoch: "SearchEpoch") -> None:
        """Tell of an epoch of the search."""
        words = [f"epoch {epoch.epoch} of {self.epochs}: loss {epoch.weight_loss:.3f}"]
        if epoch.top1 is not None:
            words.append(f"top-1 {epoch.top1:.1f} %")
        words += [f"{name} {value:.{_DIGITS}g}" for name, value in list(epoch.expected.items())[:1]]
        words.append(f"entropy {statistics.fmean(epoch.entropy):.2f}")
        self.step(", ".join(words))

    def trained(self, epoch: "EpochMetrics") -> None:
        """Tell of an epoch of the training."""
        top1 = "" if epoch.top1 is None else f", held out {epoch.top1:.2f} %"
        self.step(f"epoch {epoch.epoch} of {self.epochs}: loss {epoch.loss:.3f}{top1}")


@contextmanager
def listening(title: str, epochs: int, *, times: int = 1) -> Iterator[Listener]:
    """Show how a search or one training after the other goes on."""
    with screen.steps(title, epochs * times) as step:
        step(f"epoch 1 of {epochs} begins")
        yield Listener(step, epochs)


def told(run: "SearchRun", *, report: Path) -> dict[str, Any]:
    """Return a run as JSON tells it."""
    record = run.record
    return {
        "name": run.definition.name,
        "definition": str(run.folder / "result.yaml"),
        "weights": str(run.weights) if run.weights else None,
        "top1": record.trained.top1 if record.trained else None,
        "met": record.met,
        "limits": record.config.limits,
        "costs": record.best.costs,
        "supernet_top1": record.best.top1,
        "choices": str(record.best.choices),
        "seed": record.config.seed,
        "seconds": record.seconds,
        "run": str(run.folder),
        "report": str(report),
        "random": [each.model_dump(mode="json") for each in record.random],
        "improvement": record.improvement,
    }


def show(run: "SearchRun", *, report: Path, entry: "ArchSpec | None") -> None:
    """Print what a run found."""
    from fbnet_zoo.report import against_random

    record = run.record
    screen.show(_networks(record), Text())
    screen.show(_verdict(record))
    if record.trained:
        held_out = f"{record.data.held_out} held-out images"
        screen.show(f"trained from scratch: top-1 {record.trained.top1:.2f} % of {held_out}")
    if record.random:
        screen.show(against_random.sentence(record))
    where = f"; create('{entry.name}') finds it" if entry else ""
    screen.show(f"{run.definition.name}: {run.folder / 'result.yaml'}{where}")
    screen.show(f"report: {report}")


def spread(runs: "Sequence[SearchRun]") -> str:
    """Return how much searches with different seeds differ, in words."""
    first = runs[0].record.metrics[0]
    costs = [run.record.best.costs[first.name] for run in runs]
    tops = [run.record.best.top1 for run in runs]
    met = sum(run.record.met for run in runs)
    cost = f"{first.name} {_figure(min(costs))} to {_figure(max(costs))} {first.unit}"
    top1 = f"top-1 in the supernet {min(tops):.1f} to {max(tops):.1f} %"
    return f"{len(runs)} seeds: {met} within the limits; {cost}, {top1}"


def _networks(record: "SearchRecord") -> Table:
    lines = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    lines.add_column("network")
    for metric in record.metrics:
        lines.add_column(f"{metric.name}\n{metric.unit}", justify="right")
    for header in ("top-1\nsupernet", "within\nlimits"):
        lines.add_column(header, justify="right")
    for network in record.networks:
        lines.add_row(*_row(network, record.metrics))
    return lines


def _row(network: "NetworkRecord", metrics: "Sequence[MetricRecord]") -> Iterator[Text | str]:
    yield Text(network.name, style="bold")
    yield from (_figure(network.costs[metric.name]) for metric in metrics)
    yield f"{network.top1:.1f} %"
    yield "yes" if network.within_limits else "NO"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10_000 else f"{value:.{_DIGITS}g}"


def _verdict(record: "SearchRecord") -> Text:
    limits: Mapping[str, float] = record.config.limits
    units = {metric.name: metric.unit for metric in record.metrics}
    costs = ", ".join(f"{name} {_figure(value)} {units[name]}" for name, value in record.best.costs.items())
    if not limits:
        return Text(f"found: {costs}")
    asked = " and ".join(f"{name} {_figure(value)} {units[name]}" for name, value in limits.items())
    if record.met:
        return Text(f"found: {costs}; the limit of {asked} is met")
    return Text(f"found: {costs}; the limit of {asked} is NOT MET", style="yellow")
