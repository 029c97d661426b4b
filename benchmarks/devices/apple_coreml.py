"""Core ML devices: measurements, compute plans and profiles from the results of `run_coreml`."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import get_args

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.context import measurement
from fbnet_zoo.benchmarks.devices.apple_process import (
    ComputeUnits,
    CoreMLRequest,
    CoreMLResult,
    CoreMLTarget,
    PlannedOperator,
    execute,
)
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
)
from fbnet_zoo.benchmarks.profile import OperatorTime, Profile
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.spec import Record

_PROFILE_WARMUP = 1


class ComputePlan(Record):
    """Core ML's choice of a processor for each operator of a model.

    Attributes:
        compute_units: compute units that Core ML could choose from.
        operators: operators in execution order.
        share: processor to its fraction of the estimated cost.
    """

    model: str
    device: DeviceInfo
    compute_units: ComputeUnits
    operators: tuple[PlannedOperator, ...]
    share: dict[str, float]


class CoreMLDevice(Device):
    """Base of Macs and iPhones.

    Args:
        info: description of the device.
        run: function that runs command lines.
        compute_units: compute units that Core ML may use.
        run_s: time limit of one process, seconds.

    Raises:
        InputError: the compute units are unknown.
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
        result = self._execute(model, inputs, runs=warmup + runs)
        return measurement(
            model,
            before,
            self._state(),
            runtime=f"coreml {self._units}",
            device=self._info,
            threads=threads,
            warmup=warmup,
            warmup_ms=result.samples_ms[:warmup],
            samples_ms=result.samples_ms[warmup:],
            load_ms=result.load_ms,
            first_ms=result.samples_ms[0],
            peak_rss_mb=result.peak_mb,
            baseline_rss_mb=result.baseline_mb,
            versions={**result.versions, **self._versions()},
        )

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Write Core ML's compute plan as JSON (`ComputePlan`): which operators run on the Neural Engine."""
        _check(model, runs=runs, threads=threads)
        operators = self._execute(model, inputs, runs=runs, operators=True).operators
        share = {each: _share(operators, each) for each in sorted({one.device for one in operators if one.device})}
        plan = ComputePlan(
            model=model.name, device=self._info, compute_units=self._units, operators=operators, share=share
        )
        write_atomically(out, plan.model_dump_json(indent=2) + "\n")

    def profile_operators(self, model: ModelFile, runs: int = RUNS, threads: int = 1) -> Profile:
        """Estimate the time of every operator from its fraction of the cost; only whole runs are measured.

        An operator is delegated if Core ML prefers the GPU or the Neural Engine for it, or may use only the CPU. Errors
        are those of `profile`.
        """
        _check(model, runs=runs, threads=threads)
        result = self._execute(model, (), runs=_PROFILE_WARMUP + runs, operators=True)
        samples = result.samples_ms[_PROFILE_WARMUP:]
        operators = tuple(_time_of(each, samples, alone=self._units == "cpu") for each in result.operators)
        slow = sum(
            planned.cost for planned, timed in zip(result.operators, operators, strict=True) if not timed.delegated
        )
        whole = sum(planned.cost for planned in result.operators)
        library = result.versions.get("coremltools", "")
        return Profile(
            model=model.name,
            file=model.path.name,
            runtime=f"coreml {self._units} (coremltools {library}; operators estimated: share of the cost x whole run)",
            device=self._info,
            runs=runs,
            total_ms=median(samples),
            load_ms=result.load_ms,
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

    def phone_target(self) -> CoreMLTarget | None:
        return None

    def _execute(self, model: ModelFile, inputs: Inputs, *, runs: int, operators: bool = False) -> CoreMLResult:
        request = CoreMLRequest(
            model=str(model.path.resolve()),
            compute_units=self._units,
            runs=runs,
            operators=operators,
            phone=self.phone_target(),
        )
        return execute(self._run, request, inputs, timeout_s=self._run_s)


def _check(model: ModelFile, *, runs: int, warmup: int = 1, threads: int) -> None:
    check_counts(runs=runs, warmup=warmup, threads=threads)
    if threads > 1:
        raise InputError(f"threads cannot be {threads}; expected 1, as Core ML chooses the number of threads itself")
    _check_package(model)


def _check_package(model: ModelFile) -> None:
    if model.path.suffix != ".mlpackage" or not model.path.is_dir():
        raise InputError(f"{model.path}: not an .mlpackage folder, as Core ML requires; convert it with --to coreml")


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
