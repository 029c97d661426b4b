"""This machine as a device: real runtimes in processes of their own, and what goes wrong there."""

import gc
import hashlib
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo._require import require
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.benchmarks.profile import TraceContext, from_onnxruntime
from fbnet_zoo.errors import (
    DeviceTimeoutError,
    InputError,
    MissingExtraError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)
from tests.helpers.marks import first_is_quick

pytestmark = [pytest.mark.onnx, pytest.mark.executorch]

TARGETS = {"onnx": "onnxruntime", "executorch": "executorch", "torch": "torch"}

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")

Files = dict[str, ModelFile]


@pytest.fixture
def host() -> Iterator[HostDevice]:
    with HostDevice() as device:
        yield device


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def children() -> list[int]:
    """Return the processes that this one has started and that measure."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline")
            if command.exists() and b"fbnet_zoo.benchmarks.runtimes.run_" in command.read_bytes():
                found.append(int(child))
    return found


def damaged(model: ModelFile, folder: Path, content: bytes) -> ModelFile:
    path = folder / model.path.name
    path.write_bytes(content)
    return replace(model, path=path)


def half(model: ModelFile, folder: Path) -> ModelFile:
    content = model.path.read_bytes()
    return damaged(model, folder, content[: len(content) // 2])


@pytest.fixture(scope="module")
def measured(tiny_files: Files) -> dict[str, Measurement]:
    with HostDevice() as device:
        return {target: device.run(model, runs=6, warmup=2) for target, model in tiny_files.items()}


class TestMeasurement:
    @pytest.mark.parametrize("target", TARGETS)
    def test_holds_every_run_and_what_ran(
        self, target: str, measured: dict[str, Measurement], tiny_files: Files
    ) -> None:
        found, content = measured[target], tiny_files[target].path.read_bytes()
        assert (len(found.warmup_ms), len(found.samples_ms), found.runs_per_sample) == (2, 6, 1)
        assert found.first_ms == found.warmup_ms[0]
        assert min(*found.samples_ms, found.load_ms or 0) > 0
        assert (found.model, found.target, found.precision) == ("tiny", target, "fp32")
        assert (found.sha256, found.size) == (hashlib.sha256(content).hexdigest(), len(content))
        assert found.runtime == TARGETS[target]
        library = TARGETS[target]
        version, _, _build = found.versions[library].partition("+")
        assert version == require("importlib.metadata", extra="onnx").version(library).partition("+")[0]

    @linux
    @pytest.mark.parametrize("target", TARGETS)
    def test_is_bound_to_one_core(self, target: str, measured: dict[str, Measurement]) -> None:
        mask = int(measured[target].affinity or "0", 16)
        assert mask.bit_count() == 1
        assert mask.bit_length() - 1 in os.sched_getaffinity(0)

    @linux
    def test_tells_the_state_before_and_after(self, measured: dict[str, Measurement]) -> None:
        for found in measured.values():
            assert all(state.available_mb and state.load_average is not None for state in (found.before, found.after))
            assert found.device.kind == "host"
            assert found.device.memory_mb == pytest.approx(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20, abs=1
            )

    @pytest.mark.slow
    @linux
    def test_memory_is_that_of_the_process_and_not_of_this_one(self, host: HostDevice, tiny_files: Files) -> None:
        ballast = np.ones(50_000_000)  # 400 MB
        found = host.run(tiny_files["onnx"], runs=1, warmup=1)
        del ballast
        gc.collect()
        assert 10 < (found.baseline_rss_mb or 0) < (found.peak_rss_mb or 0) < 200

    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
    def test_threads_have_a_core_each_or_are_refused(self, host: HostDevice, tiny_files: Files) -> None:
        cores = len(os.sched_getaffinity(0))
        found = host.run(tiny_files["onnx"], runs=1, warmup=1, threads=cores)
        assert int(found.affinity or "0", 16).bit_count() == found.threads == cores
        with pytest.raises(InputError, match=f"expected at most {cores}, the cores of this process"):
            host.run(tiny_files["onnx"], threads=cores + 1)

    def test_a_file_of_the_working_folder_is_not_taken_for_a_library(
        self, host: HostDevice, tiny_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "onnxruntime.py").write_text("raise SystemExit('the wrong one')")
        monkeypatch.chdir(tmp_path)
        assert host.run(tiny_files["onnx"], runs=1, warmup=1).samples_ms


class TestInputs:
    @pytest.mark.parametrize("target", ["onnx", "executorch"])
    def test_of_the_declared_shape_are_taken_and_leave_nothing(
        self, target: str, host: HostDevice, tiny_files: Files, scratch: Path
    ) -> None:
        image = np.zeros((1, 3, 64, 64), np.float32)
        assert len(host.run(tiny_files[target], [image], runs=1, warmup=1).samples_ms) == 1
        assert list(scratch.iterdir()) == []

    @pytest.mark.parametrize(
        ("inputs", "text"),
        [
            ([np.zeros((1, 3, 32, 32), np.float32)], r"input 0 is float32 \(1, 3, 32, 32\), the model expects float32"),
            ([np.zeros((1, 3, 64, 64))], r"input 0 is float64 \(1, 3, 64, 64\), the model expects float32 \(1, 3, 64"),
            ([np.zeros(1, np.float32)] * 2, "got 2 inputs, the model expects 1"),
        ],
        ids=["shape", "type", "number"],
    )
    def test_of_another_kind_are_refused(
        self, inputs: list[np.ndarray], text: str, host: HostDevice, tiny_files: Files, scratch: Path
    ) -> None:
        with pytest.raises(RunnerInputError, match=f"tiny.onnx: {text}"):
            host.run(tiny_files["onnx"], inputs)
        assert list(scratch.iterdir()) == []


class TestFailures:
    @pytest.mark.parametrize(
        ("target", "text"),
        first_is_quick(
            [
                ("onnx", "onnxruntime cannot load it .*Protobuf parsing failed"),
                ("executorch", r"the file has \d+ bytes, expected \d+"),
                ("torch", "torch cannot load it"),
            ]
        ),
    )
    def test_damaged_file(self, target: str, text: str, host: HostDevice, tiny_files: Files, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match=rf"^tiny\.\w+: {text}(.|\n)*convert it again"):
            host.run(half(tiny_files[target], tmp_path))

    @pytest.mark.slow
    def test_executorch_file_of_another_version(self, host: HostDevice, tiny_files: Files, tmp_path: Path) -> None:
        content = tiny_files["executorch"].path.read_bytes()
        other = damaged(tiny_files["executorch"], tmp_path, content[:4] + b"ET99" + content[8:])
        with pytest.raises(ModelFileError, match="starts with 'ET99', expected 'ET12'"):
            host.run(other)

    @pytest.mark.parametrize("action", ["push", "run"])
    def test_missing_file(self, action: str, host: HostDevice, tiny_files: Files, tmp_path: Path) -> None:
        gone = replace(tiny_files["onnx"], path=tmp_path / "gone.onnx")
        with pytest.raises(InputError, match=r"gone\.onnx: the model cannot be read: No such file"):
            getattr(host, action)(gone)

    def test_core_ml_needs_another_device(self, host: HostDevice, tiny_files: Files) -> None:
        with pytest.raises(RunnerUnusableError, match="use the device mac on a Mac, or ios for a connected iPhone"):
            host.run(replace(tiny_files["onnx"], target="coreml"))

    def test_unknown_target(self, host: HostDevice, tiny_files: Files) -> None:
        with pytest.raises(RunnerUnusableError, match="no runtime here for the target 'onyx'; did you mean 'onnx'"):
            host.run(replace(tiny_files["onnx"], target="onyx"))

    @pytest.mark.parametrize("number", ["runs", "warmup", "threads"])
    def test_numbers_that_mean_nothing(self, number: str, host: HostDevice, tiny_files: Files) -> None:
        with pytest.raises(InputError, match=f"{number} cannot be 0"):
            host.run(tiny_files["onnx"], **{number: 0})

    def test_missing_library(
        self, host: HostDevice, tiny_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('none', name='onnxruntime')")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MissingExtraError, match=r"needs onnxruntime: pip install 'fbnet-zoo\[onnx\]'"):
            host.run(tiny_files["onnx"])

    def test_process_that_exits(
        self, host: HostDevice, tiny_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "onnxruntime.py").write_text("import os\nos.write(2, b'no more\\n')\nos._exit(7)")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(RunnerError, match="exited with code 7 and no result; its last lines: no more"):
            host.run(tiny_files["onnx"])

    @linux
    def test_hang(self, tiny_files: Files, scratch: Path) -> None:
        with pytest.raises(DeviceTimeoutError, match=r"3 \+ 1000000000 runs did not finish within 0.7 s; use fewer"):
            HostDevice(timeout_s=0.7).run(tiny_files["onnx"], runs=10**9)
        assert children() == []
        assert list(scratch.iterdir()) == []

    @linux
    def test_killed_process(self, host: HostDevice, tiny_files: Files, scratch: Path) -> None:
        def kill() -> None:
            while not (found := children()):
                time.sleep(0.01)
            os.kill(found[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(RunnerError, match="process of onnxruntime was killed by SIGKILL, usually because memory"):
            host.run(tiny_files["onnx"], runs=10**9)
        killer.join()
        assert list(scratch.iterdir()) == []


class TestProfile:
    def test_has_the_operators_of_the_optimised_graph(
        self, host: HostDevice, tiny_files: Files, tmp_path: Path, scratch: Path
    ) -> None:
        profile = host.profile_operators(tiny_files["onnx"], runs=4)
        library, onnx = require("onnxruntime", extra="onnx"), require("onnx", extra="onnx")
        options = library.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        library.InferenceSession(tiny_files["onnx"].path, options, providers=["CPUExecutionProvider"])
        expected = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
        assert Counter(operator.kind for operator in profile.operators) == expected
        assert {len(operator.samples_ms) for operator in profile.operators} == {profile.runs} == {4}
        assert sum(operator.median_ms for operator in profile.operators) > 0
        assert profile.undelegated_share == 0
        assert (profile.model, profile.file, profile.threads) == ("tiny", "tiny.onnx", 1)
        assert profile.runtime == f"onnxruntime {library.__version__}"
        assert profile.device == host.info()
        assert list(scratch.iterdir()) == []

    def test_trace_is_written_where_it_is_wanted(self, host: HostDevice, tiny_files: Files, tmp_path: Path) -> None:
        host.profile(tiny_files["onnx"], tmp_path / "trace.json", runs=2)
        assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
        assert from_onnxruntime(tmp_path / "trace.json", TraceContext(model="tiny", warmup=3)).runs == 2

    def test_trace_that_cannot_be_written(self, host: HostDevice, tiny_files: Files, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"trace\.json cannot be written \(No such file"):
            host.profile(tiny_files["onnx"], tmp_path / "none" / "trace.json", runs=1)

    @pytest.mark.parametrize("target", ["executorch", "torch"])
    def test_other_runtimes_have_no_tracer(self, target: str, host: HostDevice, tiny_files: Files) -> None:
        with pytest.raises(RunnerUnusableError, match=f"{target} has no tracer on this machine; profile the ONNX file"):
            host.profile_operators(tiny_files[target])
