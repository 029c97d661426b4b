"""The process of a runtime on this machine: starting it, reading its result and explaining its failures."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fbnet_zoo import programs
from fbnet_zoo.benchmarks.devices.command import save_inputs
from fbnet_zoo.benchmarks.devices.host_state import choose_cores
from fbnet_zoo.benchmarks.measure import Inputs, ModelFile
from fbnet_zoo.benchmarks.runtimes.child import LOADING, HostResult, HostRun, read_result
from fbnet_zoo.benchmarks.runtimes.executor_runner import parse
from fbnet_zoo.converters.targets import runtimes_on
from fbnet_zoo.errors import (
    DeviceTimeoutError,
    MissingExtraError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)
from fbnet_zoo.folders import temporary

RUNTIMES = {target: runtime.name for target, runtime in runtimes_on("host").items()}
"""Target to the runtime of its files on this machine; the process is the module `run_<runtime>`."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """Exit code and output of a process."""

    code: int
    stdout: str
    stderr: str


@contextmanager
def prepare_run(
    model: ModelFile,
    inputs: Inputs = (),
    *,
    runs: int,
    warmup: int,
    threads: int,
    trace: bool = False,
    others: Sequence[ModelFile] = (),
) -> Iterator[HostRun]:
    """Yield a run, with a temporary folder for its files that lasts as long as the context.

    Raises:
        InputError: there are fewer cores than threads.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    cores = choose_cores(threads, allowed=allowed) if allowed else ()
    with temporary() as folder:
        yield HostRun(
            model=str(model.path.resolve()),
            inputs=save_inputs(inputs, folder),
            runs=runs,
            warmup=warmup,
            threads=threads,
            cores=cores,
            trace=str(folder / "trace") if trace else None,
            others=[str(other.path.resolve()) for other in others],
        )


def measure(model: ModelFile, run: HostRun, *, timeout_s: float) -> HostResult:
    """Execute a run in a new process.

    Raises:
        RunnerError: the runtime refused the model or crashed.
        DeviceTimeoutError: the process did not finish in time and was killed.
        MissingExtraError: the runtime is not installed.
    """
    try:
        end = _run(RUNTIMES[model.target], run, timeout_s)
    except TimeoutError as error:
        raise DeviceTimeoutError(
            f"{model.path.name}: {run.warmup} + {run.runs} runs did not finish within {timeout_s:g} s; "
            "use fewer runs, or a higher limit"
        ) from error
    try:
        result = read_result(end.stdout)
    except ValueError:
        raise _crash(model, end) from None
    if result.failure:
        raise _failure(replace(model, path=Path((run.model, *run.others)[result.failed])), result, end.stderr)
    return result


def _run(runtime: str, run: HostRun, timeout_s: float) -> _End:
    """Run the process of a runtime; it is killed at the time limit, or when this process is interrupted."""
    threads = dict.fromkeys(_THREAD_VARIABLES, str(run.threads))
    done = programs.run(
        programs.python_command(f"fbnet_zoo.benchmarks.runtimes.run_{runtime}"),
        stdin=json.dumps(asdict(run)).encode(),
        timeout_s=timeout_s,
        environment=programs.python_environment() | threads,
    )
    stdout, stderr = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    return _End(code=done.returncode, stdout=stdout, stderr=stderr)


def _crash(model: ModelFile, end: _End) -> RunnerError:
    lines = [line for line in end.stderr.splitlines() if line.strip() and line != LOADING]
    last = f"; its last lines: {' | '.join(lines[-_LAST_LINES:])}" if lines else ""
    return RunnerError(f"{model.path.name}: the process of {RUNTIMES[model.target]} {programs.ending(end.code)}{last}")


def _failure(model: ModelFile, result: HostResult, stderr: str) -> Exception:
    name, runtime = model.path.name, RUNTIMES[model.target]
    if result.failure == "extra":
        return MissingExtraError(result.message)
    if result.failure == "inputs":
        return RunnerInputError(f"{name}: {result.message}")
    if result.failure == "run":
        return RunnerError(f"{name}: {runtime} failed: {result.message}")
    if model.target == "executorch" and (cause := _executorch_error(stderr)):
        return type(cause)(f"{name}: {cause}")
    return ModelFileError(
        f"{name}: {runtime} cannot load it ({result.message}); it is damaged or for another version: convert it again"
    )


def _executorch_error(stderr: str) -> RunnerError | None:
    """Return the error that ExecuTorch's log describes, with the same class and text as on a phone."""
    try:
        parse(stderr.partition(f"{LOADING}\n")[2], exit_code=1)
    except RunnerUnusableError:  # no known cause
        return None
    except RunnerError as error:
        return error
    return None
