"""Time of each operator of a model, read from the trace of a runtime."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fbnet_zoo._require import quiet, require
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import Count, DeviceInfo, Milliseconds, Threads
from fbnet_zoo.reading import read_json, record_error
from fbnet_zoo.spec import Record

_KERNEL = "_kernel_time"
_OWN_KERNELS = "CPUExecutionProvider"
_NATIVE = "native_call_"


class OperatorTime(Record):
    """One operator of a model.

    Attributes:
        name: name of the network's module if known, else the name in the file or the trace.
        kind: operator type, as the runtime names it.
        samples_ms: time of each run.
        median_ms: median over the runs.
        delegated: whether a backend ran it; operators outside the backend are slow.
    """

    name: str
    kind: str
    samples_ms: tuple[Milliseconds, ...]
    median_ms: Milliseconds
    delegated: bool = True


class Profile(Record):
    """Operator times of one model on one device.

    Attributes:
        runtime: name and version of the runtime.
        runs: number of traced runs.
        total_ms: median time of an inference.
        load_ms: time to load the model.
        operators: operators in execution order.
        undelegated_share: fraction of the operators' time spent outside the backend.
    """

    format: Literal[1] = 1
    model: str
    file: str
    runtime: str
    device: DeviceInfo | None = None
    threads: Threads | None = None
    runs: Count
    total_ms: Milliseconds
    load_ms: Milliseconds | None = None
    operators: tuple[OperatorTime, ...]
    undelegated_share: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """What a trace does not contain about the run that it was taken from.

    Attributes:
        model: name of the network.
        file: name of the model file (default: that of the trace).
        runtime: name and version of the runtime (default: the name of the one that writes such traces).
        device: device that ran the model, if known.
        threads: number of threads, if known.
        warmup: number of runs to skip at the start (default: 0).
    """

    model: str
    file: str | None = None
    runtime: str | None = None
    device: DeviceInfo | None = None
    threads: int | None = None
    warmup: int = 0


def from_etdump(path: Path, context: TraceContext) -> Profile:
    """Read a trace of ExecuTorch.

    The operators of a delegate are those that it reports; the rest of the delegate call is a separate entry, so that
    all operators add up to the time of all calls. `Method::execute` is the whole inference.

    Args:
        path: ETDump written by a runner with the event tracer.
        context: information about the run.

    Raises:
        InputError: the file cannot be read, or has no runs after the warm-up.
        MissingExtraError: executorch is not installed.
    """
    blocks, warmup = _etdump_blocks(path), context.warmup
    events = [(event.name, event.perf_data.raw[warmup:]) for event in blocks.get("Execute", ()) if event.perf_data]
    total_ms = dict(events).get("Method::execute")
    if not total_ms:
        raise InputError(f"{path}: the trace has no runs after {warmup} warm-up runs; trace more runs")
    for name, samples_ms in events:
        if len(samples_ms) != len(total_ms):
            raise InputError(f"{path}: {name} has {len(samples_ms)} runs, the network {len(total_ms)}; trace it again")
    default = [event for event in blocks.get("Default", ()) if event.perf_data and event.perf_data.raw]
    loads = [event.perf_data.raw[0] for event in default if event.name == "Program::load_method"]
    operators, load_ms = _executorch_operators(events), loads[0] if loads else None
    return _profile(path, context, operators, runs_ms=total_ms, load_ms=load_ms, runtime="executor_runner")


def _etdump_blocks(path: Path) -> dict[str, Sequence[Any]]:
    """Return the events of each block; times in ms, one value per run."""
    tools = require("executorch.devtools", extra="executorch")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with quiet():
            return {block.name: block.events for block in tools.Inspector(etdump_path=str(path)).event_blocks}
    except Exception as error:  # the parser of a damaged file raises anything
        raise InputError(
            f"{path}: not an ETDump, or damaged; expected the output of a runner with the event tracer"
        ) from error


def _executorch_operators(events: Sequence[tuple[str, Sequence[float]]]) -> Iterator[OperatorTime]:
    """Yield the operators: in the trace, a delegate call follows the operators inside it."""
    inside: list[OperatorTime] = []
    delegates = 0
    for name, samples_ms in events:
        if name == "DELEGATE_CALL":
            delegates += 1
            yield from inside
            yield _rest_of_call(f"delegate {delegates}", samples_ms, inside)
            inside = []
        elif name.startswith(_NATIVE):
            kind = name.removeprefix(_NATIVE)
            yield _operator(kind, kind, samples_ms, delegated=False)
        elif not name.startswith(("OPERATOR_CALL", "Method::")):
            inside.append(_operator(name, name.rpartition(" #")[0] or name, samples_ms))


def _rest_of_call(name: str, call_ms: Sequence[float], inside: Sequence[OperatorTime]) -> OperatorTime:
    inside_ms = [sum(operator.samples_ms[run] for operator in inside) for run in range(len(call_ms))]
    rest_ms = [max(0.0, call - known) for call, known in zip(call_ms, inside_ms, strict=True)]
    return _operator(name, "between operators" if inside else "delegate", rest_ms)


def from_onnxruntime(path: Path, context: TraceContext) -> Profile:
    """Read a profile of onnxruntime.

    If another execution provider runs part of the network, the kernels of the CPU provider are the undelegated ones.

    Args:
        path: JSON profile written by onnxruntime.
        context: information about the run.

    Raises:
        InputError: the file cannot be read, or has no runs after the warm-up.
    """
    events, warmup = _onnxruntime_events(path), context.warmup
    runs = sorted((event.ts, event.dur) for event in events if event.name == "model_run")[warmup:]
    if not runs:
        raise InputError(f"{path}: the profile has no runs after {warmup} warm-up runs; profile more runs")
    started, _ = runs[0]
    nodes = [event for event in events if event.name.endswith(_KERNEL) and event.ts >= started]
    loads = [event.dur for event in events if event.name.startswith(("model_loading", "session_init"))]
    operators, runs_ms = _onnxruntime_operators(nodes), [duration / 1000 for _, duration in runs]
    load_ms = sum(loads) / 1000 if loads else None
    return _profile(path, context, operators, runs_ms=runs_ms, load_ms=load_ms, runtime="onnxruntime")


class _Arguments(BaseModel):
    """What an event says about a kernel; other events have neither."""

    model_config = ConfigDict(strict=True)

    provider: str = ""
    op_name: str = ""


class _Event(BaseModel):
    """An event of onnxruntime's profile; times in microseconds."""

    model_config = ConfigDict(strict=True)

    name: str
    ts: Annotated[int, Field(ge=0, lt=1 << 63)]
    dur: Annotated[int, Field(ge=0, lt=1 << 63)]
    args: _Arguments = _Arguments()


def _onnxruntime_events(path: Path) -> list[_Event]:
    events = read_json(path, "a profile of onnxruntime")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise InputError(f"{path}: not a profile of onnxruntime; expected a JSON list of events")
    timed = [event for event in events if {"name", "ts", "dur"} <= event.keys()]
    try:
        return TypeAdapter(list[_Event]).validate_python(timed)
    except ValidationError as error:
        raise record_error(f"{path}: not a profile of onnxruntime", error) from error


def _onnxruntime_operators(nodes: Sequence[_Event]) -> Iterator[OperatorTime]:
    by_name: dict[str, list[_Event]] = {}
    for node in sorted(nodes, key=lambda node: node.ts):
        by_name.setdefault(node.name.removesuffix(_KERNEL), []).append(node)
    providers = {node.args.provider for node in nodes}
    for name, same in by_name.items():
        delegated = providers == {_OWN_KERNELS} or same[0].args.provider != _OWN_KERNELS
        samples_ms = [node.dur / 1000 for node in same]
        yield _operator(name, same[0].args.op_name, samples_ms, delegated=delegated)


def _operator(name: str, kind: str, samples_ms: Sequence[float], *, delegated: bool = True) -> OperatorTime:
    # To the nanosecond: tracers subtract rounded times, so that differences can even be slightly negative.
    clean = tuple(max(0.0, round(sample, 6)) for sample in samples_ms)
    return OperatorTime(name=name, kind=kind, samples_ms=clean, median_ms=median(clean), delegated=delegated)


def _profile(
    path: Path,
    context: TraceContext,
    operators: Iterator[OperatorTime],
    *,
    runs_ms: Sequence[float],
    load_ms: float | None,
    runtime: str,
) -> Profile:
    try:
        return _record(path, context, tuple(operators), runs_ms=runs_ms, load_ms=load_ms, runtime=runtime)
    except ValidationError as error:
        raise record_error(f"{path}: not a usable trace", error) from error


def _record(
    path: Path,
    context: TraceContext,
    found: tuple[OperatorTime, ...],
    *,
    runs_ms: Sequence[float],
    load_ms: float | None,
    runtime: str,
) -> Profile:
    total = sum(operator.median_ms for operator in found)
    left = sum(operator.median_ms for operator in found if not operator.delegated)
    return Profile(
        model=context.model,
        file=context.file or path.name,
        runtime=context.runtime or runtime,
        device=context.device,
        threads=context.threads,
        runs=len(runs_ms),
        total_ms=median(runs_ms),
        load_ms=load_ms,
        operators=found,
        undelegated_share=left / total if total else 0.0,
    )
