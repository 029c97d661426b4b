"""Measuring on a phone, through the real adb, with a runner that replays what the real one printed."""

import re
import signal
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo.benchmarks.adb import Server
from fbnet_zoo.benchmarks.adb_link import Link
from fbnet_zoo.benchmarks.android import AndroidDevice, Limits
from fbnet_zoo.benchmarks.fleet import Task, measure_all
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.benchmarks.store import append, read
from fbnet_zoo.errors import (
    DeviceError,
    DeviceLostError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnavailableError,
    InputError,
    MissingBackendError,
    MissingKernelError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)
from tests.adb_daemon import Fault
from tests.phone import CAPTURES, Phone, Plug

FAST = Limits(cooldown_s=0.3, poll_s=0.01, run_s=20)
CPU = "sys/devices/system/cpu/cpufreq"


def iterations(case: str) -> tuple[float, ...]:
    log = "".join(CAPTURES[case]["stderr"])
    return tuple(float(number) for number in re.findall(r"Iteration \d+ of \d+: ([\d.]+) ms", log))


def device_of(phone: Phone, runner: Path, limits: Limits = FAST) -> AndroidDevice:
    return AndroidDevice(Link(Server(), phone.serial, reconnect_s=5), runner=runner, limits=limits)


@pytest.fixture(params=[True, False], ids=["shell_v2", "shell_v1"])
def any_phone(request: pytest.FixtureRequest, plug: Plug) -> Phone:
    return plug(shell_v2=request.param)


@pytest.fixture
def phone(plug: Plug) -> Phone:
    return plug()


@pytest.fixture
def device(phone: Phone, runner: Path) -> Iterator[AndroidDevice]:
    with device_of(phone, runner) as device:
        yield device


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
    tensors = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((1,), np.int64)]
    phone.write(
        "meanwhile",
        'for option in "$@"; do case $option in --inputs=*) files=${option#*=};; esac; done\n'
        'cp $(echo "$files" | tr , " ") "$SANDBOX"',
    )
    device.run(model_file, inputs=tensors, runs=7, warmup=3, threads=2)
    (asked,) = phone.lines("runs")
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
    assert phone.lines("masks") == [mask] * 2 if mask else phone.lines("masks") == []


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
    assert measurement.samples_ms == (pytest.approx((286.227988 - 60.807078) / 7),)
    assert measurement.runs_per_sample == 7
    assert (measurement.first_ms, measurement.warmup_ms) == (None, ())
    phone.replay("x86_64/fb_10", executions=3, without="Iteration")
    with pytest.raises(RunnerError, match="tells of 10 runs where 3 were asked for"):
        device.run(model_file, runs=7, warmup=3)


def test_totals_that_say_nothing_are_refused(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64_etdump/small_xnnpack", executions=3, without="Iteration")
    phone.replay("x86_64/fb_inputs_outfile", executions=1, without="Iteration")
    with pytest.raises(RunnerError, match="3 runs took no longer than 1, so nothing can be said"):
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


def test_a_warm_device_is_let_cool(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    phone.write("warmth", "421\n395\n370\n388\n")
    measurement = device.run(model_file, runs=9, warmup=1)
    assert measurement.before.battery_celsius == 37.0
    assert measurement.after.battery_celsius == 38.8


def test_a_device_that_stays_warm_is_not_measured(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.write("warmth", "421\n")
    with pytest.raises(DeviceTimeoutError, match=r"still has 42.1 C after 0.3 s, more than 37 C: let it cool"):
        device.run(model_file)
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


CASES = {
    "x86_64_nolog/fb_10_none": (RunnerUnusableError, "logged nothing, so there are no timings; build it with"),
    "x86_64_portable/missing_backend_xnnpack": (MissingBackendError, "lacks the backend XnnpackBackend"),
    "x86_64/missing_kernel": (MissingKernelError, "lacks the kernel mylib::foo.out"),
    "x86_64/corrupt_trunc_half": (ModelFileError, "has 11000000 bytes where 22181792 are expected"),
    "x86_64/bad_inputs_size": (RunnerInputError, "an input has 40 bytes"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_runner_complains_of_names_phone_and_model(
    any_phone: Phone, runner: Path, model_file: ModelFile, case: str
) -> None:
    any_phone.replay(case)
    error, text = CASES[case]
    with pytest.raises(error, match=f"^{any_phone.serial}: fbnet_c: .*{text}") as caught:
        device_of(any_phone, runner).run(model_file, runs=9, warmup=1)
    assert type(caught.value) is error
    assert any_phone.files == []


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(100)


def test_a_runner_of_another_abi_is_not_even_sent(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    runner.write_bytes(elf(0x3E))
    with pytest.raises(
        RunnerUnusableError,
        match=r"is built for x86_64, the device takes arm64-v8a or armeabi-v7a: .*ANDROID_ABI=arm64",
    ):
        device_of(phone, runner).run(model_file)
    assert "sync:" not in phone.services
    assert phone.files == []


@pytest.mark.parametrize("content", [elf(0xB7), elf(0x1234)])
def test_a_runner_that_the_device_cannot_execute(
    any_phone: Phone, runner: Path, model_file: ModelFile, content: bytes
) -> None:
    runner.write_bytes(content)
    with pytest.raises(RunnerUnusableError, match="exit code 126: the system cannot execute it: another ABI"):
        device_of(any_phone, runner).run(model_file)
    assert any_phone.files == []


def test_a_full_device_keeps_nothing(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.faults.append(Fault(kind="full", service="push:.*pte", after=1000))
    with pytest.raises(DeviceStorageError, match="No space left on device"):
        device_of(any_phone, runner).run(model_file)
    assert any_phone.files == []


def test_a_model_that_arrives_damaged_is_not_run(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    phone.faults.append(Fault(kind="corrupt", service="push:.*pte"))
    with pytest.raises(DeviceStorageError, match="arrived damaged"):
        device_of(phone, runner).run(model_file)
    assert phone.lines("runs") == []
    assert phone.files == []


HANG = 'echo $$ >> "$SANDBOX/hanging"; while :; do sleep 0.05; done'


def is_alive(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_runner_that_hangs_is_stopped(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.write("meanwhile", HANG)
    with pytest.raises(DeviceTimeoutError, match="fbnet_c: 23 runs did not end within 2 s and were stopped"):
        device_of(any_phone, runner, replace(FAST, run_s=2)).run(model_file)
    (pid,) = any_phone.lines("hanging")
    assert not is_alive(pid)
    assert any_phone.files == []


def test_a_link_that_breaks_meanwhile_is_restored_and_nothing_runs_twice(
    any_phone: Phone, runner: Path, model_file: ModelFile
) -> None:
    any_phone.replay("x86_64/fb_10")
    any_phone.write("meanwhile", f'[ -e "$SANDBOX/hanging" ] || {{ {HANG}; }}')
    any_phone.faults.append(Fault(kind="drop", service="num_executions", until=any_phone.root / "hanging"))
    with device_of(any_phone, runner) as device:
        measurement = device.run(model_file, runs=9, warmup=1)
    (pid,) = any_phone.lines("hanging")
    assert not is_alive(pid), "what the broken link left running was stopped before it ran again"
    assert len(any_phone.lines("runs")) == 2
    assert measurement.samples_ms == iterations("x86_64/fb_10")[1:]
    assert any_phone.files == []


def test_an_unplugged_phone_is_tidied_when_it_comes_back(
    phone: Phone, runner: Path, model_file: ModelFile, plug: Plug
) -> None:
    phone.write("meanwhile", HANG)
    phone.faults.append(Fault(kind="unplug", service="num_executions", until=phone.root / "hanging"))
    device = AndroidDevice(Link(Server(), phone.serial, reconnect_s=0.3), runner=runner, limits=FAST)
    with pytest.raises(DeviceLostError, match="did not come back") as caught:
        device.run(model_file)
    assert any("goes when the device is measured on again" in note for note in caught.value.__notes__)
    assert "fbnet_zoo/executor_runner" in phone.files
    device.cleanup()
    (pid,) = phone.lines("hanging")

    again = Phone(phone.root)
    again.replay("x86_64/fb_10")
    (phone.root / "meanwhile").unlink()
    (phone.root / "data/local/tmp/fbnet_zoo/old").touch()
    with again:
        Server().call("connect", again.serial)
        with device_of(again, runner) as device:
            device.push(model_file)
            assert "fbnet_zoo/old" not in again.files
            assert not is_alive(pid)
        assert again.files == []


def test_an_interruption_by_the_user_leaves_nothing(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    phone.write("warmth", "500\n")
    us = threading.get_ident()

    def interrupt() -> None:
        while not any("dumpsys battery" in service for service in phone.services):
            time.sleep(0.05)
        signal.pthread_kill(us, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        device_of(phone, runner, Limits(cooldown_s=20, poll_s=20)).run(model_file)
    assert "sync:" in phone.services
    assert phone.files == []


@pytest.mark.parametrize("access", ["unauthorized", "silent"])
def test_phones_that_do_not_let_us_in(plug: Plug, runner: Path, model_file: ModelFile, access: str) -> None:
    phone = plug(access=access)
    with pytest.raises(DeviceUnavailableError, match="cannot be used, it is"):
        device_of(phone, runner).run(model_file)
    with pytest.raises(DeviceUnavailableError, match="cannot be used, it is"):
        AndroidDevice.find(runner=runner)


def test_the_runner_must_be_named(
    phone: Phone, runner: Path, model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FBNET_ZOO_RUNNER", raising=False)
    with pytest.raises(InputError, match=r"name the executor_runner .* in FBNET_ZOO_RUNNER"):
        AndroidDevice.find()
    with pytest.raises(InputError, match="/nowhere: there is no such executor_runner"):
        AndroidDevice.find(runner=Path("/nowhere"))
    monkeypatch.setenv("FBNET_ZOO_RUNNER", str(runner))
    phone.replay("x86_64/fb_10")
    with AndroidDevice.find(limits=FAST) as device:
        assert len(device.run(model_file, runs=9, warmup=1).samples_ms) == 9


def test_what_cannot_be_measured_is_refused(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    with pytest.raises(InputError, match="runs cannot be 0; it must be at least 1"):
        device.run(model_file, runs=0)
    with pytest.raises(InputError, match=r"warmup cannot be 0; .* the first run of a process is like no other"):
        device.run(model_file, warmup=0)
    with pytest.raises(InputError, match="threads cannot be -1"):
        device.run(model_file, threads=-1)
    with pytest.raises(InputError, match=r"nothing\.pte: the model cannot be read: No such file"):
        device.run(replace(model_file, path=model_file.path.with_name("nothing.pte")))
    assert phone.lines("runs") == []


def test_several_phones_work_at_the_same_time(plug: Plug, runner: Path, model_file: ModelFile, tmp_path: Path) -> None:
    """Each runner waits until the other phone's runs, too: one after the other they would wait for ever."""
    phones = [plug("first"), plug("second")]
    for phone, other in zip(phones, phones[::-1], strict=True):
        phone.replay("x86_64/fb_10")
        phone.write("meanwhile", f'while ! [ -e "{other.root}/runs" ]; do sleep 0.02; done')
    store = tmp_path / "results.jsonl"
    tasks = [Task(model=model_file, runs=9, warmup=1, threads=threads) for threads in (1, 2)]
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
    failures = measure_all(devices, [Task(model=model_file, runs=9, warmup=1)] * 3, kept.append)
    assert len(kept) == 3
    assert [failure.device for failure in failures] == ["lost"] * 3
    assert all(isinstance(failure.error, DeviceLostError) for failure in failures)


def test_every_error_of_a_device_was_seen() -> None:
    seen = {DeviceUnavailableError, DeviceLostError, DeviceTimeoutError, DeviceStorageError, RunnerError}
    assert set(DeviceError.__subclasses__()) == seen
