"""Core ML on whatever device: what a process of `run_coreml` answers, as records."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import get_args

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.context import commit, versions
from fbnet_zoo.benchmarks.devices.apple_process import Answer, ComputeUnits, Job, PlannedOperator, Target, run_job
from fbnet_zoo.benchmarks.devices.apple_tools import Tools
from fbnet_zoo.benchmarks.devices.command import Run
from fbnet_zoo.benchmarks.measure import (
    RUNS,
    WARMUP,
    Device,
    DeviceState,
    Inputs,
    Measurement,
    ModelFile,
    check_counts,
    was_throttled,
)
from fbnet_zoo.benchmarks.profile import OperatorTime, Profile
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.spec import Record

_PROFILE_WARMUP = 1


class ComputePlan(Record):
    """Where Core ML runs the operators of a model.

    Attributes:
        compute_units: what it could choose from.
        operators: in the order in which they run.
        share: of the estimated cost, by processor.
    """

    model: str
    device: DeviceInfo
    compute_units: ComputeUnits
    operators: tuple[PlannedOperator, ...]
    share: dict[str, float]


class CoreMLDevice(Device):
    """What Macs and iPhones have in common.

    Args:
        info: which device it is.
        run: runs every command line.
        compute_units: what Core ML may use.
        run_s: how long one process may take, seconds.

    Raises:
        InputError: there are no such compute units.
    """

    def __init__(self, info: DeviceInfo, *, run: Run, compute_units: str, run_s: float) -> None:
        if compute_units not in get_args(ComputeUnits):
            known = get_args(ComputeUnits)
            hint = did_you_mean(compute_units, known) or f"; expected one of {', '.join(known)}"
            raise InputError(f"compute_units cannot be {compute_units!r}{hint}")
        self._info, self._run, self._run_s = info, run, run_s
        self.tools = Tools(run)
        self._units: ComputeUnits = compute_units  # type: ignore[assignment]  # just checked

    def info(self) -> DeviceInfo:
        return self._info

    def push(self, model: ModelFile) -> None:
        _check_package(model)

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        _check(model, runs=runs, warmup=warmup, threads=threads)
        before = self._cool_down()
        answer = self._answer(model, inputs, runs=warmup + runs)
        after = self._state()
        file = FileRecord.of(model.path)
        return Measurement(
            model=model.name,
            file=file.file,
            sha256=file.sha256,
            size=file.size,
            target=model.target,
            backend=model.backend,
            precision=model.precision,
            runtime=f"coreml {self._units}",
            device=self._info,
            threads=threads,
            warmup=warmup,
            warmup_ms=answer.samples_ms[:warmup],
            samples_ms=answer.samples_ms[warmup:],
            load_ms=answer.load_ms,
            first_ms=answer.samples_ms[0],
            peak_rss_mb=answer.peak_mb,
            baseline_rss_mb=answer.baseline_mb,
            before=before,
            after=after,
            throttled=was_throttled(before, after),
            versions={**versions(), **answer.versions, **self._versions()},
            commit=commit(),
            date=datetime.now(UTC),
        )

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Write Core ML's compute plan as JSON (`ComputePlan`): which operators run on the Neural Engine."""
        _check(model, runs=runs, threads=threads)
        operators = self._answer(model, inputs, runs=runs, operators=True).operators
        share = {each: _share(operators, each) for each in sorted({one.device for one in operators if one.device})}
        plan = ComputePlan(
            model=model.name, device=self._info, compute_units=self._units, operators=operators, share=share
        )
        write_atomically(out, plan.model_dump_json(indent=2) + "\n")

    def profile_operators(self, model: ModelFile, runs: int = RUNS, threads: int = 1) -> Profile:
        """Estimate the time of every operator: Core ML tells their parts of the cost, only whole runs are measured.

        An operator counts as delegated where Core ML prefers another processor than the CPU, or may use no other.

        Raises:
            DeviceError: the device or Core ML failed.
            InputError: a number is out of its range, or the model cannot be used.
        """
        _check(model, runs=runs, threads=threads)
        answer = self._answer(model, (), runs=_PROFILE_WARMUP + runs, operators=True)
        samples = answer.samples_ms[_PROFILE_WARMUP:]
        operators = tuple(_time_of(each, samples, alone=self._units == "cpu") for each in answer.operators)
        slow = sum(
            planned.cost for planned, timed in zip(answer.operators, operators, strict=True) if not timed.delegated
        )
        whole = sum(planned.cost for planned in answer.operators)
        library = answer.versions.get("coremltools", "")
        return Profile(
            model=model.name,
            file=model.path.name,
            runtime=f"coreml {self._units} (coremltools {library}; operators estimated: share of the cost x whole run)",
            device=self._info,
            runs=runs,
            total_ms=median(samples),
            load_ms=answer.load_ms,
            operators=operators,
            undelegated_share=min(1.0, slow / whole) if whole else 0.0,
        )

    def cleanup(self) -> None: ...

    def _cool_down(self) -> DeviceState:
        return self._state()

    def _state(self) -> DeviceState:
        return DeviceState()

    def _versions(self) -> dict[str, str]:
        return {}

    def phone_job(self) -> Target | None:
        return None

    def _answer(self, model: ModelFile, inputs: Inputs, *, runs: int, operators: bool = False) -> Answer:
        job = Job(
            model=str(model.path.resolve()),
            compute_units=self._units,
            runs=runs,
            operators=operators,
            phone=self.phone_job(),
        )
        return run_job(self._run, job, inputs, timeout_s=self._run_s)


def _check(model: ModelFile, *, runs: int, warmup: int = 1, threads: int) -> None:
    check_counts(runs=runs, warmup=warmup, threads=threads)
    if threads > 1:
        raise InputError(f"threads cannot be {threads}: Core ML decides itself how many threads work; leave it at 1")
    _check_package(model)


def _check_package(model: ModelFile) -> None:
    if model.path.suffix != ".mlpackage" or not model.path.is_dir():
        raise InputError(f"{model.path}: Core ML runs an .mlpackage folder; convert the model with --to coreml")


def _share(operators: Sequence[PlannedOperator], device: str) -> float:
    whole = sum(each.cost for each in operators)
    return sum(each.cost for each in operators if each.device == device) / whole if whole else 0.0


def _time_of(operator: PlannedOperator, samples_ms: Sequence[float], *, alone: bool) -> OperatorTime:
    times = tuple(sample * operator.cost for sample in samples_ms)
    return OperatorTime(
        name=operator.name,
        kind=operator.kind,
        samples_ms=times,
        median_ms=median(times),
        delegated=alone or operator.device in {"gpu", "ne"},
    )
