"""Base of the processes in which models are measured on this machine.

Such a process reads a `HostRun` from stdin and writes a `HostResult` to stdout, both as JSON; the output of libraries
goes to stderr. Each runtime has its own module `run_<runtime>`. Heavy libraries are imported only after the process is
pinned to its cores, so that their threads are pinned too.
"""

import copy
import gc
import json
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter_ns
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from fbnet_zoo.benchmarks.runtimes.metering import Metered, metered
from fbnet_zoo.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOADING = "-- from here on, the model"
"""Line on stderr that separates the output of imports from the output about the model."""

_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRun:
    """Input of the process.

    Attributes:
        model: path of the model.
        inputs: paths of the input tensors, `.npy` (default: seeded noise).
        runs: number of measured runs.
        warmup: number of warm-up runs.
        threads: number of threads.
        cores: cores to pin the process to (default: chosen by the system).
        trace: path of the runtime's profile to write; the times are then distorted.
        others: paths of further models, run in turn with the first on default inputs.
        counters: paths of counters of energy to read; the model then runs on after the timed runs, to be metered.
        metered_s: duration of a pause before these runs, and their least duration, seconds.
    """

    model: str
    inputs: Sequence[str]
    runs: int
    warmup: int
    threads: int
    cores: Sequence[int]
    trace: str | None = None
    others: Sequence[str] = ()
    counters: Sequence[str] = ()
    metered_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResult:
    """Output of the process.

    Attributes:
        versions: package name to version, for every library used.
        load_ms: time to load the model from the file cache.
        warmup_ms: times of the warm-up runs.
        samples_ms: times of the measured runs.
        baseline_mb: peak resident memory before the model was loaded, 2^20 bytes.
        peak_mb: peak resident memory at the end; `None` if the system does not report it.
        others: `load_ms`, `warmup_ms` and `samples_ms` of each further model.
        metered: counters of energy, if there are any to read.
        failed: position of the model that failed.
        failure: stage that failed: `extra`, `inputs`, `load` or `run`; all other results are then empty.
        message: cause of the failure.
    """

    versions: dict[str, str] | None = None
    load_ms: float | None = None
    warmup_ms: Sequence[float] = ()
    samples_ms: Sequence[float] = ()
    baseline_mb: float | None = None
    peak_mb: float | None = None
    others: Sequence[tuple[float, Sequence[float], Sequence[float]]] = ()
    metered: Metered | None = None
    failed: int = 0
    failure: str | None = None
    message: str = ""

    def each(self) -> "Iterator[HostResult]":
        """Yield one result per model, without the memory, which the models share."""
        for load_ms, warmup_ms, samples_ms in ((self.load_ms, self.warmup_ms, self.samples_ms), *self.others):
            yield HostResult(versions=self.versions, load_ms=load_ms, warmup_ms=warmup_ms, samples_ms=samples_ms)


class Tensor(NamedTuple):
    """An input as the model declares it; dynamic sizes are `None`."""

    shape: tuple[int | None, ...]
    dtype: str


class RuntimeAdapter(ABC):
    """A runtime for models of one format."""

    @abstractmethod
    def start(self, job: HostRun) -> dict[str, str]:
        """Import the library, set its number of threads, and return the versions.

        Raises:
            MissingExtraError: the library is not installed.
        """

    @abstractmethod
    def load(self, path: Path) -> None:
        """Load the model, ready to run."""

    @abstractmethod
    def inputs(self) -> Sequence[Tensor]:
        """Return the inputs that the model declares."""

    @abstractmethod
    def bind(self, inputs: Sequence["NDArray[Any]"]) -> Callable[[], object]:
        """Return a function that runs the model once."""

    def finish(self, trace: Path) -> None:
        """Write the runtime's profile, if it has one."""
        raise NotImplementedError(trace)


class _FailedError(Exception):
    pass


def serve(runtime: RuntimeAdapter) -> None:
    """Execute the run read from stdin, and write the result to stdout."""
    results = _take_stdout()
    logging.getLogger("fbnet_zoo").setLevel(logging.DEBUG)  # show everything: it may explain a crash
    run = HostRun(**json.load(sys.stdin))
    if run.cores:
        os.sched_setaffinity(0, run.cores)
    try:
        result = _measure(runtime, run)
    except _FailedError as error:
        failure, message, failed = error.args
        result = HostResult(failure=failure, message=message, failed=failed)
    with results:
        json.dump(asdict(result), results)


def _take_stdout() -> IO[str]:
    """Return the real stdout, and redirect everything printed from now on to stderr."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def _measure(runtime: RuntimeAdapter, run: HostRun) -> HostResult:
    versions = _stage("extra", lambda: runtime.start(run))
    baseline_mb = peak_rss_mb()
    sys.stderr.write(f"{LOADING}\n")
    sys.stderr.flush()
    loaded = [_load(copy.copy(runtime), run, position) for position in range(1 + len(run.others))]
    times_ms = _time([each.run for each in loaded], run.warmup + run.runs)
    energy = _stage("run", lambda: metered(loaded[0].run, run.counters, run.metered_s)) if run.counters else None
    if run.trace:
        loaded[0].runtime.finish(Path(run.trace))
    first, *others = (
        (each.load_ms, times[: run.warmup], times[run.warmup :]) for each, times in zip(loaded, times_ms, strict=True)
    )
    return HostResult(
        versions=versions,
        load_ms=first[0],
        warmup_ms=first[1],
        samples_ms=first[2],
        baseline_mb=baseline_mb,
        peak_mb=peak_rss_mb(),
        others=others,
        metered=energy,
    )


class _Loaded(NamedTuple):
    """A model that is ready to run."""

    runtime: RuntimeAdapter
    run: Callable[[], object]
    load_ms: float


def _load(runtime: RuntimeAdapter, host_run: HostRun, position: int) -> _Loaded:
    path = Path((host_run.model, *host_run.others)[position])
    started = perf_counter_ns()
    _stage("load", lambda: runtime.load(path), position)
    load_ms = _milliseconds(started)
    given = () if position else host_run.inputs
    run = runtime.bind(_stage("inputs", lambda: _inputs(runtime.inputs(), given), position))
    return _Loaded(runtime, run, load_ms)


def _stage(name: str, action: Callable[[], Any], position: int = 0) -> Any:
    """Run one stage; any exception of a library becomes an error with the name of the stage."""
    try:
        return action()
    except MissingExtraError as error:
        raise _FailedError("extra", str(error), position) from error
    except Exception as error:  # runtimes raise exceptions of any type
        raise _FailedError(name, f"{error}" or type(error).__name__, position) from error


def _time(runs: Sequence[Callable[[], object]], count: int) -> list[list[float]]:
    """Return the times of each, ms, running all of them round-robin."""
    times: list[list[float]] = [[] for _ in runs]
    position = 0
    gc.disable()
    try:
        for _ in range(count):
            for position, run in enumerate(runs):
                started = perf_counter_ns()
                run()
                times[position].append(_milliseconds(started))
    except Exception as error:  # runtimes raise exceptions of any type
        raise _FailedError("run", f"{error}" or type(error).__name__, position) from error
    return times


def _milliseconds(started: int) -> float:
    return (perf_counter_ns() - started) / 1e6


def _inputs(declared: Sequence[Tensor], paths: Sequence[str]) -> "list[NDArray[Any]]":
    import numpy as np

    if not paths:
        return [_noise(tensor) for tensor in declared]
    given = [np.load(path, allow_pickle=False) for path in paths]
    if len(given) != len(declared):
        raise ValueError(f"got {len(given)} inputs, the model expects {len(declared)}")
    for position, (array, tensor) in enumerate(zip(given, declared, strict=True)):
        if not _fits(array, tensor):
            raise ValueError(
                f"input {position} is {array.dtype} {array.shape}, the model expects {tensor.dtype} "
                f"{tuple('any' if size is None else size for size in tensor.shape)}"
            )
    return given


def _fits(array: "NDArray[Any]", tensor: Tensor) -> bool:
    if array.dtype != tensor.dtype or array.ndim != len(tensor.shape):
        return False
    return all(size in {None, given} for given, size in zip(array.shape, tensor.shape, strict=True))


def _noise(tensor: Tensor) -> "NDArray[Any]":
    """Return seeded noise, normal for floats and uniform for integers; dynamic sizes are 1."""
    import numpy as np

    generator, shape = np.random.default_rng(_SEED), [size or 1 for size in tensor.shape]
    if np.issubdtype(tensor.dtype, np.floating):
        return generator.standard_normal(shape).astype(tensor.dtype)
    return generator.integers(0, 100, shape).astype(tensor.dtype)


def peak_rss_mb() -> float | None:
    """Return the peak resident memory of this process, 2^20 bytes; `None` if the system does not report it.

    On Linux this is `VmHWM`: `getrusage` would include the memory of the parent at the fork.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, ValueError):
        return _peak_of_usage()
    return kilobytes / 1024


def _peak_of_usage() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


def read_result(text: str) -> HostResult:
    """Parse the output of `serve`.

    Raises:
        ValueError: the text is not a `HostResult`.
    """
    from pydantic import TypeAdapter  # slow, and not needed in the process itself

    result = json.loads(text)
    if not isinstance(result, dict) or result.keys() != {field.name for field in fields(HostResult)}:
        raise ValueError("not a HostResult")
    return TypeAdapter(HostResult).validate_python(result)
