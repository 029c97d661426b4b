"""What the processes have in common in which models are measured on this machine.

Such a process is given a `Job` on stdin and answers with an `Answer` on stdout, both JSON. Whatever libraries print
goes to stderr. Every runtime has a module `run_<runtime>` of its own; heavy libraries are imported after the process is
bound to its cores, so that the threads that they start are bound, too.
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

from fbnet_zoo.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOADING = "-- from here on, the model"
"""A line on stderr between what libraries say when they are imported and what they say of the model."""

_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to measure.

    Attributes:
        model: path of the file.
        inputs: paths of its input tensors, `.npy`; without any, seeded noise.
        runs: how many count.
        warmup: how many go before them.
        threads: how many may work.
        cores: to be bound to; without any, the system chooses.
        trace: path of the runtime's own profile, to be written; timings are then of no use.
        others: paths of further files, which are run in turn with the first, without given inputs.
    """

    model: str
    inputs: Sequence[str]
    runs: int
    warmup: int
    threads: int
    cores: Sequence[int]
    trace: str | None = None
    others: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it.

    Attributes:
        versions: of the libraries.
        load_ms: loading the model, whose file is in the system's cache.
        warmup_ms: the runs before those that count.
        samples_ms: those that count.
        baseline_mb: largest resident memory until the model was loaded, 2^20 bytes.
        peak_mb: the same at the end; `None` where the system does not tell.
        others: of each further file, what `load_ms`, `warmup_ms` and `samples_ms` tell of the first.
        failed: position of the file where it failed.
        failure: where it failed, one of `extra`, `inputs`, `load`, `run`; everything else is then empty.
        message: why.
    """

    versions: dict[str, str] | None = None
    load_ms: float | None = None
    warmup_ms: Sequence[float] = ()
    samples_ms: Sequence[float] = ()
    baseline_mb: float | None = None
    peak_mb: float | None = None
    others: Sequence[tuple[float, Sequence[float], Sequence[float]]] = ()
    failed: int = 0
    failure: str | None = None
    message: str = ""

    def each(self) -> "Iterator[Answer]":
        """Yield what is known of every file alone: of several in one process not the memory."""
        for load_ms, warmup_ms, samples_ms in ((self.load_ms, self.warmup_ms, self.samples_ms), *self.others):
            yield Answer(versions=self.versions, load_ms=load_ms, warmup_ms=warmup_ms, samples_ms=samples_ms)


class Tensor(NamedTuple):
    """An input as the model declares it; a size that is free is `None`."""

    shape: tuple[int | None, ...]
    dtype: str


class Runtime(ABC):
    """What runs models of one format."""

    @abstractmethod
    def start(self, job: Job) -> dict[str, str]:
        """Import the library, set its threads, and return the versions.

        Raises:
            MissingExtraError: it is not installed.
        """

    @abstractmethod
    def load(self, path: Path) -> None:
        """Read the model, ready to run."""

    @abstractmethod
    def inputs(self) -> Sequence[Tensor]:
        """Return what the model takes."""

    @abstractmethod
    def bind(self, inputs: Sequence["NDArray[Any]"]) -> Callable[[], object]:
        """Return what runs the model once."""

    def finish(self, trace: Path) -> None:
        """Write the runtime's own profile, where it has one."""
        raise NotImplementedError(trace)


class _FailedError(Exception):
    pass


def serve(runtime: Runtime) -> None:
    """Measure the job that stdin holds, and answer on stdout."""
    answers = _take_stdout()
    logging.getLogger("fbnet_zoo").setLevel(logging.DEBUG)  # nothing is silenced: it may be the last words
    job = Job(**json.load(sys.stdin))
    if job.cores:
        os.sched_setaffinity(0, job.cores)
    try:
        answer = _measure(runtime, job)
    except _FailedError as error:
        failure, message, failed = error.args
        answer = Answer(failure=failure, message=message, failed=failed)
    with answers:
        json.dump(asdict(answer), answers)


def _take_stdout() -> IO[str]:
    """Return the real stdout; from now on, what anybody prints goes to stderr."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _measure(runtime: Runtime, job: Job) -> Answer:
    versions = _stage("extra", lambda: runtime.start(job))
    baseline_mb = peak_rss_mb()
    sys.stderr.write(f"{LOADING}\n")
    sys.stderr.flush()
    loaded = [_load(copy.copy(runtime), job, position) for position in range(1 + len(job.others))]
    times_ms = _time([each.run for each in loaded], job.warmup + job.runs)
    if job.trace:
        loaded[0].runtime.finish(Path(job.trace))
    first, *others = (
        (each.load_ms, times[: job.warmup], times[job.warmup :]) for each, times in zip(loaded, times_ms, strict=True)
    )
    return Answer(
        versions=versions,
        load_ms=first[0],
        warmup_ms=first[1],
        samples_ms=first[2],
        baseline_mb=baseline_mb,
        peak_mb=peak_rss_mb(),
        others=others,
    )


class _Loaded(NamedTuple):
    """A file that is ready to run."""

    runtime: Runtime
    run: Callable[[], object]
    load_ms: float


def _load(runtime: Runtime, job: Job, position: int) -> _Loaded:
    path = Path((job.model, *job.others)[position])
    started = perf_counter_ns()
    _stage("load", lambda: runtime.load(path), position)
    load_ms = _milliseconds(started)
    given = () if position else job.inputs
    run = runtime.bind(_stage("inputs", lambda: _inputs(runtime.inputs(), given), position))
    return _Loaded(runtime, run, load_ms)


def _stage(name: str, action: Callable[[], Any], position: int = 0) -> Any:
    """Run a part of the job; whatever a library raises in it is said by the name of the part."""
    try:
        return action()
    except MissingExtraError as error:
        raise _FailedError("extra", str(error), position) from error
    except Exception as error:  # runtimes raise whatever they like
        raise _FailedError(name, f"{error}" or type(error).__name__, position) from error


def _time(runs: Sequence[Callable[[], object]], count: int) -> list[list[float]]:
    """Return what each takes, ms: all once, then all once more, and so on."""
    times: list[list[float]] = [[] for _ in runs]
    position = 0
    gc.disable()
    try:
        for _ in range(count):
            for position, run in enumerate(runs):
                started = perf_counter_ns()
                run()
                times[position].append(_milliseconds(started))
    except Exception as error:  # runtimes raise whatever they like
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
        raise ValueError(f"{len(given)} inputs are given, the model takes {len(declared)}")
    for position, (array, tensor) in enumerate(zip(given, declared, strict=True)):
        if not _fits(array, tensor):
            raise ValueError(
                f"input {position} is {array.dtype} {array.shape}, the model takes {tensor.dtype} "
                f"{tuple('any' if size is None else size for size in tensor.shape)}"
            )
    return given


def _fits(array: "NDArray[Any]", tensor: Tensor) -> bool:
    if array.dtype != tensor.dtype or array.ndim != len(tensor.shape):
        return False
    return all(size in {None, given} for given, size in zip(array.shape, tensor.shape, strict=True))


def _noise(tensor: Tensor) -> "NDArray[Any]":
    """Return seeded normal values, for whole numbers uniform ones; a free size is 1."""
    import numpy as np

    generator, shape = np.random.default_rng(_SEED), [size or 1 for size in tensor.shape]
    if np.issubdtype(tensor.dtype, np.floating):
        return generator.standard_normal(shape).astype(tensor.dtype)
    return generator.integers(0, 100, shape).astype(tensor.dtype)


def peak_rss_mb() -> float | None:
    """Return the largest resident memory of this process, 2^20 bytes; `None` where the system does not tell.

    On Linux from `VmHWM`: `getrusage` would count what the parent had when it started this process.
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


def read_answer(text: str) -> Answer:
    """Read what `serve` wrote.

    Raises:
        ValueError: it is no answer.
    """
    told = json.loads(text)
    if not isinstance(told, dict) or told.keys() != {field.name for field in fields(Answer)}:
        raise ValueError("no answer of a process that measures")
    return Answer(**told)
