"""How long each operator of a model takes, as the tracer of a runtime tells it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field

from fbnet_zoo._require import quiet, require
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import Count, DeviceInfo, Milliseconds
from fbnet_zoo.spec import Record

_KERNEL = "_kernel_time"
_OWN_KERNELS = "CPUExecutionProvider"
_NATIVE = "native_call_"


class OperatorTime(Record):
    """One operator of a model.

    Attributes:
        name: in the file or of the tracer; of a module of the network where it can be told.
        kind: what it computes, as the runtime calls it.
        samples_ms: one value per run.
        median_ms: of them.
        delegated: whether a backend ran it; one that did not is slow.
    """

    name: str
    kind: str
    samples_ms: tuple[Milliseconds, ...]
    median_ms: Milliseconds
    delegated: bool = True


class Profile(Record):
    """What a tracer saw of one model on one device.

    Attributes:
        runtime: name and version.
        runs: how many were traced.
        total_ms: median of the whole inference.
        load_ms: loading the model, once.
        operators: in the order in which they run.
        undelegated_share: of the time of all operators, 0 to 1.
    """

    format: Literal[1] = 1
    model: str
    file: str
    runtime: str
    device: DeviceInfo | None = None
    threads: Count | None = None
    runs: Count
    total_ms: Milliseconds
    load_ms: Milliseconds | None = None
    operators: tuple[OperatorTime, ...]
    undelegated_share: Annotated[float, Field(ge=0, le=1)]


def from_etdump(
    path: Path,
    *,
    model: str,
    file: str | None = None,
    runtime: str = "executor_runner",
    device: DeviceInfo | None = None,
    threads: int | None = None,
    warmup: int = 0,
) -> Profile:
    """Read a trace of ExecuTorch.

    A delegate's operators are what it tells of itself; what its call takes beyond them is an entry of its own, so that
    all operators together are the time of all calls. `Method::execute` is the whole inference.

    Args:
        path: of the ETDump that a runner with the event tracer wrote.
        model: name of the network.
        file: name of the model's file; that of the trace if not said.
        runtime: what ran it.
        device: where.
        threads: how many worked.
        warmup: runs at the start to leave out.

    Raises:
        InputError: it cannot be read, or holds no more runs than the warm-up.
        MissingExtraError: executorch is not installed.
    """
    blocks = _etdump_blocks(path)
    events = [(event.name, event.perf_data.raw[warmup:]) for event in blocks.get("Execute", ()) if event.perf_data]
    total_ms = dict(events).get("Method::execute")
    if not total_ms:
        raise InputError(f"{path}: the trace holds no run of the model beyond a warm-up of {warmup}; trace more")
    loads = [event.perf_data.raw[0] for event in blocks.get("Default", ()) if event.name == "Program::load_method"]
    return _profile(
        _executorch_operators(events),
        model=model,
        file=file or path.name,
        runtime=runtime,
        device=device,
        threads=threads,
        runs=len(total_ms),
        total_ms=median(total_ms),
        load_ms=loads[0] if loads else None,
    )


def _etdump_blocks(path: Path) -> dict[str, Sequence[Any]]:
    """Return the events of each block; times in ms, one value per run."""
    tools = require("executorch.devtools", extra="executorch")
    if not path.is_file():
        raise InputError(f"{path}: there is no such trace")
    try:
        with quiet():
            return {block.name: block.events for block in tools.Inspector(etdump_path=str(path)).event_blocks}
    except Exception as error:  # whatever reading a wrong table raises
        raise InputError(
            f"{path}: not an ETDump, or a damaged one; a runner with the event tracer writes it"
        ) from error


def _executorch_operators(events: Sequence[tuple[str, Sequence[float]]]) -> Iterator[OperatorTime]:
    """Yield the operators: a call comes after what it consists of."""
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
    told_ms = [sum(run) for run in zip(*(operator.samples_ms for operator in inside), strict=True)] or [0.0] * len(
        call_ms
    )
    rest_ms = [max(0.0, call - told) for call, told in zip(call_ms, told_ms, strict=True)]
    return _operator(name, "between operators" if inside else "delegate", rest_ms)


def from_onnxruntime(
    path: Path,
    *,
    model: str,
    file: str | None = None,
    runtime: str = "onnxruntime",
    device: DeviceInfo | None = None,
    threads: int | None = None,
    warmup: int = 0,
) -> Profile:
    """Read a profile of onnxruntime.

    Where a provider other than the processor's took a part of the network, the processor's kernels are what is not
    delegated.

    Args:
        path: of the JSON file that it wrote.
        model: name of the network.
        file: name of the model's file; that of the profile if not said.
        runtime: what ran it.
        device: where.
        threads: how many worked.
        warmup: runs at the start to leave out.

    Raises:
        InputError: it cannot be read, or holds no more runs than the warm-up.
    """
    events = _onnxruntime_events(path)
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")[warmup:]
    if not runs:
        raise InputError(f"{path}: the profile holds no run of the model beyond a warm-up of {warmup}; profile more")
    started, _ = runs[0]
    nodes = [event for event in events if event["name"].endswith(_KERNEL) and event["ts"] >= started]
    loads = [event["dur"] for event in events if event["name"].startswith(("model_loading", "session_init"))]
    return _profile(
        _onnxruntime_operators(nodes),
        model=model,
        file=file or path.name,
        runtime=runtime,
        device=device,
        threads=threads,
        runs=len(runs),
        total_ms=median(duration for _, duration in runs) / 1000,
        load_ms=sum(loads) / 1000 if loads else None,
    )


def _onnxruntime_events(path: Path) -> list[Mapping[str, Any]]:
    """Return the events; times in microseconds."""
    try:
        events = json.loads(path.read_bytes())
        return [event for event in events if {"name", "ts", "dur"} <= event.keys()]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not a profile of onnxruntime, which is a JSON list of events") from error


def _onnxruntime_operators(nodes: Sequence[Mapping[str, Any]]) -> Iterator[OperatorTime]:
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for node in sorted(nodes, key=lambda node: node["ts"]):
        by_name.setdefault(node["name"].removesuffix(_KERNEL), []).append(node)
    providers = {node["args"]["provider"] for node in nodes}
    for name, same in by_name.items():
        delegated = providers == {_OWN_KERNELS} or same[0]["args"]["provider"] != _OWN_KERNELS
        samples_ms = [node["dur"] / 1000 for node in same]
        yield _operator(name, same[0]["args"]["op_name"], samples_ms, delegated=delegated)


def _operator(name: str, kind: str, samples_ms: Sequence[float], *, delegated: bool = True) -> OperatorTime:
    # To the nanosecond: tracers take differences of rounded times, which may even be a hair below 0.
    clean = tuple(max(0.0, round(sample, 6)) for sample in samples_ms)
    return OperatorTime(name=name, kind=kind, samples_ms=clean, median_ms=median(clean), delegated=delegated)


def _profile(operators: Iterator[OperatorTime], **about: Any) -> Profile:
    found = tuple(operators)
    total = sum(operator.median_ms for operator in found)
    left = sum(operator.median_ms for operator in found if not operator.delegated)
    return Profile(operators=found, undelegated_share=left / total if total else 0.0, **about)
