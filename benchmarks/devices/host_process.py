"""The process of a runtime on this machine: given its job, waited for, and understood when it fails."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fbnet_zoo.benchmarks.devices.host_state import choose_cores
from fbnet_zoo.benchmarks.measure import Inputs, ModelFile
from fbnet_zoo.benchmarks.runtimes.child import LOADING, Answer, Job, read_answer
from fbnet_zoo.benchmarks.runtimes.executor_runner import parse
from fbnet_zoo.errors import (
    DeviceTimeoutError,
    MissingExtraError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)

RUNTIMES = {"onnx": "onnxruntime", "executorch": "executorch", "torch": "torch"}
"""What runs a file of a target here; the module `run_<runtime>` is its process."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str


@contextmanager
def prepared(
    model: ModelFile,
    inputs: Inputs = (),
    *,
    runs: int,
    warmup: int,
    threads: int,
    trace: bool = False,
    others: Sequence[ModelFile] = (),
) -> Iterator[Job]:
    """Yield what a process shall do, with a folder of its own as long as that takes.

    Raises:
        InputError: there are fewer cores than threads.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    cores = choose_cores(threads, allowed=allowed) if allowed else ()
    with tempfile.TemporaryDirectory(prefix="fbnet_zoo-") as folder:
        paths = [Path(folder, f"{position}.npy") for position in range(len(inputs))]
        for path, tensor in zip(paths, inputs, strict=True):
            np.save(path, np.asarray(tensor))
        yield Job(
            model=str(model.path.resolve()),
            inputs=list(map(str, paths)),
            runs=runs,
            warmup=warmup,
            threads=threads,
            cores=cores,
            trace=str(Path(folder, "trace")) if trace else None,
            others=[str(other.path.resolve()) for other in others],
        )


def measure(model: ModelFile, job: Job, *, timeout_s: float) -> Answer:
    """Let a process of its own do a job.

    Raises:
        RunnerError: the runtime refused the model or crashed.
        DeviceTimeoutError: the process did not end in time, and was stopped.
        MissingExtraError: the runtime is not installed.
    """
    try:
        end = _run(RUNTIMES[model.target], job, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DeviceTimeoutError(
            f"{model.path.name}: {job.warmup} + {job.runs} runs did not end within {timeout_s:g} s; "
            "take fewer runs, or a higher limit"
        ) from error
    try:
        answer = read_answer(end.stdout)
    except ValueError:
        raise _crash(model, end) from None
    if answer.failure:
        raise _failure(replace(model, path=Path((job.model, *job.others)[answer.failed])), answer, end.stderr)
    return answer


def _run(runtime: str, job: Job, timeout_s: float) -> _End:
    """Run the process of a runtime; it is stopped when it takes too long, and when this one is interrupted."""
    # With what this process imports from: without -P, a file torch.py in the working folder would be taken for PyTorch.
    places = os.pathsep.join(dict.fromkeys(path or str(Path.cwd()) for path in sys.path))
    threads = dict.fromkeys(_THREAD_VARIABLES, str(job.threads))
    done = subprocess.run(  # noqa: S603  our own module in our own interpreter
        [sys.executable, "-P", "-m", f"fbnet_zoo.benchmarks.run_{runtime}"],
        input=json.dumps(asdict(job)).encode(),
        capture_output=True,
        timeout=timeout_s,
        env={**os.environ, **threads, "PYTHONPATH": places},
        check=False,
    )
    stdout, stderr = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    return _End(code=done.returncode, stdout=stdout, stderr=stderr)


def _crash(model: ModelFile, end: _End) -> RunnerError:
    lines = [line for line in end.stderr.splitlines() if line.strip() and line != LOADING]
    said = f"; its last lines: {' | '.join(lines[-_LAST_LINES:])}" if lines else ""
    return RunnerError(f"{model.path.name}: the process of {RUNTIMES[model.target]} {_how(end.code)}{said}")


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was stopped by {name}" + (", most often because memory ran out" if name == "SIGKILL" else "")


def _failure(model: ModelFile, answer: Answer, stderr: str) -> Exception:
    name, runtime = model.path.name, RUNTIMES[model.target]
    if answer.failure == "extra":
        return MissingExtraError(answer.message)
    if answer.failure == "inputs":
        return RunnerInputError(f"{name}: {answer.message}")
    if answer.failure == "run":
        return RunnerError(f"{name}: {runtime} failed: {answer.message}")
    if model.target == "executorch" and (told := _told_by_executorch(stderr)):
        return type(told)(f"{name}: {told}")
    return ModelFileError(
        f"{name}: {runtime} cannot load it ({answer.message}); it is damaged or made for another version: convert it "
        "again"
    )


def _told_by_executorch(stderr: str) -> RunnerError | None:
    """Return the cause that ExecuTorch's own log names, with the class and the words that it has on a phone."""
    try:
        parse(stderr.partition(f"{LOADING}\n")[2], exit_code=1)
    except RunnerUnusableError:  # none that is known
        return None
    except RunnerError as error:
        return error
    return None
