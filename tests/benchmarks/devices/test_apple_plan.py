"""Core ML's times and compute plans become records; coremltools' own signatures decide how it may be called.

Off macOS coremltools runs nothing, so its benchmarker and its compute plan are replaced at their edge, by stand-ins
that refuse every call that the real ones would refuse.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from torch import nn, rand

from fbnet_zoo._require import require
from fbnet_zoo.benchmarks.devices.apple import IPhoneDevice, MacDevice
from fbnet_zoo.benchmarks.devices.apple_tools import Tools
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.errors import DeviceTimeoutError, InputError
from tests.helpers.mac import TEAM, Mac, run_here
from tests.helpers.mil_packages import save

pytestmark = pytest.mark.coreml

PERF = "coremltools.models.ml_program.experimental.perf_utils"
TIMES = (9.0, 4.0, 2.0, 2.5)


@dataclass
class CoreML:
    """What coremltools was asked for, and what it plans: the processors, with their parts of the cost."""

    made: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    plan: Sequence[tuple[str, str | None, float]] = (("add", "cpu", 0.25), ("relu", "ne", 0.75))


@pytest.fixture
def core_ml(mac: Mac) -> Iterator[CoreML]:
    """coremltools with a benchmarker and a compute plan of ours, under its own signatures."""
    told = CoreML()
    perf = require(PERF, extra="coreml")
    plans = require("coremltools.models.compute_plan", extra="coreml")
    utils = require("coremltools.models.utils", extra="coreml")
    benchmarker, measured = perf.MLModelBenchmarker, perf.MLModelBenchmarker.Measurement.from_samples

    def make(self: Any, model: Any, device: Any = None) -> None:
        told.made.append({"units": model.compute_unit.name, "device": device})

    async def load(self: Any, iterations: int = 1) -> Any:
        return measured([51.0] * iterations)

    async def predict(self: Any, inputs: Any = None, iterations: int = 1, warmup: bool = False) -> Any:
        told.inputs.append(inputs)
        return measured([*TIMES, *TIMES][:iterations])

    async def operators(self: Any, inputs: Any = None, iterations: int = 1, warmup: bool = False) -> Any:
        rows = sorted(told.plan, key=lambda row: -row[2])  # the longest first, as the real one
        return [operator_info(perf, plans, *row) for row in rows]

    edges = {"__init__": make, "benchmark_load": load, "benchmark_predict": predict}
    edges["benchmark_operation_execution"] = operators
    patches = [mock.patch.object(benchmarker, name, autospec=True, side_effect=edge) for name, edge in edges.items()]
    patches.append(mock.patch.object(utils, "compile_model", autospec=True, side_effect=compiled))
    loaded = mock.create_autospec(plans.MLComputePlan.load_from_path, side_effect=lambda **_: plan(plans, told))
    patches.append(mock.patch.object(plans.MLComputePlan, "load_from_path", loaded))
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield told


def compiled(model: str, destination_path: str | None = None) -> str:
    assert Path(model).suffix == ".mlpackage"
    assert destination_path
    return destination_path


def processor(name: str | None) -> Any:
    """Return one of coremltools' compute devices; their constructors need macOS."""
    devices = require("coremltools.models.compute_device", extra="coreml")
    kinds = {"cpu": "MLCPUComputeDevice", "gpu": "MLGPUComputeDevice", "ne": "MLNeuralEngineComputeDevice"}
    kind = getattr(devices, kinds[name or "cpu"])
    return object.__new__(kind)


def usage(plans: Any, name: str | None) -> Any:
    if name is None:
        return None
    supported = [processor(each) for each in dict.fromkeys((name, "cpu"))]
    return plans.MLComputePlanDeviceUsage(processor(name), supported)


def operator_info(perf: Any, plans: Any, kind: str, device: str | None, cost: float) -> Any:
    mil = require("coremltools", extra="coreml").proto.MIL_pb2
    spec = mil.Operation(type=kind)
    spec.outputs.add().name = {"add": "add_0", "relu": "logits"}.get(kind, kind)
    measurement = perf.MLModelBenchmarker.Measurement.from_samples([cost * TIMES[0]])
    return perf.MLModelBenchmarker.OperationExecutionInfo(
        spec=spec, path=None, compute_device_usage=usage(plans, device), measurement=measurement
    )


def plan(plans: Any, told: CoreML) -> Any:
    """Return a compute plan of the real class' methods over the real records of a program's structure."""
    operations = []
    for kind, _, _ in told.plan:
        value = plans.MLModelStructureProgramNamedValueType(f"{kind}_0", plans.MLModelStructureProgramValueType())
        operations.append(plans.MLModelStructureProgramOperation({}, kind, [value], [], None))
    block = plans.MLModelStructureProgramBlock([], operations, [])
    program = plans.MLModelStructureProgram({"main": plans.MLModelStructureProgramFunction([], block)})
    rows = dict(zip(map(id, operations), told.plan, strict=True))
    made = mock.create_autospec(plans.MLComputePlan, instance=True)
    made.model_structure = plans.MLModelStructure(None, program, None)
    made.get_compute_device_usage_for_mlprogram_operation.side_effect = lambda one: usage(plans, rows[id(one)][1])
    made.get_estimated_cost_for_mlprogram_operation.side_effect = lambda one: plans.MLComputePlanCost(rows[id(one)][2])
    return made


@pytest.fixture(scope="module")
def image_package(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A file that takes colour images of 8 x 8 px."""
    coremltools = require("coremltools", extra="coreml")
    path = tmp_path_factory.mktemp("images") / "net.mlpackage"
    image = coremltools.ImageType(name="image", shape=(1, 3, 8, 8))
    save(nn.Conv2d(3, 2, 3), rand(1, 3, 8, 8), path, inputs=[image])
    return ModelFile(path=path, name="net", target="coreml", precision="fp32")


def test_a_measurement_of_a_mac_is_what_coremltools_measured(core_ml: CoreML, tiny_package: ModelFile) -> None:
    with MacDevice.find(compute_units="cpu_and_ne", run=run_here) as device:
        measurement = device.run(tiny_package, runs=2, warmup=2)
    assert (measurement.load_ms, measurement.first_ms) == (51.0, 9.0)
    assert (measurement.warmup_ms, measurement.samples_ms) == ((9.0, 4.0), (2.0, 2.5))
    assert (measurement.runtime, measurement.device.model) == ("coreml cpu_and_ne", "Mac14,2")
    assert core_ml.made == [{"units": "CPU_AND_NE", "device": None}]
    assert measurement.size == sum(path.stat().st_size for path in tiny_package.path.rglob("*") if path.is_file())
    assert (measurement.peak_rss_mb or 0) >= (measurement.baseline_rss_mb or 0) > 10
    state = measurement.before
    assert (state.battery_percent, state.charging, state.thermal_status, state.load_average) == (87, True, 0, 1.52)
    assert not measurement.throttled
    assert measurement.versions["coremltools"] == "9.0"


@pytest.mark.parametrize(
    ("units", "name"),
    [("cpu", "CPU_ONLY"), ("cpu_and_gpu", "CPU_AND_GPU"), ("cpu_and_ne", "CPU_AND_NE"), ("all", "ALL")],
)
def test_compute_units_are_those_of_coremltools(
    core_ml: CoreML, tiny_package: ModelFile, units: str, name: str
) -> None:
    MacDevice.find(compute_units=units, run=run_here).run(tiny_package, runs=1, warmup=1)
    assert core_ml.made[0]["units"] == name


def test_inputs_are_given_and_always_the_same(core_ml: CoreML, tiny_package: ModelFile) -> None:
    device = MacDevice.find(run=run_here)
    mine = np.arange(4, dtype=np.float32).reshape(1, 4)
    for inputs in ((), (), (mine,)):
        device.run(tiny_package, inputs, runs=1, warmup=1)
    noise, again, given = (next(iter(each.values())) for each in core_ml.inputs)
    assert (noise.shape, noise.dtype) == ((1, 4), np.float32)
    np.testing.assert_array_equal(noise, again)
    np.testing.assert_array_equal(given, mine)
    with pytest.raises(InputError, match=r"^net.mlpackage: got 2 inputs, the model expects 1"):
        device.run(tiny_package, [mine, mine], runs=1, warmup=1)


def test_models_that_take_images_get_images(core_ml: CoreML, image_package: ModelFile) -> None:
    MacDevice.find(run=run_here).run(image_package, runs=1, warmup=1)
    (inputs,) = core_ml.inputs
    assert isinstance(inputs["image"], Image.Image)
    assert (inputs["image"].size, inputs["image"].mode) == ((8, 8), "RGB")


def test_images_cannot_be_sent_to_a_phone(mac: Mac, image_package: ModelFile) -> None:
    device = IPhoneDevice.find(team=TEAM, run=run_here)
    with pytest.raises(InputError, match=r"the input image is an image, which .* to a phone; convert the model"):
        device.run(image_package, runs=1, warmup=1)


def test_a_mac_that_slows_down_is_let_cool_and_flagged(mac: Mac, core_ml: CoreML, tiny_package: ModelFile) -> None:
    mac.write("speed", "62\n80\n100\n62\n")
    info = Tools(run_here).mac()
    measurement = MacDevice(info, run=run_here, poll_s=0.01).run(tiny_package, runs=1, warmup=1)
    assert (measurement.before.thermal_status, measurement.after.thermal_status) == (0, 1)
    assert measurement.throttled
    with pytest.raises(DeviceTimeoutError, match=r"macOS still throttles this Mac after 0.05 s"):
        MacDevice(info, run=run_here, poll_s=0.01, cooldown_s=0.05).run(tiny_package, runs=1, warmup=1)


def test_a_compute_plan_tells_what_runs_on_the_neural_engine(
    core_ml: CoreML, tiny_package: ModelFile, tmp_path: Path
) -> None:
    core_ml.plan = (("const", None, 0.0), ("conv", "ne", 0.5), ("relu", "ne", 0.125), ("softmax", "cpu", 0.375))
    MacDevice.find(run=run_here).profile(tiny_package, tmp_path / "plan.json", runs=1)
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["share"] == {"cpu": 0.375, "ne": 0.625}
    rows = [(each["name"], each["kind"], each["device"], each["supported"]) for each in told["operators"]]
    assert rows == [
        ("conv_0", "conv", "ne", ["cpu", "ne"]),
        ("relu_0", "relu", "ne", ["cpu", "ne"]),
        ("softmax_0", "softmax", "cpu", ["cpu"]),
    ]
    assert (told["compute_units"], told["device"]["model"]) == ("all", "Mac14,2")
    with pytest.raises(InputError, match="cannot be written"):
        MacDevice.find(run=run_here).profile(tiny_package, tmp_path / "nowhere" / "plan.json", runs=1)


def test_times_of_operators_are_their_share_of_whole_runs(core_ml: CoreML, tiny_package: ModelFile) -> None:
    profile = MacDevice.find(run=run_here).profile_operators(tiny_package, runs=3)
    assert (profile.runs, profile.total_ms, profile.load_ms) == (3, 2.5, 51.0)
    assert [(each.kind, each.samples_ms) for each in profile.operators] == [
        ("add", (1.0, 0.5, 0.625)),
        ("relu", (3.0, 1.5, 1.875)),
    ]
    assert [each.delegated for each in profile.operators] == [False, True]
    assert profile.undelegated_share == 0.25
    assert "operators estimated: share of the cost x whole run" in profile.runtime
    alone = MacDevice.find(run=run_here, compute_units="cpu").profile_operators(tiny_package, runs=3)
    assert alone.undelegated_share == 0


def test_a_phone_tells_operators_in_the_order_of_the_file(
    mac: Mac, core_ml: CoreML, tiny_package: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts that coremltools estimates come longest first, and are those of the one run that it made for them."""
    remote = require("coremltools.models.ml_program.experimental.remote_device", extra="coreml")
    stopped: list[bool] = []

    async def prepare(self: Any, **_: Any) -> Any:
        return SimpleNamespace(session=SimpleNamespace(stop=lambda: stopped.append(True)))

    prepared = mock.create_autospec(remote.Device.prepare_for_model_debugging, side_effect=prepare)
    monkeypatch.setattr(remote.Device, "prepare_for_model_debugging", prepared)
    monkeypatch.setattr(remote._DeviceCtl, "_validation_done", False)
    core_ml.plan = (("add", "cpu", 0.2), ("relu", "gpu", 0.6), ("const", None, 0.0))
    with IPhoneDevice.find(team=TEAM, run=run_here) as device:
        mac.write("app", "")
        profile = device.profile_operators(tiny_package, runs=3)
    assert [each.name for each in profile.operators] == operators_of(tiny_package)
    assert [each.median_ms for each in profile.operators] == pytest.approx([2.5 * 0.25, 2.5 * 0.75])
    assert profile.undelegated_share == pytest.approx(0.25)
    assert (profile.device, stopped) == (device.info(), [True])


def operators_of(model: ModelFile) -> list[str]:
    spec = require("coremltools", extra="coreml").models.utils.load_spec(str(model.path))
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return [each.outputs[0].name for each in block.operations if each.type in {"add", "relu"}]


def test_calls_that_coremltools_would_refuse_are_refused_here(core_ml: CoreML) -> None:
    """Guards the stand-ins: without the real signatures they would prove nothing."""
    benchmarker = require(PERF, extra="coreml").MLModelBenchmarker
    with pytest.raises(TypeError, match="unexpected keyword argument 'repeats'"):
        benchmarker.benchmark_load(mock.Mock(), repeats=1)
