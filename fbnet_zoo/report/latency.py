"""Charts and tables of measurements: latency of each file on each device."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.report import conditions
from fbnet_zoo.report.charts.bars import Bar, ReferenceLine, Tone, bars
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.text import NOTHING, bare_milliseconds, counted, day, memory, milliseconds, versions
from fbnet_zoo.stats import Summary, summarize


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTiming:
    """All processes that ran one file on one device with the same number of threads.

    Attributes:
        processes: measurements of the processes.
        summary: summary of the samples of all processes.
    """

    processes: tuple[Measurement, ...]
    summary: Summary

    @property
    def first(self) -> Measurement:
        """A measurement with the fields that all have in common."""
        return self.processes[0]

    @property
    def throttled(self) -> int:
        """Number of processes during which the device was throttled."""
        return sum(process.throttled for process in self.processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLatency:
    """All timings of one device.

    Attributes:
        title: name of the device.
        about: description of the device.
        chart: chart with a bar for each timing.
        table: table of the timings.
        conditions: table of the conditions of each process.
        made_with: versions of every library used.
    """

    title: str
    about: str
    chart: Markup
    table: Table
    conditions: Table
    made_with: str


def timings(measurements: Iterable[Measurement]) -> list[FileTiming]:
    """Group the processes that ran the same file under the same conditions, in order of appearance."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for each in measurements:
        runtime = each.runtime, each.backend, each.threads
        key = each.device.kind, each.device.id, each.file, each.sha256, each.precision, *runtime
        groups.setdefault(key, []).append(each)
    return [
        FileTiming(processes=tuple(group), summary=summarize([sample for each in group for sample in each.samples_ms]))
        for group in groups.values()
    ]


def by_device(measurements: Sequence[Measurement]) -> list[DeviceLatency]:
    """Return the timings of each device, in order of appearance."""
    devices: dict[tuple[str, str], list[FileTiming]] = {}
    for timing in timings(measurements):
        device = timing.first.device
        devices.setdefault((device.kind, device.id), []).append(timing)
    return [_device_latency(group) for group in devices.values()]


def device_title(device: DeviceInfo) -> str:
    """Return the name of a device: manufacturer and model, or kind and ID if they are unknown."""
    named = " ".join(part for part in (device.manufacturer, device.model) if part)
    return f"{named} ({device.kind})" if named else f"{device.kind} {device.id}"


def device_about(device: DeviceInfo) -> str:
    """Return the description of a device, in one line."""
    facts = (
        device.soc,
        device.system,
        device.cores and counted(device.cores, "core"),
        device.memory_mb and f"{device.memory_mb / 1e3:.1f} GB memory",
        ", ".join(device.abis),
        f"id {device.id}" if device.manufacturer or device.model else "",
    )
    return " · ".join(fact for fact in facts if fact)


def _device_latency(group: Sequence[FileTiming]) -> DeviceLatency:
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


def _bar(timing: FileTiming) -> Bar:
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


def _reference(group: Sequence[FileTiming]) -> ReferenceLine | None:
    """Return a line at the fastest fp32 timing, if there are other precisions to compare with it."""
    fp32 = [timing.summary.median for timing in group if timing.first.precision == "fp32" and not timing.throttled]
    if not fp32 or len({timing.first.precision for timing in group}) == 1:
        return None
    return ReferenceLine(value=min(fp32), text=f"fastest fp32, {milliseconds(min(fp32))}")


def _table(title: str, group: Sequence[FileTiming]) -> Table:
    return Table(
        caption=f"Times on {title}, ms",
        columns=columns(
            "file", "precision", ">threads", ">median, ms", ">95 % interval, ms", ">p10, ms", ">p90, ms", ">p99, ms",
            ">load, ms", ">first run, ms", ">peak memory, MB", "runtime", "runs", "date",
        ),
        rows=[tuple(_row(timing)) for timing in group],
    )  # fmt: skip


def _row(timing: FileTiming) -> Iterator[str]:
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


def _throttled(timing: FileTiming) -> str:
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
