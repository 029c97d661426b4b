"""The process in which Core ML runs a model, on this Mac or on a phone: its request and its result."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from fbnet_zoo.benchmarks.devices.command import Run, save_inputs
from fbnet_zoo.benchmarks.measure import Inputs
from fbnet_zoo.errors import DeviceLostError, DeviceTimeoutError, DeviceUnavailableError, InputError, RunnerError
from fbnet_zoo.folders import temporary
from fbnet_zoo.reading import read_record
from fbnet_zoo.spec import Record

ComputeUnits = Literal["cpu", "cpu_and_gpu", "cpu_and_ne", "all"]
"""Processors that Core ML may choose from: CPU, GPU and Neural Engine (`ne`)."""

FailureKind = Literal["input", "unavailable", "lost", "failed"]
_MODULE = "fbnet_zoo.benchmarks.runtimes.run_coreml"
_ERRORS = {"input": InputError, "unavailable": DeviceUnavailableError, "lost": DeviceLostError, "failed": RunnerError}


class CoreMLTarget(Record):
    """A phone to run on.

    Attributes:
        udid: UDID of the phone.
        team: ID of the development team that signs the app which runs models there.
        folder: build folder of that app.
    """

    udid: str
    team: str
    folder: str


class CoreMLRequest(Record):
    """Input of the process.

    Attributes:
        model: path of the `.mlpackage`.
        compute_units: compute units that Core ML may use.
        inputs: paths of the input tensors, `.npy` (default: seeded noise).
        runs: number of runs, including the warm-up.
        operators: whether to report every operator.
        phone: phone to run on (default: this Mac).
    """

    model: str
    compute_units: ComputeUnits
    inputs: tuple[str, ...] = ()
    runs: int
    operators: bool = False
    phone: CoreMLTarget | None = None


class PlannedOperator(Record):
    """One operator in Core ML's compute plan.

    Attributes:
        name: name of its first output.
        kind: operator type, as Core ML names it.
        device: processor that Core ML prefers: `cpu`, `gpu` or `ne` (Neural Engine).
        supported: processors that support it.
        cost: fraction of the model's cost, estimated by Core ML.
    """

    name: str
    kind: str
    device: str | None
    supported: tuple[str, ...]
    cost: float


class CoreMLResult(Record):
    """Output of the process.

    Attributes:
        versions: package name to version, for every library used.
        load_ms: time to load the model.
        samples_ms: times of all runs, in order.
        operators: operators in execution order.
        baseline_mb: peak resident memory before the model was loaded, 2^20 bytes; `None` for a phone.
        peak_mb: peak resident memory at the end, 2^20 bytes; `None` for a phone.
        failure: kind of failure, if it failed; all fields but `message` are then empty.
        message: cause of the failure.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    load_ms: float | None = None
    samples_ms: tuple[float, ...] = ()
    operators: tuple[PlannedOperator, ...] = ()
    baseline_mb: float | None = None
    peak_mb: float | None = None
    failure: FailureKind | None = None
    message: str = ""


def execute(run: Run, request: CoreMLRequest, inputs: Inputs, *, timeout_s: float) -> CoreMLResult:
    """Run the process and return its result.

    Args:
        run: function that runs the process.
        request: request without its inputs.
        inputs: input tensors.
        timeout_s: time limit, seconds.

    Raises:
        InputError: the model or an input cannot be used.
        DeviceUnavailableError: Core ML or the phone is not ready.
        DeviceLostError: the phone was disconnected.
        DeviceTimeoutError: the process did not finish in time and was killed.
        RunnerError: Core ML failed.
    """
    model = Path(request.model).name
    with temporary() as folder:
        question, answer = folder / "job.json", folder / "answer.json"
        question.write_text(request.model_copy(update={"inputs": save_inputs(inputs, folder)}).model_dump_json())
        try:
            output = run([sys.executable, "-m", _MODULE, str(question), str(answer)], timeout_s)
        except TimeoutError as error:
            raise DeviceTimeoutError(
                f"{model}: {request.runs} runs did not finish within {timeout_s:g} s; "
                "Core ML hangs, or the limit is too low"
            ) from error
        result = _read(answer)
    if result is None:
        last = output.text.splitlines()[-1:] or ["no output"]
        raise RunnerError(f"{model}: the Core ML process exited with code {output.exit_code}: {last[0]}")
    if result.failure:
        raise _ERRORS[result.failure](f"{model}: {result.message}")
    return result


def _read(path: Path) -> CoreMLResult | None:
    try:
        return read_record(CoreMLResult, path, "the result of the Core ML process")
    except InputError:
        return None
