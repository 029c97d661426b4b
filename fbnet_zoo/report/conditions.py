"""Table of measurement conditions, with one row per process."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from fbnet_zoo.benchmarks.measure import DeviceState, Measurement
from fbnet_zoo.report.html import Table, columns, span
from fbnet_zoo.report.text import NOTHING, counted, day, memory
from fbnet_zoo.stats import summarize


def table(title: str, measurements: Sequence[Measurement]) -> Table:
    """Return the state of the device before and after each process, and the file that ran."""
    return Table(
        caption=f"Conditions on {title}, before → after",
        columns=columns(
            "file", "precision", "end", "runs", "pinned to", "governor", "temperature", "battery", "load average",
            "memory before loading", "commit", "sha256",
        ),
        rows=[tuple(_row(measurement)) for measurement in measurements],
    )  # fmt: skip


def _row(measurement: Measurement) -> Iterator[str]:
    before, after = measurement.before, measurement.after
    yield measurement.file
    yield measurement.precision
    yield day(measurement.date)
    yield _runs(measurement)
    yield f"cores {measurement.affinity}" if measurement.affinity else NOTHING
    yield _governors(before)
    yield _change(_temperature(before), _temperature(after))
    yield _change(_battery(before), _battery(after))
    yield _change(_load(before), _load(after))
    yield memory(measurement.baseline_rss_mb)
    yield code(measurement.commit) if measurement.commit else NOTHING
    yield code(measurement.sha256)


def code(digest: str) -> Markup:
    """Return the start of a digest, with the whole as tooltip."""
    return span(digest[:12], class_="code", title=digest)


def _runs(measurement: Measurement) -> str:
    count, outliers = len(measurement.samples_ms), len(summarize(measurement.samples_ms).outliers)
    each = f" of {measurement.runs_per_sample}" if measurement.runs_per_sample > 1 else ""
    odd = f", {counted(outliers, 'outlier')}" if outliers else ""
    throttled = ", throttled" if measurement.throttled else ""
    return f"{count}{each} after {measurement.warmup} warm-up{odd}{throttled}"


def _governors(state: DeviceState) -> str:
    return ", ".join(sorted({policy.governor for policy in state.policies if policy.governor})) or NOTHING


def _temperature(state: DeviceState) -> str:
    status = (f"thermal status {state.thermal_status}",) if state.thermal_status is not None else ()
    sensors = (f"{name} {celsius:.1f} °C" for name, celsius in state.celsius.items())
    return ", ".join((*sensors, *status))


def _battery(state: DeviceState) -> str:
    facts = (
        state.battery_percent is not None and f"{state.battery_percent} %",
        state.battery_celsius is not None and f"{state.battery_celsius:.1f} °C",
        state.charging and "charging",
    )
    return ", ".join(fact for fact in facts if fact)


def _load(state: DeviceState) -> str:
    return "" if state.load_average is None else f"{state.load_average:.2f}"


def _change(before: str, after: str) -> str:
    if before == after:
        return before or NOTHING
    return f"{before or NOTHING} → {after or NOTHING}"
