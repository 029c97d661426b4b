"""This machine as a device: onnxruntime, ExecuTorch and PyTorch, with a new process for each measurement.

The process is pinned to one core per thread, distinct physical cores if possible, and the number of threads is set for
the runtime and for OpenMP. The memory is that of the whole process, including Python and the runtime;
`Measurement.baseline_rss_mb` is their memory without the model.
"""

from collections.abc import Sequence
from pathlib import Path

from fbnet_zoo._require import require
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.context import file_record, measurement
from fbnet_zoo.benchmarks.devices.host_process import RUNTIMES, measure, prepare_run
from fbnet_zoo.benchmarks.devices.host_state import read_info, read_state
from fbnet_zoo.benchmarks.devices.rapl import RaplMeter
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
from fbnet_zoo.benchmarks.profile import Profile, TraceContext, from_onnxruntime
from fbnet_zoo.benchmarks.runtimes.child import HostResult, HostRun
from fbnet_zoo.errors import InputError, RunnerUnusableError, did_you_mean
from fbnet_zoo.folders import temporary
from fbnet_zoo.latency.device import DeviceInfo


class HostDevice(Device):
    """This machine. Files for `torch` are those of `torch.export.save`.

    Args:
        timeout_s: time limit of one process, seconds (default: 600).
    """

    def __init__(self, *, timeout_s: float = 600) -> None:
        self._timeout_s = timeout_s
        self._info: DeviceInfo | None = None

    def info(self) -> DeviceInfo:
        self._info = self._info or read_info()
        return self._info

    def push(self, model: ModelFile) -> None:
        """Check that the model can be read and that a runtime here supports it; nothing is copied."""
        _runtime(model)
        file_record(model.path)

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        """Time a model in its own process; the default inputs are seeded noise."""
        check_counts(runs=runs, warmup=warmup, threads=threads)
        self.push(model)
        with prepare_run(model, inputs, runs=runs, warmup=warmup, threads=threads) as run:
            before = read_state()
            result = measure(model, run, timeout_s=self._timeout_s)
            after = read_state()
        return self._measurement(model, run, result, before, after)

    def run_in_turn(
        self, models: Sequence[ModelFile], runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> tuple[Measurement, ...]:
        """Time several models of one format round-robin in one process; their memory is not measured."""
        check_counts(runs=runs, warmup=warmup, threads=threads)
        for model in models:
            self.push(model)
        runtimes = {_runtime(model) for model in models}
        if len(runtimes) != 1:
            raise InputError(f"files run in turn must be for one runtime; got {', '.join(sorted(runtimes)) or 'none'}")
        first, *others = models
        with prepare_run(first, runs=runs, warmup=warmup, threads=threads, others=others) as run:
            before = read_state()
            result = measure(first, run, timeout_s=self._timeout_s)
            after = read_state()
        pairs = zip(models, result.each(), strict=True)
        return tuple(self._measurement(model, run, each, before, after) for model, each in pairs)

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Write onnxruntime's profile as JSON, with `WARMUP` extra runs at the start; other runtimes have no tracer."""
        check_counts(runs=runs, threads=threads)
        if _runtime(model) != RUNTIMES["onnx"]:
            raise RunnerUnusableError(
                f"{model.path.name}: {RUNTIMES[model.target]} has no tracer on this machine; profile the ONNX file of "
                "the network, or read a trace of an executor_runner built with -DEXECUTORCH_ENABLE_EVENT_TRACER=ON"
            )
        file_record(model.path)
        with prepare_run(model, inputs, runs=runs, warmup=WARMUP, threads=threads, trace=True) as run:
            measure(model, run, timeout_s=self._timeout_s)
            write_atomically(out, Path(str(run.trace)).read_bytes())

    def profile_operators(self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> Profile:
        """Return the time of each operator of an ONNX file; errors are those of `profile`."""
        with temporary() as folder:
            trace = folder / "trace.json"
            self.profile(model, trace, inputs, runs, threads)
            context = TraceContext(
                model=model.name,
                file=model.path.name,
                runtime=f"onnxruntime {require('onnxruntime', extra='onnx').__version__}",
                device=self.info(),
                threads=threads,
                warmup=WARMUP,
            )
            return from_onnxruntime(trace, context)

    def energy_meter(self) -> RaplMeter:
        """Return the meter of the processor, which other programs on this machine disturb."""
        return RaplMeter(timeout_s=self._timeout_s)

    def cleanup(self) -> None:
        """Do nothing: each process cleans up after itself."""

    def _measurement(
        self, model: ModelFile, run: HostRun, result: HostResult, before: DeviceState, after: DeviceState
    ) -> Measurement:
        return measurement(
            model,
            before,
            after,
            runtime=_runtime(model),
            device=self.info(),
            threads=run.threads,
            affinity=f"{sum(1 << core for core in run.cores):x}" if run.cores else None,
            warmup=run.warmup,
            warmup_ms=tuple(result.warmup_ms),
            samples_ms=tuple(result.samples_ms),
            load_ms=result.load_ms,
            first_ms=result.warmup_ms[0],
            peak_rss_mb=result.peak_mb,
            baseline_rss_mb=result.baseline_mb,
            versions=result.versions or {},
        )


def _runtime(model: ModelFile) -> str:
    if model.target == "coreml":
        raise RunnerUnusableError(
            f"{model.path.name}: Core ML packages run only on Apple systems: use the device mac on a Mac, or ios for a "
            "connected iPhone"
        )
    if model.target not in RUNTIMES:
        hint = did_you_mean(model.target, RUNTIMES) or f"; expected {', '.join(RUNTIMES)}"
        raise RunnerUnusableError(f"{model.path.name}: no runtime here for the target {model.target!r}{hint}")
    return RUNTIMES[model.target]
