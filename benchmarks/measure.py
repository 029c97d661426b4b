"""The interface of all devices, and the records of measurements."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, SerializerFunctionWrapHandler, model_serializer

from fbnet_zoo import limits
from fbnet_zoo.errors import DeviceError, EnergyUnavailableError, InputError
from fbnet_zoo.latency.device import Count, DeviceInfo, Milliseconds, Threads
from fbnet_zoo.spec import Positive, Record

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.devices.energy import EnergyMeter

Inputs = Sequence[NDArray[Any]]

RUNS, WARMUP = 20, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A converted file.

    Attributes:
        path: path on this machine.
        name: model name.
        target: target format.
        precision: precision of weights and arithmetic.
        backend: backend that it was lowered to, if the format has several.
    """

    path: Path
    name: str
    target: str
    precision: str
    backend: str | None = None


class CpuPolicy(Record):
    """A cpufreq policy: cores that share a clock.

    Attributes:
        cores: core numbers.
        fastest_khz: highest frequency of the hardware.
        limit_khz: highest frequency that the system currently allows.
        current_khz: frequency when the state was read.
        time_in_state: frequency (kHz) to the time spent at it since boot, in units of 10 ms.
    """

    name: str
    cores: tuple[int, ...]
    governor: str | None = None
    fastest_khz: int | None = None
    limit_khz: int | None = None
    current_khz: int | None = None
    time_in_state: dict[int, int] = Field(default_factory=dict)


class DeviceState(Record):
    """State of a device that can affect timings; values that the device does not report are missing.

    Attributes:
        thermal_status: Android's thermal severity, 0 (none) to 6 (shutdown); on a Mac, 1 if throttled, else 0.
        celsius: sensor name to temperature.
        load_average: average number of runnable processes over the last minute.
        throttle_events: number of thermal throttling events of the processor since boot.
    """

    battery_percent: int | None = None
    battery_celsius: float | None = None
    charging: bool | None = None
    thermal_status: int | None = None
    celsius: dict[str, float] = Field(default_factory=dict)
    available_mb: float | None = None
    load_average: float | None = None
    throttle_events: int | None = None
    policies: tuple[CpuPolicy, ...] = ()


class RunEnergy(Record):
    """Energy of one run of a model, above that of the idle device.

    Attributes:
        mj: energy of one run, mJ; that of the idle device in the same time is subtracted.
        idle_mw: power of the idle device directly before, mW.
        source: what measured it.
        runs: number of runs that were measured together.
        seconds: their duration.
    """

    mj: Positive
    idle_mw: Annotated[float, Field(ge=0)]
    source: str
    runs: Count
    seconds: Positive


class Measurement(Record):
    """One process that ran one model on one device; one line of a store.

    Attributes:
        format: version of this record.
        file: name of the model file; `sha256` and `size` (bytes) describe its content.
        runtime: runtime that ran the model.
        threads: number of threads; always 1 for Core ML, which chooses its own.
        affinity: hexadecimal mask of the cores that the process was pinned to.
        warmup: number of warm-up runs.
        warmup_ms: times of the warm-up runs.
        samples_ms: times of the measured runs, in order, including outliers.
        runs_per_sample: number of runs averaged in each sample; above 1 if the runtime reports only totals.
        load_ms: time to load the model.
        first_ms: time of the first run of the process.
        peak_rss_mb: peak resident memory of the process.
        baseline_rss_mb: peak resident memory before the model was loaded.
        energy: energy of a run, if it was measured, in another process than the times.
        throttled: whether the device was throttled before or during the measurement.
        versions: name to version, for every package and tool used.
        commit: commit of this project, if it ran from its repository.
        date: end of the measurement.
    """

    format: Literal[1] = 1
    model: str
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: int
    target: str
    backend: str | None = None
    precision: str
    runtime: str
    device: DeviceInfo
    threads: Threads
    affinity: str | None = None
    warmup: Annotated[int, Field(ge=0)]
    warmup_ms: tuple[Milliseconds, ...] = ()
    samples_ms: Annotated[tuple[Positive, ...], Field(min_length=1)]
    runs_per_sample: Count = 1
    load_ms: Milliseconds | None = None
    first_ms: Milliseconds | None = None
    peak_rss_mb: Milliseconds | None = None
    baseline_rss_mb: Milliseconds | None = None
    energy: RunEnergy | None = None
    before: DeviceState
    after: DeviceState
    throttled: bool
    versions: dict[str, str]
    commit: str | None = None
    date: AwareDatetime

    @model_serializer(mode="wrap")
    def _stored(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an energy that was not measured."""
        return {key: value for key, value in serialize(self).items() if key != "energy" or value is not None}


def was_throttled(before: DeviceState, after: DeviceState) -> bool:
    """Return whether a device was throttled: it reports so, counted events, or lowered the limit of a clock.

    >>> was_throttled(DeviceState(thermal_status=0), DeviceState(thermal_status=2))
    True
    """
    limits = {policy.name: policy.limit_khz for policy in before.policies}
    lowered = any(
        (policy.limit_khz or 0) < limit
        for policy in after.policies
        if policy.limit_khz is not None and (limit := limits.get(policy.name)) is not None
    )
    counted = (after.throttle_events or 0) > (before.throttle_events or 0)
    return lowered or counted or any((state.thermal_status or 0) > 0 for state in (before, after))


def limits_khz(state: DeviceState) -> tuple[int, ...]:
    """Return the highest frequency that the system allows each group of cores, in descending order, as far as known."""
    return tuple(sorted((policy.limit_khz for policy in state.policies if policy.limit_khz), reverse=True))


class Device(ABC):
    """A device that runs models. Leaving its `with` block removes every file that was copied to it."""

    @abstractmethod
    def info(self) -> DeviceInfo:
        """Return the description of the device.

        Raises:
            DeviceError: the device cannot be reached.
        """

    @abstractmethod
    def push(self, model: ModelFile) -> None:
        """Copy a model to the device, so that `run` finds it there.

        Raises:
            DeviceError: the device cannot be reached, or cannot store the file.
        """

    @abstractmethod
    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        """Time a model in its own process.

        Args:
            model: model, copied to the device if it is not there yet.
            inputs: input tensors (default: chosen by the device, such as seeded noise).
            runs: number of measured runs (default: 20).
            warmup: number of warm-up runs before them, at least one (default: 3).
            threads: number of threads (default: 1).

        Raises:
            DeviceError: the device or its runtime failed.
            MissingExtraError: the runtime is not installed.
            InputError: a number is out of range, or a file cannot be read.
        """

    def run_in_turn(
        self, models: Sequence[ModelFile], runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> tuple[Measurement, ...]:
        """Time several models of one format; by default, one `run` for each.

        A device that supports it loads all models into one process and runs them round-robin, so that each model finds
        the caches as the others left them, like an operator in a network. Errors are those of `run`.
        """
        return tuple(self.run(model, (), runs, warmup, threads) for model in models)

    @abstractmethod
    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Run a model with the tracer of its runtime and write the trace to `out`.

        Raises:
            DeviceError: the device or its runtime failed, or the runtime has no tracer.
            MissingExtraError: the runtime is not installed.
            InputError: a number is out of range, or a file cannot be read or written.
        """

    def energy_meter(self) -> "EnergyMeter":
        """Return what measures the energy of runs.

        Raises:
            EnergyUnavailableError: the device reports no energy, or none that can be trusted at the moment.
            DeviceError: the device cannot be reached.
        """
        raise EnergyUnavailableError(
            "this device reports no energy; it can be measured on this machine (host) where Linux reports that of the "
            "processor, and on Android phones that are not plugged in"
        )

    @abstractmethod
    def cleanup(self) -> None:
        """Remove every file that was copied to the device, and stop every process left running there.

        Raises:
            DeviceError: the device cannot be reached.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.cleanup()
        except DeviceError as failure:
            if error is None:
                raise
            error.add_note(f"cleanup failed too: {failure}")
        except KeyboardInterrupt:  # the user wants to leave, not to leave files behind
            self.cleanup()
            raise


def check_counts(*, runs: int, warmup: int = 1, threads: int) -> None:
    """Check the numbers of runs, warm-up runs and threads.

    Raises:
        InputError: one is below 1, or there are more threads than the limit.
    """
    for name, value in (("runs", runs), ("warmup", warmup), ("threads", threads)):
        if value < 1:
            reason = ", because the first run of a process is always slower" if name == "warmup" else ""
            raise InputError(f"{name} cannot be {value}; expected at least 1{reason}")
    limits.check("threads", threads, "there are")
