"""The process that runs one model in Core ML, on this Mac or on a phone; see `apple_process`.

Everything that touches coremltools is here. Its way to phones is experimental: the names below are those of 9.0.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fbnet_zoo._require import quiet, require
from fbnet_zoo.benchmarks.devices.apple_process import Answer, Failure, Job, PlannedOperator, Target
from fbnet_zoo.benchmarks.runtimes.child import peak_rss_mb
from fbnet_zoo.errors import DeviceUnavailableError, InputError, MissingExtraError

_UNITS = {"cpu": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ne": "CPU_AND_NE", "all": "ALL"}
_TYPES = {"FLOAT16": np.float16, "FLOAT32": np.float32, "DOUBLE": np.float64, "INT32": np.int32}
_PROCESSORS = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "ne"}
_EXPERIMENTAL = "coremltools.models.ml_program.experimental"
_SEED = 0


class Samples(Protocol):
    """What coremltools calls a measurement."""

    samples: Sequence[float]


class Benchmarker(Protocol):
    """The part of coremltools' `MLModelBenchmarker` that is used; all times are ms."""

    async def benchmark_load(self, iterations: int = 1) -> Samples:
        """Load the model so many times; the first stays loaded."""

    async def benchmark_predict(
        self, inputs: Mapping[str, Any] | None = None, iterations: int = 1, warmup: bool = False
    ) -> Samples:
        """Run the model so many times."""

    async def benchmark_operation_execution(
        self, inputs: Mapping[str, Any] | None = None, iterations: int = 1, warmup: bool = False
    ) -> Sequence[Any]:
        """Return the operators, each with its part of a run."""


def main(question: Path, answer: Path) -> None:
    """Do the job in a file and leave the answer in another."""
    job = Job.model_validate_json(question.read_bytes())
    try:
        with quiet():
            told = asyncio.run(_measure(job))
    except (InputError, MissingExtraError) as error:
        told = _failure("input", error)
    except DeviceUnavailableError as error:
        told = _failure("unavailable", error)
    except Exception as error:  # coremltools raises whatever it likes
        told = _failure("failed", error)
    answer.write_text(told.model_dump_json(), encoding="utf-8")


def _failure(kind: Failure, error: Exception) -> Answer:
    return Answer(failure=kind, message=str(error) or type(error).__name__)


async def _measure(job: Job) -> Answer:
    tools = require("coremltools", extra="coreml")
    units = tools.ComputeUnit[_UNITS[job.compute_units]]
    model = tools.models.MLModel(job.model, skip_model_load=True, compute_units=units)
    inputs = _inputs(model.get_spec(), job)
    baseline_mb = peak_rss_mb()
    device = await _prepare(job.phone) if job.phone else None
    try:
        benchmarker = require(f"{_EXPERIMENTAL}.perf_utils", extra="coreml").MLModelBenchmarker(
            model=model, device=device
        )
        load_ms, samples_ms = await _time(benchmarker, inputs, job.runs)
        operators = await _operators(benchmarker, inputs, job, units, model.get_spec()) if job.operators else ()
    finally:
        if device:
            device.session.stop()
    return Answer(
        versions={"coremltools": tools.__version__},
        load_ms=load_ms,
        samples_ms=samples_ms,
        operators=tuple(operators),
        baseline_mb=None if job.phone else baseline_mb,
        peak_mb=None if job.phone else peak_rss_mb(),
    )


async def _time(benchmarker: Benchmarker, inputs: Mapping[str, Any], runs: int) -> tuple[float, tuple[float, ...]]:
    loaded = await benchmarker.benchmark_load(iterations=1)
    # Its own warm-up is one run that it does not tell.
    predicted = await benchmarker.benchmark_predict(inputs=inputs, iterations=runs, warmup=False)
    return loaded.samples[0], tuple(predicted.samples)


async def _prepare(phone: Target) -> Any:
    """Build, install and start the app that runs models on a phone."""
    remote = require(f"{_EXPERIMENTAL}.remote_device", extra="coreml")
    connected = remote.Device.get_connected_devices(remote.DeviceType.IPHONE)
    device = next((each for each in connected if each.udid == phone.udid), None)
    if device is None:
        raise DeviceUnavailableError("the iPhone is not connected any more: plug it in, unlock it and keep it so")
    credentials = remote.AppSigningCredentials(development_team=phone.team)
    try:
        return await device.prepare_for_model_debugging(credentials=credentials, working_directory=Path(phone.folder))
    except Exception as error:
        raise DeviceUnavailableError(
            f"coremltools' app cannot be built for {device.name} or started there ({error}): sign in to team "
            f"{phone.team} in Xcode (Settings, Accounts), trust the developer on the iPhone (Settings, General, VPN & "
            "Device Management), and keep it unlocked"
        ) from error


def _inputs(spec: Any, job: Job) -> dict[str, Any]:
    """Return what the model takes, in the form that coremltools takes.

    Always given, although coremltools makes up inputs itself: not for images, and others each time.
    """
    declared = list(spec.description.input)
    given = [np.load(path, allow_pickle=False) for path in job.inputs] or [_noise(each.type) for each in declared]
    if len(given) != len(declared):
        raise InputError(f"{len(given)} inputs are given, the model takes {len(declared)}")
    images = [each.name for each in declared if each.type.WhichOneof("Type") == "imageType"]
    if images and job.phone:
        raise InputError(
            f"its input {images[0]} takes images, which coremltools cannot send to a phone; "
            "convert it without image_input"
        )
    return {
        each.name: Image.fromarray(array) if each.name in images else array
        for each, array in zip(declared, given, strict=True)
    }


def _noise(declared: Any) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(_SEED)
    if declared.WhichOneof("Type") == "imageType":
        image = declared.imageType
        channels = () if image.ColorSpace.Name(image.colorSpace).startswith("GRAYSCALE") else (3,)
        return generator.integers(0, 256, (image.height, image.width, *channels), np.uint8)
    array = declared.multiArrayType
    dtype = _TYPES[array.ArrayDataType.Name(array.dataType)]
    shape = tuple(array.shape)
    if dtype is np.int32:
        return generator.integers(0, 10, shape, np.int32)
    return generator.standard_normal(shape).astype(dtype)


async def _operators(
    benchmarker: Benchmarker, inputs: Mapping[str, Any], job: Job, units: Any, spec: Any
) -> Sequence[PlannedOperator]:
    if job.phone is None:
        return _planned_here(job.model, units)
    told = await benchmarker.benchmark_operation_execution(inputs=inputs, iterations=1, warmup=False)
    return _planned_there(told, spec)


def _planned_there(told: Sequence[Any], spec: Any) -> list[PlannedOperator]:
    """Return the operators of a phone's compute plan, which come as parts of one run, the longest first."""
    function = spec.mlProgram.functions["main"]
    order = [each.outputs[0].name for each in function.block_specializations[function.opset].operations if each.outputs]
    parts = {
        each.spec.outputs[0].name: (each, sum(each.measurement.samples))
        for each in told
        if each.compute_device_usage is not None
    }
    whole = sum(part for _, part in parts.values()) or 1
    return [
        _operator(name, parts[name][0].spec.type, parts[name][0].compute_device_usage, parts[name][1] / whole)
        for name in order
        if name in parts
    ]


def _planned_here(model: str, units: Any) -> list[PlannedOperator]:
    """Return the operators of Core ML's compute plan on this Mac; constants are none."""
    utils = require("coremltools.models.utils", extra="coreml")
    plans = require("coremltools.models.compute_plan", extra="coreml")
    with tempfile.TemporaryDirectory(prefix="fbnet_zoo-") as folder:
        compiled = utils.compile_model(model, destination_path=f"{folder}/model.mlmodelc")
        plan = plans.MLComputePlan.load_from_path(path=compiled, compute_units=units)
        operators = []
        for operation in plan.model_structure.program.functions["main"].block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
            if usage is not None:
                name, kind = operation.outputs[0].name, operation.operator_name
                operators.append(_operator(name, kind, usage, cost.weight if cost else 0.0))
    return operators


def _operator(name: str, kind: str, usage: Any, cost: float) -> PlannedOperator:
    return PlannedOperator(
        name=name,
        kind=kind,
        device=_processor(usage.preferred_compute_device),
        supported=tuple(sorted(filter(None, map(_processor, usage.supported_compute_devices)))),
        cost=cost,
    )


def _processor(device: Any) -> str | None:
    return next((_PROCESSORS[base.__name__] for base in type(device).__mro__ if base.__name__ in _PROCESSORS), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
