"""Devices by their names, and what is said of those that are not there."""

import platform
from pathlib import Path

import pytest

from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.devices.discovery import open_device, open_devices, survey
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.fleet import ModelRun, measure_all
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.errors import DeviceUnavailableError, InputError, UnknownNameError
from tests.helpers.phone import Phone, Plug

no_apple = pytest.mark.skipif(platform.system() == "Darwin", reason="this is a Mac")


def test_host() -> None:
    assert isinstance(open_device("host"), HostDevice)


@pytest.mark.parametrize("name", ["android", "android:{serial}"])
def test_android(name: str, phone: Phone, runner: Path) -> None:
    with open_device(name.format(serial=phone.serial), runner=runner) as device:
        assert isinstance(device, AndroidDevice)
        assert device.info().model == "Phone 9"


def test_all_phones_measure_at_the_same_time(plug: Plug, runner: Path, model_file: ModelFile) -> None:
    phones = [plug("one"), plug("two")]
    for phone in phones:
        phone.replay("x86_64/fb_10")
    devices = open_devices("android:all", runner=runner)
    assert sorted(devices) == sorted(f"android:{phone.serial}" for phone in phones)
    found: list[Measurement] = []
    failures = measure_all(devices, [ModelRun(model=model_file, runs=8, warmup=2)], found.append)
    assert [str(failure.error) for failure in failures] == []
    assert len({measurement.device.id for measurement in found}) == 2


def test_one_name_is_one_device() -> None:
    assert [(name, type(device)) for name, device in open_devices("host").items()] == [("host", HostDevice)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hots", "there is no device 'hots'; did you mean 'host'"),
        ("xyz", "there is no device 'xyz'; expected host, android, ios, mac"),
        ("host:2", "there is no device 'host:2'"),
    ],
)
def test_unknown_name(name: str, text: str) -> None:
    with pytest.raises(UnknownNameError, match=text):
        open_device(name)


def test_only_android_takes_a_runner(runner: Path) -> None:
    with pytest.raises(InputError, match="the device host needs no runner; leave it out"):
        open_device("host", runner=runner)


@pytest.mark.parametrize("name", ["android", "android:all"])
def test_no_phone(name: str, adb_server: None, runner: Path) -> None:
    with pytest.raises(DeviceUnavailableError, match="no device is connected; connect a phone and enable USB debug"):
        open_devices(name, runner=runner)


@no_apple
@pytest.mark.parametrize("name", ["mac", "ios", "mac:cpu_and_ne"])
def test_apple_needs_a_mac(name: str) -> None:
    with pytest.raises(DeviceUnavailableError, match=r"macOS|Mac"):
        open_device(name)


@no_apple
def test_survey_without_a_phone(adb_server: None) -> None:
    found = {finding.name: finding for finding in survey()}
    assert list(found) == ["host", "android", "ios", "mac"]
    assert [name for name, finding in found.items() if finding.usable] == ["host"]
    assert "runs onnx, executorch, torch" in found["host"].about
    assert "no device is connected" in found["android"].about


def test_survey_tells_each_phone(plug: Plug, runner: Path) -> None:
    ready, locked = plug("ready"), plug("locked", access="unauthorized")
    found = {finding.name: finding for finding in survey(runner=runner)}
    assert found[f"android:{ready.serial}"].usable
    assert found[f"android:{ready.serial}"].about == "Sandbox Phone 9, SX-1, 8 cores, Android 14, API 34"
    assert not found[f"android:{locked.serial}"].usable
    assert "unlock the phone and allow USB debugging" in found[f"android:{locked.serial}"].about


def test_survey_misses_the_runner(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FBNET_ZOO_RUNNER", raising=False)
    found = {finding.name: finding for finding in survey()}
    assert (
        "an executor_runner of ExecuTorch, built for the device, is required" in found[f"android:{phone.serial}"].about
    )
