"""Every way in which measuring on a phone fails has its own message and leaves nothing behind, through the real adb."""

import logging
import os
import signal
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo.benchmarks.devices import android
from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.errors import (
    DeviceError,
    DeviceLostError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnavailableError,
    EnergyUnavailableError,
    InputError,
    MissingBackendError,
    MissingKernelError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)
from tests.helpers.adb_daemon import Fault
from tests.helpers.phone import FAST, Phone, Plug, connect, device_of, eventually, iterations

CASES = {
    "x86_64_nolog/fb_10_none": (RunnerUnusableError, "logged nothing, so there are no timings; build it with"),
    "x86_64_portable/missing_backend_xnnpack": (MissingBackendError, "lacks the backend XnnpackBackend"),
    "x86_64/missing_kernel": (MissingKernelError, "lacks the kernel mylib::foo.out"),
    "x86_64/corrupt_trunc_half": (ModelFileError, "has 11000000 bytes, expected 22181792"),
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
        match=r"is built for x86_64, the device supports arm64-v8a and armeabi-v7a: .*ANDROID_ABI=arm64",
    ):
        device_of(phone, runner).run(model_file)
    assert "sync:" not in phone.services
    assert phone.files == []


@pytest.mark.parametrize("content", [elf(0xB7), elf(0x1234)])
def test_a_runner_that_the_device_cannot_execute(
    any_phone: Phone, runner: Path, model_file: ModelFile, content: bytes
) -> None:
    runner.write_bytes(content)
    with pytest.raises(RunnerUnusableError, match="exited with code 126: the system cannot execute it: another ABI"):
        device_of(any_phone, runner).run(model_file)
    assert any_phone.files == []


def test_a_full_device_keeps_nothing(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.faults.append(Fault(kind="full", service="push:.*pte", after=1000))
    with pytest.raises(DeviceStorageError, match="No space left on device"):
        device_of(any_phone, runner).run(model_file)
    assert any_phone.files == []


def test_a_model_that_arrives_damaged_is_not_run(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    phone.faults.append(Fault(kind="corrupt", service="push:.*pte"))
    with pytest.raises(DeviceStorageError, match="was damaged in transfer"):
        device_of(phone, runner).run(model_file)
    assert phone.lines("runs") == []
    assert phone.files == []


HANG = 'echo $$ >> "$SANDBOX/hanging"; while :; do sleep 0.05; done'


def is_alive(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_runner_that_hangs_is_stopped(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.write("meanwhile", HANG)
    with pytest.raises(DeviceTimeoutError, match="fbnet_c: 23 runs did not finish within 2 s; the device hangs"):
        device_of(any_phone, runner, replace(FAST, run_s=2)).run(model_file)
    assert not any(map(is_alive, any_phone.lines("hanging")))
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
    assert len(any_phone.lines("runs")) == 3, "broken, again, and for the memory"
    assert measurement.samples_ms == iterations("x86_64/fb_10")[1:]
    assert any_phone.files == []


def test_an_unplugged_phone_is_tidied_when_it_comes_back(
    phone: Phone, runner: Path, model_file: ModelFile, plug: Plug
) -> None:
    phone.write("meanwhile", HANG)
    phone.faults.append(Fault(kind="unplug", service="num_executions", until=phone.root / "hanging"))
    device = AndroidDevice(Link(Server(), phone.serial, reconnect_s=0.3), runner=runner, limits=FAST)
    with pytest.raises(DeviceLostError, match="not restored") as caught:
        device.run(model_file)
    assert any("the next measurement there removes it" in note for note in caught.value.__notes__)
    assert "fbnet_zoo/executor_runner" in phone.files
    device.cleanup()
    (pid,) = phone.lines("hanging")

    again = Phone(phone.root)
    again.replay("x86_64/fb_10")
    (phone.root / "meanwhile").unlink()
    (phone.root / "data/local/tmp/fbnet_zoo/old").touch()
    with again:
        connect(again)
        with device_of(again, runner) as device:
            device.push(model_file)
            assert "fbnet_zoo/old" not in again.files
            assert not is_alive(pid)
        assert again.files == []


@pytest.mark.parametrize("kind", ["lose", "drop"])
def test_a_phone_that_is_reachable_after_a_lost_push_is_left_clean(
    phone: Phone, runner: Path, model_file: ModelFile, kind: Any
) -> None:
    """What is pushed twice without success, over a connection that works again after that."""
    phone.faults.append(Fault(kind=kind, service="push:.*pte" if kind == "lose" else "sha256sum .*pte", times=2))
    with pytest.raises(DeviceLostError, match="connection broken twice") as caught:
        device_of(phone, runner).push(model_file)
    assert phone.files == []
    assert not getattr(caught.value, "__notes__", [])


def test_a_lost_phone_is_tidied_as_soon_as_it_is_connected_again(
    phone: Phone, runner: Path, model_file: ModelFile
) -> None:
    phone.faults.append(Fault(kind="unplug", service="sha256sum .*pte"))
    device = AndroidDevice(Link(Server(), phone.serial, reconnect_s=0.3), runner=runner, limits=FAST)
    with pytest.raises(DeviceLostError, match="and not restored within"), device:
        device.push(model_file)
    assert "fbnet_zoo/executor_runner" in phone.files
    phone.plug_in()
    device.cleanup()
    assert phone.files == []


def test_a_device_that_is_lost_while_tidying_does_not_hide_the_error(
    phone: Phone, runner: Path, model_file: ModelFile
) -> None:
    phone.replay("x86_64/missing_kernel")
    device = AndroidDevice(Link(Server(), phone.serial, reconnect_s=0.3), runner=runner, limits=FAST)
    device.push(model_file)
    phone.faults.append(Fault(kind="unplug", service="rm -rf"))
    with pytest.raises(MissingKernelError, match="the runner lacks the kernel") as caught:
        device.run(model_file, runs=9, warmup=1)
    assert any(note.startswith("cleanup failed too: 127.0.0.1") for note in caught.value.__notes__)


def test_an_interruption_by_the_user_leaves_nothing(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    """What hangs on the phone sends the signal, so it comes in the middle of a measurement."""
    phone.write("meanwhile", f"kill -INT {os.getpid()}; {HANG}")
    with pytest.raises(KeyboardInterrupt):
        device_of(phone, runner).run(model_file)
    assert eventually(lambda: not any(map(is_alive, phone.lines("hanging"))))
    assert len(phone.lines("runs")) == 1
    assert phone.files == []


def test_an_interruption_while_a_phone_cools_leaves_nothing(phone: Phone, runner: Path, model_file: ModelFile) -> None:
    class Interruption(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            signal.raise_signal(signal.SIGINT)

    phone.write("warmth", "500\n")
    log, handler = logging.getLogger(android.__name__), Interruption(logging.INFO)
    log.addHandler(handler)
    try:
        log.setLevel(logging.INFO)
        with pytest.raises(KeyboardInterrupt):
            device_of(phone, runner).run(model_file)
    finally:
        log.setLevel(logging.NOTSET)
        log.removeHandler(handler)
    assert "sync:" in phone.services
    assert phone.lines("runs") == []
    assert phone.files == []


@pytest.mark.parametrize("access", ["unauthorized", "silent"])
def test_phones_that_do_not_let_us_in(plug: Plug, runner: Path, model_file: ModelFile, access: str) -> None:
    phone = plug(access=access)
    with pytest.raises(DeviceUnavailableError, match="is not ready"):
        device_of(phone, runner).run(model_file)
    with pytest.raises(DeviceUnavailableError, match="is not ready"):
        AndroidDevice.find(runner=runner)


def test_the_runner_must_be_named(
    phone: Phone, runner: Path, model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FBNET_ZOO_RUNNER", raising=False)
    with pytest.raises(InputError, match=r"an executor_runner .* is required; .* FBNET_ZOO_RUNNER"):
        AndroidDevice.find()
    with pytest.raises(InputError, match="/nowhere: no such file; expected an executor_runner"):
        AndroidDevice.find(runner=Path("/nowhere"))
    monkeypatch.setenv("FBNET_ZOO_RUNNER", str(runner))
    phone.replay("x86_64/fb_10")
    with AndroidDevice.find(limits=FAST) as device:
        assert len(device.run(model_file, runs=9, warmup=1).samples_ms) == 9


def test_what_cannot_be_measured_is_refused(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    with pytest.raises(InputError, match="runs cannot be 0; expected at least 1"):
        device.run(model_file, runs=0)
    with pytest.raises(InputError, match=r"warmup cannot be 0; .* the first run of a process is always slower"):
        device.run(model_file, warmup=0)
    with pytest.raises(InputError, match="threads cannot be -1"):
        device.run(model_file, threads=-1)
    with pytest.raises(InputError, match=r"nothing\.pte: the model cannot be read: No such file"):
        device.run(replace(model_file, path=model_file.path.with_name("nothing.pte")))
    assert phone.lines("runs") == []


def test_every_error_of_a_device_was_seen() -> None:
    energy = {EnergyUnavailableError}  # in test_rapl.py and test_battery.py
    seen = energy | {DeviceUnavailableError, DeviceLostError, DeviceTimeoutError, DeviceStorageError, RunnerError}
    assert set(DeviceError.__subclasses__()) == seen
