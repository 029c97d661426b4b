"""This machine as a device: onnxruntime, ExecuTorch's runtime and PyTorch, a fresh process for each measurement.

The process is bound to as many cores as it may have threads, distinct ones where there are; the runtime is told the
number, and so is OpenMP. The memory is that of the whole process, with Python and the runtime;
`Measurement.baseline_rss_mb` is what these have without the model.
"""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fbnet_zoo._require import require
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.context import commit, versions
from fbnet_zoo.benchmarks.devices.host_process import RUNTIMES, measure, prepared
from fbnet_zoo.benchmarks.devices.host_state import read_info, read_state
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
from fbnet_zoo.benchmarks.profile import Profile, from_onnxruntime
from fbnet_zoo.benchmarks.runtimes.child import Answer, Job
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.errors import InputError, RunnerUnusableError, did_you_mean
from fbnet_zoo.latency.device import DeviceInfo


class HostDevice(Device):
    """This machine. A file for `torch` is one of `torch.export.save`.

    Args:
        timeout_s: how long one process may take, seconds.
    """

    def __init__(self, *, timeout_s: float = 600) -> None:
        self._timeout_s = timeout_s
        self._info: DeviceInfo | None = None

    def info(self) -> DeviceInfo:
        self._info = self._info or read_info()
        return self._info

    def push(self, model: ModelFile) -> None:
        """Make sure that the model is there and that something here may run it: nothing has to be copied."""
        _runtime(model)
        _record(model)

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        """Time a model, as `Device.run` says; without inputs it gets seeded noise.

        Raises:
            RunnerError: the runtime refused the model or crashed.
            DeviceTimeoutError: the process did not end in time, and was stopped.
            MissingExtraError: the runtime is not installed.
            InputError: a number is out of its range, or the file cannot be read.
        """
        check_counts(runs=runs, warmup=warmup, threads=threads)
        runtime, record = _runtime(model), _record(model)
        with prepared(model, inputs, runs=runs, warmup=warmup, threads=threads) as job:
            before = read_state()
            answer = measure(model, job, timeout_s=self._timeout_s)
            after = read_state()
        return self._measurement(model, job, answer, runtime=runtime, record=record, states=(before, after))

    def run_in_turn(
        self, models: Sequence[ModelFile], runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> tuple[Measurement, ...]:
        """Time several models of one format in one process, as `Device.run_in_turn` says; their memory is not told.

        Raises:
            RunnerError: the runtime refused a model or crashed.
            DeviceTimeoutError: the process did not end in time, and was stopped.
            MissingExtraError: the runtime is not installed.
            InputError: a number is out of its range, the models are of several formats, or a file cannot be read.
        """
        check_counts(runs=runs, warmup=warmup, threads=threads)
        runtimes, records = {_runtime(model) for model in models}, [_record(model) for model in models]
        if len(runtimes) != 1:
            raise InputError(f"files run in turn must be for one runtime; got {', '.join(sorted(runtimes)) or 'none'}")
        first, *others = models
        with prepared(first, runs=runs, warmup=warmup, threads=threads, others=others) as job:
            before = read_state()
            answer = measure(first, job, timeout_s=self._timeout_s)
            states = before, read_state()
        (runtime,) = runtimes
        return tuple(
            self._measurement(model, job, each, runtime=runtime, record=record, states=states)
            for model, each, record in zip(models, answer.each(), records, strict=True)
        )

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Write onnxruntime's own profile, JSON; the other runtimes have none here. The first `WARMUP` runs are extra.

        Raises:
            RunnerError: the runtime refused the model or crashed, or has no tracer.
            DeviceTimeoutError: the process did not end in time, and was stopped.
            MissingExtraError: the runtime is not installed.
            InputError: a number is out of its range, or the file cannot be read.
        """
        check_counts(runs=runs, threads=threads)
        if _runtime(model) != RUNTIMES["onnx"]:
            raise RunnerUnusableError(
                f"{model.path.name}: {RUNTIMES[model.target]} has no tracer on this machine; profile the ONNX file of "
                "the network, or read a trace of an executor_runner built with -DEXECUTORCH_ENABLE_EVENT_TRACER=ON"
            )
        _record(model)
        with prepared(model, inputs, runs=runs, warmup=WARMUP, threads=threads, trace=True) as job:
            measure(model, job, timeout_s=self._timeout_s)
            write_atomically(out, Path(str(job.trace)).read_bytes())

    def profile_operators(self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> Profile:
        """Return how long each operator of an ONNX file takes.

        Raises:
            RunnerError: the runtime refused the model or crashed, or has no tracer.
            DeviceTimeoutError: the process did not end in time, and was stopped.
            MissingExtraError: the runtime is not installed.
            InputError: a number is out of its range, or the file cannot be read.
        """
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder, "trace.json")
            self.profile(model, trace, inputs, runs, threads)
            return from_onnxruntime(
                trace,
                model=model.name,
                file=model.path.name,
                runtime=f"onnxruntime {require('onnxruntime', extra='onnx').__version__}",
                device=self.info(),
                threads=threads,
                warmup=WARMUP,
            )

    def cleanup(self) -> None:
        """Do nothing: whatever a process needs goes with it."""

    def _measurement(
        self,
        model: ModelFile,
        job: Job,
        answer: Answer,
        *,
        runtime: str,
        record: FileRecord,
        states: tuple[DeviceState, DeviceState],
    ) -> Measurement:
        before, after = states
        return Measurement(
            model=model.name,
            file=record.file,
            sha256=record.sha256,
            size=record.size,
            target=model.target,
            backend=model.backend,
            precision=model.precision,
            runtime=runtime,
            device=self.info(),
            threads=job.threads,
            affinity=f"{sum(1 << core for core in job.cores):x}" if job.cores else None,
            warmup=job.warmup,
            warmup_ms=tuple(answer.warmup_ms),
            samples_ms=tuple(answer.samples_ms),
            load_ms=answer.load_ms,
            first_ms=answer.warmup_ms[0],
            peak_rss_mb=answer.peak_mb,
            baseline_rss_mb=answer.baseline_mb,
            before=before,
            after=after,
            throttled=was_throttled(before, after),
            versions={**versions(), **(answer.versions or {})},
            commit=commit(),
            date=datetime.now(UTC),
        )


def _runtime(model: ModelFile) -> str:
    if model.target == "coreml":
        raise RunnerUnusableError(
            f"{model.path.name}: a Core ML package runs on Apple's systems only: on a Mac take the device mac, "
            "for a connected iPhone the device ios"
        )
    if model.target not in RUNTIMES:
        hint = did_you_mean(model.target, RUNTIMES) or f"; expected {', '.join(RUNTIMES)}"
        raise RunnerUnusableError(f"{model.path.name}: nothing here runs files for {model.target!r}{hint}")
    return RUNTIMES[model.target]


def _record(model: ModelFile) -> FileRecord:
    try:
        return FileRecord.of(model.path)
    except OSError as error:
        raise InputError(f"{model.path}: the model cannot be read: {error.strerror}") from error
