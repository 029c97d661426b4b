"""The process in which Core ML runs a model, on this Mac or on a phone: what it is asked, what it answers."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from fbnet_zoo.benchmarks.devices.command import Run
from fbnet_zoo.benchmarks.measure import Inputs
from fbnet_zoo.errors import DeviceLostError, DeviceTimeoutError, DeviceUnavailableError, InputError, RunnerError
from fbnet_zoo.spec import Record

ComputeUnits = Literal["cpu", "cpu_and_gpu", "cpu_and_ne", "all"]
"""What Core ML may choose from: the processor, the graphics processor, the Neural Engine."""

Failure = Literal["input", "unavailable", "lost", "failed"]
_MODULE = "fbnet_zoo.benchmarks.runtimes.run_coreml"
_ERRORS = {"input": InputError, "unavailable": DeviceUnavailableError, "lost": DeviceLostError, "failed": RunnerError}


class Target(Record):
    """A phone to run on.

    Attributes:
        udid: of the phone.
        team: of developers, that signs the app which runs models there.
        folder: where that app is built.
    """

    udid: str
    team: str
    folder: str


class Job(Record):
    """What the process shall do.

    Attributes:
        model: path of the `.mlpackage`.
        compute_units: what Core ML may use.
        inputs: paths of the input tensors, `.npy`; seeded noise without any.
        runs: all of them, the warm-up included.
        operators: tell of every operator, too.
        phone: where; this Mac if not given.
    """

    model: str
    compute_units: ComputeUnits
    inputs: tuple[str, ...] = ()
    runs: int
    operators: bool = False
    phone: Target | None = None


class PlannedOperator(Record):
    """One operator in Core ML's compute plan.

    Attributes:
        name: of its first output.
        kind: what it computes, as Core ML calls it.
        device: where Core ML prefers to run it: `cpu`, `gpu` or `ne`, the Neural Engine.
        supported: where it could run.
        cost: its part of the whole, 0 to 1, as Core ML estimates it.
    """

    name: str
    kind: str
    device: str | None
    supported: tuple[str, ...]
    cost: float


class Answer(Record):
    """What came of it.

    Attributes:
        versions: of the libraries.
        load_ms: loading the model.
        samples_ms: all runs, in order.
        operators: in the order in which they run.
        baseline_mb: largest resident memory of the process before the model was loaded, 2^20 bytes.
        peak_mb: the same at the end; of a phone, neither is known.
        failure: what kind of failure there was; the rest is then empty.
        message: why.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    load_ms: float | None = None
    samples_ms: tuple[float, ...] = ()
    operators: tuple[PlannedOperator, ...] = ()
    baseline_mb: float | None = None
    peak_mb: float | None = None
    failure: Failure | None = None
    message: str = ""


def run_job(run: Run, job: Job, inputs: Inputs, *, timeout_s: float) -> Answer:
    """Start the process and wait for its answer.

    Args:
        run: starts it.
        job: what to do, without its inputs.
        inputs: the tensors.
        timeout_s: how long it may take.

    Raises:
        InputError: the model or an input cannot be used.
        DeviceUnavailableError: Core ML or the phone does not let us in.
        DeviceLostError: the phone went away.
        DeviceTimeoutError: the process did not end in time, and was stopped.
        RunnerError: Core ML failed.
    """
    with tempfile.TemporaryDirectory(prefix="fbnet_zoo-") as name:
        folder = Path(name)
        question, answer = folder / "job.json", folder / "answer.json"
        question.write_text(job.model_copy(update={"inputs": _save(inputs, folder)}).model_dump_json())
        try:
            output = run([sys.executable, "-m", _MODULE, str(question), str(answer)], timeout_s)
        except TimeoutError as error:
            raise DeviceTimeoutError(
                f"{Path(job.model).name}: {job.runs} runs did not end within {timeout_s:g} s; "
                "Core ML hangs, or needs a higher limit"
            ) from error
        told = _read(answer)
    if told is None:
        last = output.text.splitlines()[-1:] or ["it said nothing"]
        raise RunnerError(f"{Path(job.model).name}: the process of Core ML ended with {output.exit_code}: {last[0]}")
    if told.failure:
        raise _ERRORS[told.failure](f"{Path(job.model).name}: {told.message}")
    return told


def _save(inputs: Inputs, folder: Path) -> Sequence[str]:
    paths = [folder / f"input{number}.npy" for number in range(len(inputs))]
    for path, tensor in zip(paths, inputs, strict=True):
        np.save(path, tensor)
    return tuple(map(str, paths))


def _read(path: Path) -> Answer | None:
    try:
        return Answer.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
