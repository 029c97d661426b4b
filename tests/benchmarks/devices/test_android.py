"""Measuring on a phone, through the real adb, with a runner that replays what the real one printed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.fleet import ModelRun, measure_all
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.benchmarks.store import append, read
from fbnet_zoo.errors import (
    DeviceLostError,
    DeviceTimeoutError,
    MissingBackendError,
    RunnerError,
    RunnerUnusableError,
)
from tests.helpers.adb_daemon import Fault
from tests.helpers.phone import FAST, Phone, Plug, device_of, iterations

CPU = "sys/devices/system/cpu/cpufreq"


def test_a_measurement_is_what_the_runner_said(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.replay("x86_64/fb_10_threads4")
    with device_of(any_phone, runner) as device:
        measurement = device.run(model_file, runs=8, warmup=2, threads=4)
        assert len(any_phone.files) == 4, "the folder, the runner, the model and the process number"
    times = iterations("x86_64/fb_10_threads4")
    assert measurement.samples_ms == times[2:]
    assert measurement.warmup_ms == times[:2]
    assert (measurement.first_ms, measurement.load_ms) == (times[0], 85.851405)
    assert (measurement.runs_per_sample, measurement.warmup, measurement.threads) == (1, 2, 4)
    assert (measurement.model, measurement.target, measurement.precision) == ("fbnet_c", "executorch", "fp32")
    assert measurement.size == model_file.path.stat().st_size
    assert measurement.runtime == "executor_runner"
    assert not measurement.throttled
    assert any_phone.files == []


def test_the_runner_is_asked_for_what_is_measured(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    tensors: list[NDArray[Any]] = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((1,), np.int64)]
    phone.write(
        "meanwhile",
        'for option in "$@"; do case $option in --inputs=*) files=${option#*=};; esac; done\n'
        'cp $(echo "$files" | tr , " ") "$SANDBOX"',
    )
    device.run(model_file, inputs=tensors, runs=7, warmup=3, threads=2)
    asked, _ = phone.lines("runs")
    assert "--num_executions=10" in asked
    assert "--cpu_threads=2" in asked
    inputs = [phone.root / Path(name).name for name in re.findall(r"[^=,/]+\.bin", asked)]
    assert [path.read_bytes() for path in inputs] == [tensor.tobytes() for tensor in tensors]


def test_the_device_tells_which_it_is_and_how_it_is(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    measurement = device.run(model_file, runs=9, warmup=1)
    info, state = measurement.device, measurement.before
    assert info == device.info()
    assert (info.kind, info.manufacturer, info.model, info.soc) == ("android", "Sandbox", "Phone 9", "SX-1")
    assert (info.system, info.abis, info.cores) == ("Android 14, API 34", ("arm64-v8a", "armeabi-v7a"), 8)
    assert phone.serial not in measurement.model_dump_json()
    assert (state.battery_celsius, state.battery_percent, state.charging) == (31.2, 83, True)
    assert (state.thermal_status, state.celsius) == (0, {"skin": 33.5})
    assert [policy.cores for policy in state.policies] == [(0, 1, 2, 3), (4, 5, 6), (7,)]
    fastest = state.policies[-1]
    assert (fastest.fastest_khz, fastest.limit_khz, fastest.current_khz) == (2_900_000, 2_900_000, 300_000)
    assert (fastest.governor, fastest.time_in_state) == ("walt", {300_000: 1200, 2_900_000: 34})
    assert measurement.after.policies == state.policies
    assert {"adb", "executor_runner", "fbnet_zoo", "python"} == measurement.versions.keys()


@pytest.mark.parametrize(("threads", "mask"), [(1, "80"), (2, "f0"), (4, "f0"), (5, None)])
def test_the_fastest_cores_are_used(
    phone: Phone, device: AndroidDevice, model_file: ModelFile, threads: int, mask: str | None
) -> None:
    phone.replay("x86_64/fb_10")
    assert device.run(model_file, runs=9, warmup=1, threads=threads).affinity == mask
    assert phone.lines("masks") == [mask] * 3 if mask else phone.lines("masks") == []


def test_without_taskset_the_system_chooses(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    phone.write("no_taskset", "")
    assert device.run(model_file, runs=9, warmup=1).affinity is None


def test_runners_that_log_to_logcat_are_read_there(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.write("logs_to_logcat", "")
    stranger = "I/ExecuTorch( 1): Model executed successfully 3 time(s) in 1.0 ms.\n"
    any_phone.write("log", f"--------- beginning of main\n{stranger}I/Other( 2): Iteration 1 of 1: 9 ms\n")
    any_phone.replay("x86_64/fb_10")
    with device_of(any_phone, runner) as device:
        assert device.run(model_file, runs=8, warmup=2).samples_ms == iterations("x86_64/fb_10")[2:]
    any_phone.replay("x86_64_portable/missing_backend_xnnpack")
    with device_of(any_phone, runner) as device, pytest.raises(MissingBackendError, match="XnnpackBackend"):
        device.run(model_file)


def test_runners_that_tell_only_totals_run_twice(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10", executions=10, without="Iteration")
    phone.replay("x86_64/fb_threads0", executions=3, without="Iteration")
    measurement = device.run(model_file, runs=7, warmup=3)
    assert list(measurement.samples_ms) == pytest.approx([(286.227988 - 60.807078) / 7])
    assert measurement.runs_per_sample == 7
    assert (measurement.first_ms, measurement.warmup_ms) == (None, ())
    phone.replay("x86_64/fb_10", executions=3, without="Iteration")
    with pytest.raises(RunnerError, match="reports 10 runs, expected 3"):
        device.run(model_file, runs=7, warmup=3)


def test_totals_that_say_nothing_are_refused(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64_etdump/small_xnnpack", executions=3, without="Iteration")
    phone.replay("x86_64/fb_inputs_outfile", executions=1, without="Iteration")
    with pytest.raises(RunnerError, match="3 runs took no longer than 1, so a run cannot be timed"):
        device.run(model_file, runs=2, warmup=1)


def test_a_tracer_is_remembered(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64_etdump/fb_10")
    assert device.run(model_file, runs=9, warmup=1).runtime == "executor_runner with tracer"


def test_a_trace_comes_back_whole(phone: Phone, device: AndroidDevice, model_file: ModelFile, tmp_path: Path) -> None:
    trace = phone.write("trace", "trace" * 1000)
    phone.replay("x86_64_etdump/fb_10")
    device.profile(model_file, tmp_path / "fb.etdp", runs=10)
    assert (tmp_path / "fb.etdp").read_bytes() == trace.read_bytes()


def test_a_runner_without_tracer_cannot_profile(
    phone: Phone, device: AndroidDevice, model_file: ModelFile, tmp_path: Path
) -> None:
    phone.replay("x86_64/fb_10")
    with pytest.raises(RunnerUnusableError, match="has no tracer; build it with -DEXECUTORCH_ENABLE_EVENT_TRACER=ON"):
        device.profile(model_file, tmp_path / "fb.etdp", runs=10)
    assert not (tmp_path / "fb.etdp").exists()
    assert phone.files == []


def test_a_warm_device_is_let_cool(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    phone.write("warmth", "421\n395\n370\n388\n")
    measurement = device_of(phone, runner, replace(FAST, cooldown_s=900)).run(model_file, runs=9, warmup=1)
    assert measurement.before.battery_celsius == 37.0
    assert measurement.after.battery_celsius == 38.8


def test_a_device_that_stays_warm_is_not_measured(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    phone.write("warmth", "421\n")
    with pytest.raises(DeviceTimeoutError, match=r"still at 42.1 C after 0.3 s, above the limit of 37 C: let it cool"):
        device_of(phone, runner, replace(FAST, cooldown_s=0.3)).run(model_file)
    assert phone.lines("runs") == []
    assert phone.files == []


@pytest.mark.parametrize("how", ["thermal_status", "lower_limit"])
def test_throttled_runs_are_flagged(phone: Phone, device: AndroidDevice, model_file: ModelFile, how: str) -> None:
    phone.replay("x86_64/fb_10")
    command = {
        "thermal_status": 'echo 2 > "$SANDBOX/thermal_status"',
        "lower_limit": f'echo 1200000 > "$SANDBOX/{CPU}/policy4/scaling_max_freq"',
    }[how]
    phone.write("meanwhile", command)
    assert device.run(model_file, runs=9, warmup=1).throttled


def test_devices_that_tell_nothing_are_measured_all_the_same(
    phone: Phone, device: AndroidDevice, model_file: ModelFile
) -> None:
    phone.replay("x86_64/fb_10")
    for program in ("dumpsys", "getprop", "nproc"):
        phone.write(f"bin/{program}", "#!/bin/sh\nexit 1\n")
    for path in (phone.root / "sys").rglob("*"):
        path.unlink() if path.is_file() else None
    measurement = device.run(model_file, runs=9, warmup=1)
    assert measurement.samples_ms == iterations("x86_64/fb_10")[1:]
    assert (measurement.before.battery_celsius, measurement.before.thermal_status) == (None, None)
    assert (measurement.device.model, measurement.device.abis, measurement.affinity) == (None, (), None)
    assert not measurement.throttled


def test_a_file_is_sent_once(phone: Phone, device: AndroidDevice, model_file: ModelFile, tmp_path: Path) -> None:
    phone.replay("x86_64/fb_10")
    device.push(model_file)
    for _ in range(2):
        device.run(model_file, runs=9, warmup=1)
    assert sum(service == "sync:" for service in phone.services) == 2, "the runner and the model"
    changed = replace(model_file, path=tmp_path / "changed.pte")
    changed.path.write_bytes(b"others")
    device.run(changed, runs=9, warmup=1)
    assert sum(service == "sync:" for service in phone.services) == 3


def test_several_phones_work_at_the_same_time(plug: Plug, runner: Path, model_file: ModelFile, tmp_path: Path) -> None:
    """Each runner waits until the other phone's runs, too: one after the other they would wait for ever."""
    phones = [plug("first"), plug("second")]
    for phone, other in zip(phones, phones[::-1], strict=True):
        phone.replay("x86_64/fb_10")
        phone.write("meanwhile", f'while ! [ -e "{other.root}/runs" ]; do sleep 0.02; done')
    store = tmp_path / "results.jsonl"
    tasks = [ModelRun(model=model_file, runs=9, warmup=1, threads=threads) for threads in (1, 2)]
    devices = {phone.serial: device_of(phone, runner) for phone in phones}
    assert measure_all(devices, tasks, lambda measurement: append(store, measurement)) == ()
    measurements = read(store)
    assert len({measurement.device.id for measurement in measurements}) == 2
    assert sorted(measurement.threads for measurement in measurements) == [1, 1, 2, 2]
    assert [phone.files for phone in phones] == [[], []]


def test_a_lost_phone_does_not_stop_the_others(plug: Plug, runner: Path, model_file: ModelFile) -> None:
    good, lost = plug("good"), plug("lost")
    for phone in (good, lost):
        phone.replay("x86_64/fb_10")
    lost.faults.append(Fault(kind="unplug", service="num_executions"))
    devices = {
        name: AndroidDevice(Link(Server(), phone.serial, reconnect_s=0.3), runner=runner, limits=FAST)
        for name, phone in (("good", good), ("lost", lost))
    }
    kept: list[Measurement] = []
    failures = measure_all(devices, [ModelRun(model=model_file, runs=9, warmup=1)] * 3, kept.append)
    assert len(kept) == 3
    assert [failure.device for failure in failures] == ["lost"] * 3
    assert all(isinstance(failure.error, DeviceLostError) for failure in failures)
