"""The process that runs a model in Core ML, on this Mac or on a phone; see `apple_process`.

All use of coremltools is here. Its support for phones is experimental: the names below are those of version 9.0.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fbnet_zoo._require import quiet_with_compiled_code, require
from fbnet_zoo.benchmarks.devices.apple_process import (
    CoreMLRequest,
    CoreMLResult,
    CoreMLTarget,
    FailureKind,
    PlannedOperator,
)
from fbnet_zoo.benchmarks.runtimes.child import peak_rss_mb
from fbnet_zoo.errors import DeviceUnavailableError, InputError, MissingExtraError

_UNITS = {"cpu": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU", "cpu_and_ne": "CPU_AND_NE", "all": "ALL"}
_TYPES = {"FLOAT16": np.float16, "FLOAT32": np.float32, "DOUBLE": np.float64, "INT32": np.int32}
_PROCESSORS = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "ne"}
_EXPERIMENTAL = "coremltools.models.ml_program.experimental"
_SEED = 0


class BenchmarkSamples(Protocol):
    """A `Measurement` of coremltools."""

    samples: Sequence[float]


class Benchmarker(Protocol):
    """The methods of coremltools' `MLModelBenchmarker` in use; all times are ms."""

    async def benchmark_load(self, iterations: int = 1) -> BenchmarkSamples:
        """Load the model `iterations` times; the first stays loaded."""

    async def benchmark_predict(
        self, inputs: Mapping[str, Any] | None = None, iterations: int = 1, warmup: bool = False
    ) -> BenchmarkSamples:
        """Run the model `iterations` times."""

    async def benchmark_operation_execution(
        self, inputs: Mapping[str, Any] | None = None, iterations: int = 1, warmup: bool = False
    ) -> Sequence[Any]:
        """Return the operators, each with its part of a run."""


def main(question: Path, answer: Path) -> None:
    """Execute the request in one file, and write the result to another."""
    request = CoreMLRequest.model_validate_json(question.read_bytes())
    try:
        with quiet_with_compiled_code():  # in a process of its own
            result = asyncio.run(_measure(request))
    except (InputError, MissingExtraError) as error:
        result = _failure("input", error)
    except DeviceUnavailableError as error:
        result = _failure("unavailable", error)
    except Exception as error:  # coremltools raises exceptions of any type
        result = _failure("failed", error)
    answer.write_text(result.model_dump_json(), encoding="utf-8")


def _failure(kind: FailureKind, error: Exception) -> CoreMLResult:
    return CoreMLResult(failure=kind, message=str(error) or type(error).__name__)


async def _measure(request: CoreMLRequest) -> CoreMLResult:
    tools = require("coremltools", extra="coreml")
    units = tools.ComputeUnit[_UNITS[request.compute_units]]
    model = tools.models.MLModel(request.model, skip_model_load=True, compute_units=units)
    inputs = _inputs(model.get_spec(), request)
    baseline_mb = peak_rss_mb()
    device = await _prepare(request.phone) if request.phone else None
    try:
        benchmarker = require(f"{_EXPERIMENTAL}.perf_utils", extra="coreml").MLModelBenchmarker(
            model=model, device=device
        )
        load_ms, samples_ms = await _time(benchmarker, inputs, request.runs)
        operators = await _operators(benchmarker, inputs, request, units, model.get_spec()) if request.operators else ()
    finally:
        if device:
            device.session.stop()
    return CoreMLResult(
        versions={"coremltools": tools.__version__},
        load_ms=load_ms,
        samples_ms=samples_ms,
        operators=tuple(operators),
        baseline_mb=None if request.phone else baseline_mb,
        peak_mb=None if request.phone else peak_rss_mb(),
    )


async def _time(benchmarker: Benchmarker, inputs: Mapping[str, Any], runs: int) -> tuple[float, tuple[float, ...]]:
    loaded = await benchmarker.benchmark_load(iterations=1)
    # Its own warm-up would be one run that it does not report.
    predicted = await benchmarker.benchmark_predict(inputs=inputs, iterations=runs, warmup=False)
    return loaded.samples[0], tuple(predicted.samples)


async def _prepare(phone: CoreMLTarget) -> Any:
    """Build, install and start the app that runs models on a phone."""
    remote = require(f"{_EXPERIMENTAL}.remote_device", extra="coreml")
    connected = remote.Device.get_connected_devices(remote.DeviceType.IPHONE)
    device = next((each for each in connected if each.udid == phone.udid), None)
    if device is None:
        raise DeviceUnavailableError("the iPhone is no longer connected: connect it and keep it unlocked")
    credentials = remote.AppSigningCredentials(development_team=phone.team)
    try:
        return await device.prepare_for_model_debugging(credentials=credentials, working_directory=Path(phone.folder))
    except Exception as error:
        raise DeviceUnavailableError(
            f"coremltools' app cannot be built for {device.name} or started there ({error}): sign in to team "
            f"{phone.team} in Xcode (Settings, Accounts), trust the developer on the iPhone (Settings, General, VPN & "
            "Device Management), and keep it unlocked"
        ) from error


def _inputs(spec: Any, request: CoreMLRequest) -> dict[str, Any]:
    """Return the inputs of the model by name, as coremltools expects them.

    Always explicit: the default inputs of coremltools exclude images and differ from run to run.
    """
    declared = list(spec.description.input)
    given = [np.load(path, allow_pickle=False) for path in request.inputs] or [_noise(each.type) for each in declared]
    if len(given) != len(declared):
        raise InputError(f"got {len(given)} inputs, the model expects {len(declared)}")
    images = [each.name for each in declared if each.type.WhichOneof("Type") == "imageType"]
    if images and request.phone:
        raise InputError(
            f"the input {images[0]} is an image, which coremltools cannot send to a phone; "
            "convert the model without image_input"
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
    benchmarker: Benchmarker, inputs: Mapping[str, Any], request: CoreMLRequest, units: Any, spec: Any
) -> Sequence[PlannedOperator]:
    if request.phone is None:
        return _planned_here(request.model, units)
    reported = await benchmarker.benchmark_operation_execution(inputs=inputs, iterations=1, warmup=False)
    return _planned_there(reported, spec)


def _planned_there(reported: Sequence[Any], spec: Any) -> list[PlannedOperator]:
    """Return the operators of a phone's compute plan, reported as parts of one run, the longest first."""
    function = spec.mlProgram.functions["main"]
    order = [each.outputs[0].name for each in function.block_specializations[function.opset].operations if each.outputs]
    parts = {
        each.spec.outputs[0].name: (each, sum(each.measurement.samples))
        for each in reported
        if each.compute_device_usage is not None
    }
    whole = sum(part for _, part in parts.values()) or 1
    return [
        _operator(name, parts[name][0].spec.type, parts[name][0].compute_device_usage, parts[name][1] / whole)
        for name in order
        if name in parts
    ]


def _planned_here(model: str, units: Any) -> list[PlannedOperator]:
    """Return the operators of Core ML's compute plan on this Mac, without constants."""
    utils = require("coremltools.models.utils", extra="coreml")
    plans = require("coremltools.models.compute_plan", extra="coreml")
    with tempfile.TemporaryDirectory() as folder:
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
    tempfile.tempdir = str(Path(sys.argv[2]).parent)  # which is removed even if this process is killed
    main(Path(sys.argv[1]), Path(sys.argv[2]))
