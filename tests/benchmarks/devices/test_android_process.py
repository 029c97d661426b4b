"""What is done around the process that is timed: the system's own work waits, the memory is looked at apart."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.errors import DeviceLostError, DeviceTimeoutError, MissingKernelError
from tests.benchmarks.devices.test_android_failures import HANG, is_alive
from tests.helpers.adb_daemon import Fault
from tests.helpers.phone import FAST, Phone, device_of, eventually, iterations


def test_the_system_idles_meanwhile_and_is_left_as_it_was(
    any_phone: Phone, runner: Path, model_file: ModelFile
) -> None:
    any_phone.replay("x86_64/fb_10")
    with device_of(any_phone, runner) as device:
        device.run(model_file, runs=9, warmup=1)
    assert any_phone.lines("idle_meanwhile")[0] == "true"
    assert any_phone.lines("forced_idle") == ["false"]


def test_a_system_that_was_made_to_idle_before_stays_so(
    phone: Phone, device: AndroidDevice, model_file: ModelFile
) -> None:
    phone.replay("x86_64/fb_10")
    phone.write("forced_idle", "true\n")
    device.run(model_file, runs=9, warmup=1)
    assert phone.lines("forced_idle") == ["true"]


def test_tracing_is_done_in_the_same_quiet(
    phone: Phone, device: AndroidDevice, model_file: ModelFile, tmp_path: Path
) -> None:
    phone.replay("x86_64_etdump/fb_10")
    phone.write("trace", "trace")
    device.profile(model_file, tmp_path / "fb.etdp", runs=10)
    assert phone.lines("idle_meanwhile") == ["true"]
    assert phone.lines("forced_idle") == ["false"]


def test_a_runner_that_fails_ends_the_quiet(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.replay("x86_64/missing_kernel")
    with pytest.raises(MissingKernelError, match="fbnet_c: the runner lacks the kernel"):
        device_of(any_phone, runner).run(model_file)
    assert any_phone.lines("idle_meanwhile") == ["true"]
    assert any_phone.lines("forced_idle") == ["false"]


def test_a_runner_that_hangs_ends_the_quiet(any_phone: Phone, runner: Path, model_file: ModelFile) -> None:
    any_phone.write("meanwhile", HANG)
    with pytest.raises(DeviceTimeoutError, match="fbnet_c: 23 runs did not finish within 1 s"):
        device_of(any_phone, runner, replace(FAST, run_s=1)).run(model_file)
    assert eventually(lambda: any_phone.lines("forced_idle") == ["false"])
    assert any_phone.files == []


def test_a_phone_that_is_unplugged_stops_the_runner_and_ends_the_quiet_itself(
    phone: Phone, runner: Path, model_file: ModelFile
) -> None:
    phone.write("meanwhile", HANG)
    phone.faults.append(Fault(kind="unplug", service="num_executions", until=phone.root / "hanging"))
    device = AndroidDevice(Link(Server(), phone.serial, reconnect_s=0.3), runner=runner, limits=FAST)
    with pytest.raises(DeviceLostError, match=r"not restored within 0.3 s"):
        device.run(model_file)
    (pid,) = phone.lines("hanging")
    assert eventually(lambda: not is_alive(pid))
    assert eventually(lambda: phone.lines("forced_idle") == ["false"])


GROW = """ballast=$(head -c 30000000 /dev/zero | tr '\\0' a)
grep VmHWM /proc/$$/status > "$SANDBOX/own_peak"; sleep 0.3"""


def test_the_peak_of_memory_is_what_the_process_says_of_itself(
    any_phone: Phone, runner: Path, model_file: ModelFile
) -> None:
    any_phone.replay("x86_64/fb_10")
    any_phone.write("meanwhile", GROW)
    with device_of(any_phone, runner) as device:
        measurement = device.run(model_file, runs=9, warmup=1)
    (own,) = any_phone.lines("own_peak")
    assert measurement.peak_rss_mb == pytest.approx(int(own.split()[1]) / 1024, rel=0.01)
    assert measurement.peak_rss_mb > 28


def test_memory_is_looked_at_in_a_process_of_its_own_that_lasts_for_half_a_second(
    phone: Phone, device: AndroidDevice, model_file: ModelFile
) -> None:
    phone.replay("x86_64/fb_10")
    measurement = device.run(model_file, runs=9, warmup=1)
    timed, looked_at = phone.lines("runs")
    assert "--num_executions=10" in timed
    needed = -(-500 // iterations("x86_64/fb_10")[1])
    assert f"--num_executions={needed:.0f}" in looked_at
    assert measurement.samples_ms == iterations("x86_64/fb_10")[1:]


def test_a_sleep_that_takes_no_fractions_will_do(phone: Phone, device: AndroidDevice, model_file: ModelFile) -> None:
    phone.replay("x86_64/fb_10")
    phone.write("bin/sleep", "#!/bin/sh\necho 'sleep: bad time' >&2; exit 1\n").chmod(0o755)
    phone.write("meanwhile", GROW.replace("sleep 0.3", "/bin/sleep 0.3"))
    assert (device.run(model_file, runs=9, warmup=1).peak_rss_mb or 0) > 28


def test_times_are_kept_when_memory_cannot_be_told(
    phone: Phone, device: AndroidDevice, model_file: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    phone.replay("x86_64/fb_10", executions=10)
    phone.replay("x86_64/missing_kernel")
    with caplog.at_level(logging.WARNING):
        measurement = device.run(model_file, runs=9, warmup=1)
    assert measurement.samples_ms == iterations("x86_64/fb_10")[1:]
    assert measurement.peak_rss_mb is None
    assert "fbnet_c: exit code 134 while memory was measured" in caplog.text
