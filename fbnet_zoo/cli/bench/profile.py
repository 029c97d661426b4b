"""`fbnet-zoo bench profile`: the time of each operator, as a table with bars."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import screen
from fbnet_zoo.folders import temporary
from fbnet_zoo.reading import parse_record, read_json, read_text

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import Device, ModelFile
    from fbnet_zoo.benchmarks.profile import OperatorTime, Profile

TRACE_SUFFIX, PROFILE_SUFFIX = ".etdp", ".json"
_BAR = 30
_WARMUP = 1
_UNDELEGATED = "red"


def is_trace(path: Path) -> bool:
    """Return whether a file is a trace or a profile, not a model to trace."""
    return path.suffix in {TRACE_SUFFIX, PROFILE_SUFFIX}


def read(path: Path) -> "Profile":
    """Read an ETDump of ExecuTorch, a profile of onnxruntime, or a file of `bench profile --out`.

    Raises:
        InputError: the file has none of these formats.
        MissingExtraError: an ETDump needs executorch.
    """
    from fbnet_zoo.benchmarks.profile import Profile, TraceContext, from_etdump, from_onnxruntime

    if path.suffix == TRACE_SUFFIX:
        return from_etdump(path, TraceContext(model=path.stem))
    expected = "a profile"
    if isinstance(read_json(path, expected), list):
        return from_onnxruntime(path, TraceContext(model=path.stem))
    origin = f"{path}: not a profile of onnxruntime or of bench profile --out"
    return parse_record(Profile, read_text(path, expected), origin, expected)


def trace(model: "ModelFile", device: "Device", *, runs: int, threads: int) -> "Profile":
    """Run a file with the tracer of its runtime.

    Raises:
        DeviceError: the device or its runtime failed, or has no tracer.
        InputError: the file or a setting is wrong.
        MissingExtraError: a library is not installed.
    """
    from fbnet_zoo.benchmarks.devices.apple_coreml import CoreMLDevice
    from fbnet_zoo.benchmarks.devices.host import HostDevice
    from fbnet_zoo.benchmarks.profile import TraceContext, from_etdump

    with device, temporary() as folder:
        if isinstance(device, HostDevice | CoreMLDevice):
            return device.profile_operators(model, runs=runs, threads=threads)
        dump = folder / f"trace{TRACE_SUFFIX}"
        device.profile(model, dump, runs=runs + _WARMUP, threads=threads)
        file, info = model.path.name, device.info()
        context = TraceContext(model=model.name, file=file, device=info, threads=threads, warmup=_WARMUP)
        return from_etdump(dump, context)


def page(profile: "Profile", *, top: int | None) -> Group:
    """Return every operator, or the `top` slowest, in the order in which they run, and the totals."""
    return Group(_operators(profile, top), Text(), _kinds(profile), Text(), *_summary(profile))


def _operators(profile: "Profile", top: int | None) -> Table:
    """Return operators with bars along the time of one run, like a flame graph of one level."""
    operators = profile.operators
    ends = list(accumulate(operator.median_ms for operator in operators))
    total = ends[-1] if ends else 0.0
    slowest = sorted(range(len(operators)), key=lambda index: operators[index].median_ms, reverse=True)[:top]
    table = screen.table("operator", "kind", ">ms", ">share", "when")
    for index in sorted(slowest):
        operator = operators[index]
        begin = ends[index] - operator.median_ms
        style = _style(operator)
        bar = Bar(total or 1.0, begin, ends[index], width=_BAR, color=style or "cyan")
        kind = _kind(operator.kind, operator.delegated)
        table.add_row(Text(operator.name, style=style), kind, *_figures(operator.median_ms, total), bar)
    return table


def _kinds(profile: "Profile") -> Table:
    by_kind: dict[tuple[str, bool], list[float]] = {}
    for operator in profile.operators:
        by_kind.setdefault((operator.kind, operator.delegated), []).append(operator.median_ms)
    total = sum(map(sum, by_kind.values()))
    table = screen.table("kind", ">operators", ">ms", ">share", "")
    for (kind, delegated), times in sorted(by_kind.items(), key=lambda entry: sum(entry[1]), reverse=True):
        style = "" if delegated else _UNDELEGATED
        bar = Bar(total or 1.0, 0, sum(times), width=_BAR, color=style or "cyan")
        table.add_row(_kind(kind, delegated), str(len(times)), *_figures(sum(times), total), bar)
    return table


def _kind(kind: str, delegated: bool) -> Text:
    return Text(kind) if delegated else Text(f"{kind}, undelegated", style=_UNDELEGATED)


def _style(operator: "OperatorTime") -> str:
    return "" if operator.delegated else _UNDELEGATED


def _figures(value: float, total: float) -> tuple[str, str]:
    return f"{value:.3f}", f"{value / total:.1%}" if total else ""


def _summary(profile: "Profile") -> Iterator[RenderableType]:
    threads = f", {profile.threads} thread{'s' if profile.threads > 1 else ''}" if profile.threads else ""
    yield Text(f"{profile.file}, {profile.runtime}{threads}: {profile.total_ms:.3f} ms, median of {profile.runs} runs")
    loading = f"; loading took {profile.load_ms:.1f} ms" if profile.load_ms is not None else ""
    yield Text(f"times include the tracer; bench run measures without it{loading}")
    share = profile.undelegated_share
    style = _UNDELEGATED if share else ""
    yield Text(f"{share:.1%} of the operators' time is undelegated", style=style)
