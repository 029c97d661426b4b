"""What measurements say: how long each file takes on each device."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.report import conditions
from fbnet_zoo.report.charts.bars import Bar, Reference, Tone, bars
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.text import NOTHING, bare_milliseconds, counted, day, memory, milliseconds, versions
from fbnet_zoo.stats import Summary, summarize


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One file on one device with one number of threads: all processes that ran it.

    Attributes:
        processes: their measurements.
        summary: of the samples of all of them.
    """

    processes: tuple[Measurement, ...]
    summary: Summary

    @property
    def first(self) -> Measurement:
        """One that tells what all have in common."""
        return self.processes[0]

    @property
    def throttled(self) -> int:
        """In how many processes the device slowed itself down."""
        return sum(process.throttled for process in self.processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLatency:
    """All timings of one device.

    Attributes:
        title: which device.
        about: more of it.
        chart: a bar for each timing.
        table: their numbers.
        conditions: what else was so at the time, process by process.
        made_with: versions of all that took part.
    """

    title: str
    about: str
    chart: Markup
    table: Table
    conditions: Table
    made_with: str


def timings(measurements: Iterable[Measurement]) -> list[Timing]:
    """Put the processes that ran the same together, in the order in which they appear."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for each in measurements:
        runtime = each.runtime, each.backend, each.threads
        key = each.device.kind, each.device.id, each.file, each.sha256, each.precision, *runtime
        groups.setdefault(key, []).append(each)
    return [
        Timing(processes=tuple(group), summary=summarize([sample for each in group for sample in each.samples_ms]))
        for group in groups.values()
    ]


def by_device(measurements: Sequence[Measurement]) -> list[DeviceLatency]:
    """Return the timings of each device, in the order in which devices appear."""
    devices: dict[tuple[str, str], list[Timing]] = {}
    for timing in timings(measurements):
        device = timing.first.device
        devices.setdefault((device.kind, device.id), []).append(timing)
    return [_device_latency(group) for group in devices.values()]


def device_title(device: DeviceInfo) -> str:
    """Return what a device is called: maker and model, or kind and id where it does not say."""
    named = " ".join(part for part in (device.manufacturer, device.model) if part)
    return f"{named} ({device.kind})" if named else f"{device.kind} {device.id}"


def device_about(device: DeviceInfo) -> str:
    """Return what else is known of a device, in one line."""
    facts = (
        device.soc,
        device.system,
        device.cores and counted(device.cores, "core"),
        device.memory_mb and f"{device.memory_mb / 1e3:.1f} GB memory",
        ", ".join(device.abis),
        f"id {device.id}" if device.manufacturer or device.model else "",
    )
    return " · ".join(fact for fact in facts if fact)


def _device_latency(group: Sequence[Timing]) -> DeviceLatency:
    device = group[0].first.device
    title, processes = device_title(device), [process for timing in group for process in timing.processes]
    return DeviceLatency(
        title=title,
        about=device_about(device),
        chart=bars(
            [_bar(timing) for timing in group],
            unit="ms",
            label=f"Median time of one inference on {title}, with 95 % intervals",
            reference=_reference(group),
        ),
        table=_table(title, group),
        conditions=conditions.table(title, processes),
        made_with=versions([process.versions for process in processes]),
    )


def _bar(timing: Timing) -> Bar:
    first, summary = timing.first, timing.summary
    note = " · throttled" if timing.throttled else ""
    tone: Tone = "warn" if timing.throttled else "plain" if first.precision == "fp32" else "strong"
    return Bar(
        label=f"{_runtime(first)} · {first.precision} · {counted(first.threads, 'thread')}{note}",
        value=summary.median,
        text=milliseconds(summary.median),
        low=summary.low,
        high=summary.high,
        tone=tone,
    )


def _runtime(measurement: Measurement) -> str:
    return f"{measurement.runtime} {measurement.backend}" if measurement.backend else measurement.runtime


def _reference(group: Sequence[Timing]) -> Reference | None:
    """Return the fastest fp32 as a line to compare with, where there is something to compare."""
    fp32 = [timing.summary.median for timing in group if timing.first.precision == "fp32" and not timing.throttled]
    if not fp32 or len({timing.first.precision for timing in group}) == 1:
        return None
    return Reference(value=min(fp32), text=f"fastest fp32, {milliseconds(min(fp32))}")


def _table(title: str, group: Sequence[Timing]) -> Table:
    return Table(
        caption=f"Times on {title}, ms",
        columns=columns(
            "file", "precision", ">threads", ">median, ms", ">95 % interval, ms", ">p10, ms", ">p90, ms", ">p99, ms",
            ">load, ms", ">first run, ms", ">peak memory, MB", "runtime", "runs", "date",
        ),
        rows=[tuple(_row(timing)) for timing in group],
    )  # fmt: skip


def _row(timing: Timing) -> Iterator[str]:
    first, summary = timing.first, timing.summary
    yield first.file
    yield first.precision
    yield str(first.threads)
    yield bare_milliseconds(summary.median) + _throttled(timing)
    yield _interval(summary)
    yield from (bare_milliseconds(value) for value in (summary.p10, summary.p90, summary.p99))
    yield _middle(process.load_ms for process in timing.processes)
    yield _middle(process.first_ms for process in timing.processes)
    peaks = [process.peak_rss_mb for process in timing.processes if process.peak_rss_mb is not None]
    yield memory(max(peaks, default=None)).removesuffix(" MB")
    yield _runtime(first)
    yield f"{counted(summary.count, 'run')} in {counted(len(timing.processes), 'process', 'processes')}"
    yield day(max(process.date for process in timing.processes))


def _throttled(timing: Timing) -> str:
    if not timing.throttled:
        return ""
    several = len(timing.processes) > 1
    return span(f"throttled in {timing.throttled}" if several else "throttled", class_="warn mark")


def _interval(summary: Summary) -> str:
    if summary.low is None or summary.high is None:
        return f"{NOTHING} (fewer than 5 runs)"
    return f"{bare_milliseconds(summary.low)} to {bare_milliseconds(summary.high)}"


def _middle(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return bare_milliseconds(median(known)) if known else NOTHING
