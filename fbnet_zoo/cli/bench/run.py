"""`fbnet-zoo bench run`: measure files in turn, each time in a new process."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import screen
from fbnet_zoo.cli.bench import compare
from fbnet_zoo.errors import DeviceError, FbnetZooError

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.fleet import Failure, ModelRun
    from fbnet_zoo.benchmarks.measure import Device, Measurement, ModelFile

SEVERAL = 5
"""Processes for each of several files: as many pairs as a comparison needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings(compare.Timing):
    """How to measure.

    Attributes:
        repeat: number of processes for each file (default: 1, and `SEVERAL` for several files).
        out: store that measurements are added to.
        resume: whether to skip what the store already has.
        energy: whether to measure energy, too.
    """

    repeat: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help=f"number of processes for each file (default: 1; {SEVERAL} for several files)"
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="append every measurement to this file (JSON lines)")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="skip what the file of --out already has")] = False
    energy: Annotated[
        bool,
        typer.Option(
            "--energy", help="also measure the energy of a run, above idle: host (RAPL) and unplugged Android"
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Measurements, including those that an earlier run already had, and failures."""

    measurements: "tuple[Measurement, ...]"
    failures: "tuple[Failure, ...]"


def measure(devices: "Mapping[str, Device]", models: "Sequence[ModelFile]", settings: RunSettings) -> Outcome:
    """Measure every file on every device, in rounds.

    Raises:
        InputError: the store cannot be read or written.
        MissingExtraError: a runtime is not installed.
    """
    from fbnet_zoo.benchmarks import fleet, store

    tasks = in_rounds(models, settings)
    stored = store.read(settings.out) if settings.resume and settings.out and settings.out.exists() else ()
    queues = {name: _queue(device, tasks, _of_units(stored, name)) for name, device in devices.items()}
    left = {name: queue.left for name, queue in queues.items()}
    measured = [measurement for queue in queues.values() for measurement in queue.done]
    with screen.steps("measuring", sum(map(len, left.values())) + 1) as progress:
        progress(f"{sum(map(len, left.values()))} processes" + (f", {len(measured)} done before" if measured else ""))

        def record(measurement: "Measurement") -> None:
            measured.append(measurement)
            if settings.out:
                store.append(settings.out, measurement)
            progress(f"{measurement.file}, {milliseconds(median(measurement.samples_ms))} ms")

        failures = fleet.measure_all(devices, left, record)
    return Outcome(measurements=tuple(measured), failures=failures)


def in_rounds(models: "Sequence[ModelFile]", settings: RunSettings) -> "list[ModelRun]":
    """Return the tasks of all rounds, every other round backwards, so that drift affects all files alike."""
    from fbnet_zoo.benchmarks.fleet import ModelRun

    rounds = settings.repeat or (SEVERAL if len(models) > 1 else 1)
    return [
        ModelRun(
            model=model,
            runs=settings.runs,
            warmup=settings.warmup,
            threads=settings.threads,
            energy=settings.energy,
        )
        for number in range(rounds)
        for model in (models[::-1] if number % 2 else models)
    ]


def _of_units(stored: "Sequence[Measurement]", device: str) -> "Sequence[Measurement]":
    """Return the measurements that Core ML made with the compute units in the name of the device."""
    kind, _, units = device.partition(":")
    return [each for each in stored if kind not in {"ios", "mac"} or each.runtime == f"coreml {units or 'all'}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Queue:
    """Tasks of one device, and its measurements from an earlier run."""

    left: "Sequence[ModelRun]"
    done: "Sequence[Measurement]" = ()


def _queue(device: "Device", tasks: "Sequence[ModelRun]", stored: "Sequence[Measurement]") -> _Queue:
    from fbnet_zoo.benchmarks.session import remaining
    from fbnet_zoo.converters.manifest import FileRecord

    if not stored:
        return _Queue(left=tasks)
    contents = {FileRecord.of(path).sha256 for path in {task.model.path for task in tasks}}
    stored = [each for each in stored if each.sha256 in contents]
    try:
        id_ = device.info().id
    except DeviceError:  # measuring will raise it again, and report it
        return _Queue(left=tasks)
    done = [each for each in stored if len(remaining(tasks, [each], id_)) < len(tasks)]
    return _Queue(left=remaining(tasks, stored, id_), done=done)


def results(measurements: "Iterable[Measurement]") -> list[dict[str, Any]]:
    """Return one record for each file, device and number of threads, from all of its processes."""
    return [_result(group) for group in compare.grouped(measurements).values()]


def _result(group: "Sequence[Measurement]") -> dict[str, Any]:
    from fbnet_zoo.benchmarks.devices.discovery import describe
    from fbnet_zoo.stats import summarize

    first = group[0]
    summary = summarize([sample for each in group for sample in each.samples_ms])
    return {
        **first.model_dump(include={"file", "model", "target", "precision", "backend", "runtime", "threads", "sha256"}),
        "device": first.device.model_dump(exclude_none=True) | {"about": describe(first.device)},
        "processes": len(group),
        "samples": summary.count,
        "median_ms": summary.median,
        "interval_ms": None if summary.low is None else [summary.low, summary.high],
        "p10_ms": summary.p10,
        "p90_ms": summary.p90,
        "p99_ms": summary.p99,
        "load_ms": _median(each.load_ms for each in group),
        "first_ms": _median(each.first_ms for each in group),
        "peak_rss_mb": max((each.peak_rss_mb for each in group if each.peak_rss_mb is not None), default=None),
        "baseline_rss_mb": _median(each.baseline_rss_mb for each in group),
        **_energy(group),
        "throttled": sum(each.throttled for each in group),
        "load_average": max((each.before.load_average for each in group if each.before.load_average), default=None),
        "outliers": len(summary.outliers),
        "slow_at_start": max(summarize(each.samples_ms).warmup for each in group),
        "versions": first.versions,
    }


def _energy(group: "Sequence[Measurement]") -> dict[str, Any]:
    """Return the energy of a run, if it was measured."""
    known = [each.energy for each in group if each.energy is not None]
    if not known:
        return {}
    return {
        "energy_mj": median(each.mj for each in known),
        "idle_mw": median(each.idle_mw for each in known),
        "energy_source": known[0].source,
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def comparisons(measurements: "Iterable[Measurement]") -> list[dict[str, Any]]:
    """Return the ratio of every file to the first one of the same device."""
    by_device: dict[str, list[Sequence[Measurement]]] = {}
    for group in compare.grouped(measurements).values():
        by_device.setdefault(group[0].device.id, []).append(group)
    found = []
    for first, *others in by_device.values():
        for other in others:
            try:
                found.append(compare.record(first, other))
            except FbnetZooError as error:
                screen.say("note", f"{other[0].file} was not compared with {first[0].file}: {error}", "cyan")
    return found


def failures(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Print and yield each failure."""
    for failure in outcome.failures:
        screen.say("error", f"{failure.device}: {failure.model.path.name}: {failure.error}", "bold red")
        yield {
            "device": failure.device,
            "file": failure.model.path.name,
            "model": failure.model.name,
            "error": screen.describe(failure.error),
        }


def table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Return the results as a table, times in ms."""
    figures = (
        ">median\nms",
        ">95 %\ninterval",
        ">p10",
        ">p90",
        ">p99",
        ">load",
        ">first",
        ">peak\nMB",
        ">before\nload",
    )
    metered = any("energy_mj" in record for record in records)
    lines = screen.table("file", *figures, *((">energy\nmJ",) if metered else ()), "notes")
    several = len({record["device"]["id"] for record in records}) > 1
    for record in records:
        lines.add_row(*_row(record, several=several, metered=metered))
    return lines


def _row(record: Mapping[str, Any], *, several: bool, metered: bool) -> Iterator[Text | str]:
    where = f"\n{record['device']['about']}" if several else ""
    yield Text.assemble((record["file"], "bold"), f" {record['precision']}{where}")
    yield milliseconds(record["median_ms"])
    yield " to ".join(map(milliseconds, record["interval_ms"] or ()))
    for key in ("p10_ms", "p90_ms", "p99_ms", "load_ms", "first_ms"):
        yield "" if record[key] is None else milliseconds(record[key])
    for key in ("peak_rss_mb", "baseline_rss_mb"):
        yield "" if record[key] is None else f"{record[key]:.0f}"
    if metered:
        yield f"{record['energy_mj']:.4g}" if "energy_mj" in record else ""
    yield Text(", ".join(_notes(record)), style="yellow" if record["throttled"] else "")


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    if record["throttled"]:
        yield f"throttled in {record['throttled']} of {record['processes']}"
    load, cores = record["load_average"], record["device"].get("cores")
    if load and cores and load > cores:
        yield f"disturbed by other programs: load {load:.1f} on {cores} cores"
    if record["slow_at_start"]:
        yield f"first {record['slow_at_start']} runs slow: increase --warmup"
    if "energy_mj" in record:
        yield f"energy is above the idle {record['idle_mw'] / 1000:.3g} W, by {record['energy_source']}"
    if record["outliers"]:
        yield f"{record['outliers']} of {record['samples']} are outliers"


def milliseconds(value: float) -> str:
    """Return a time with its significant digits.

    >>> milliseconds(0.06549), milliseconds(15.671), milliseconds(2931.6)
    ('0.065', '15.67', '2932')
    """
    return f"{value:.{3 if value < 1 else 2 if value < 100 else 0}f}"
