"""The one interface of everything that can be measured on, and the records of what was measured."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from numpy.typing import NDArray
from pydantic import AwareDatetime, Field

from fbnet_zoo.errors import DeviceError, InputError
from fbnet_zoo.latency.device import Count, DeviceInfo, Milliseconds
from fbnet_zoo.spec import Record

Inputs = Sequence[NDArray[Any]]

RUNS, WARMUP = 20, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A converted file, and what it is.

    Attributes:
        path: where it lies here.
        name: of the model.
        target: the format that it was converted to.
        precision: of its weights and arithmetic.
        backend: what it was lowered to, where the format has a choice.
    """

    path: Path
    name: str
    target: str
    precision: str
    backend: str | None = None


class CpuPolicy(Record):
    """Cores that share a clock.

    Attributes:
        cores: their numbers.
        fastest_khz: what the hardware can do.
        limit_khz: what the system allows at the moment.
        current_khz: what it was.
        time_in_state: 10 ms units spent at each frequency (kHz) since the start of the device.
    """

    name: str
    cores: tuple[int, ...]
    governor: str | None = None
    fastest_khz: int | None = None
    limit_khz: int | None = None
    current_khz: int | None = None
    time_in_state: dict[int, int] = Field(default_factory=dict)


class DeviceState(Record):
    """What may change a timing, at one moment; what the device does not tell is missing.

    Attributes:
        thermal_status: Android's severity, 0 (none) to 6 (shutdown); of a Mac, whether it is slowed down, 0 or 1.
        celsius: of the sensors that the device names.
        load_average: processes that wanted to run, over the last minute.
        throttle_events: how often the processor has slowed itself down because of its warmth, since the start.
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


class Measurement(Record):
    """One process that ran one model on one device; one line of a store.

    Attributes:
        format: version of this record.
        file: name of the model's file; `sha256` and `size` (bytes) are of its content.
        runtime: what ran it.
        threads: how many could work; 1 of Core ML, which decides that itself.
        affinity: hexadecimal mask of the cores that it was pinned to.
        warmup: runs before those that count.
        warmup_ms: what they took.
        samples_ms: the runs that count, in order, nothing left out.
        runs_per_sample: more than 1 where the runtime tells only the time of several runs.
        load_ms: loading the model, once.
        first_ms: the first run of the process.
        peak_rss_mb: largest resident memory of the process.
        baseline_rss_mb: the same before the model was loaded: the runtime, and what it runs in.
        throttled: the device slowed itself down, before or meanwhile.
        versions: of everything that took part.
        commit: of this project, when it ran from its repository.
        date: of the end.
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
    threads: Count
    affinity: str | None = None
    warmup: Annotated[int, Field(ge=0)]
    warmup_ms: tuple[Milliseconds, ...] = ()
    samples_ms: Annotated[tuple[Milliseconds, ...], Field(min_length=1)]
    runs_per_sample: Count = 1
    load_ms: Milliseconds | None = None
    first_ms: Milliseconds | None = None
    peak_rss_mb: Milliseconds | None = None
    baseline_rss_mb: Milliseconds | None = None
    before: DeviceState
    after: DeviceState
    throttled: bool
    versions: dict[str, str]
    commit: str | None = None
    date: AwareDatetime


def was_throttled(before: DeviceState, after: DeviceState) -> bool:
    """Tell whether a device slowed itself down: it says or counts so, or it allows a clock less than before.

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


class Device(ABC):
    """Something that runs models. Leaving its `with` block removes everything that was put on it."""

    @abstractmethod
    def info(self) -> DeviceInfo:
        """Say which device it is.

        Raises:
            DeviceError: it cannot be reached.
        """

    @abstractmethod
    def push(self, model: ModelFile) -> None:
        """Put a model on the device, so that `run` finds it there.

        Raises:
            DeviceError: the device cannot be reached, or cannot take the file.
        """

    @abstractmethod
    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        """Time a model in a process of its own.

        Args:
            model: put on the device first, if it is not there.
            inputs: its input tensors; without any, the runtime fills them.
            runs: how many runs count.
            warmup: how many go before them, at least one, since the first run of a process is like no other.
            threads: how many may work.

        Raises:
            DeviceError: the device or its runtime failed.
            InputError: a number is out of its range.
        """

    def run_in_turn(
        self, models: Sequence[ModelFile], runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> tuple[Measurement, ...]:
        """Time several models of one format, each as `run` does if not said otherwise.

        A device that can holds them all in one process and runs each once, then each once more, and so on. A model then
        finds the caches as others have left them, as an operator does in a network.

        Raises:
            DeviceError: the device or its runtime failed.
            InputError: a number is out of its range.
        """
        return tuple(self.run(model, (), runs, warmup, threads) for model in models)

    @abstractmethod
    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Run a model with the tracer of its runtime and write the trace to `out`.

        Raises:
            DeviceError: the device or its runtime failed, or the runtime has no tracer.
            InputError: a number is out of its range.
        """

    @abstractmethod
    def cleanup(self) -> None:
        """Remove everything that was put on the device, and stop what still runs there.

        Raises:
            DeviceError: it cannot be reached.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.cleanup()
        except DeviceError as failure:
            if error is None:
                raise
            error.add_note(f"cleaning up failed too: {failure}")


def check_counts(*, runs: int, warmup: int = 1, threads: int) -> None:
    """Refuse numbers of runs and threads that mean nothing.

    Raises:
        InputError: one is below 1.
    """
    for name, value in (("runs", runs), ("warmup", warmup), ("threads", threads)):
        if value < 1:
            reason = ", since the first run of a process is like no other" if name == "warmup" else ""
            raise InputError(f"{name} cannot be {value}; it must be at least 1{reason}")
