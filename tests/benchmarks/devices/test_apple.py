"""iPhones and Macs: what is needed, what is measured, what is left; through real programs that stand for Apple's."""

import asyncio
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo.benchmarks.devices.apple import IPhoneDevice, MacDevice
from fbnet_zoo.benchmarks.devices.apple_tools import parse_thermal
from fbnet_zoo.benchmarks.measure import Device, ModelFile
from fbnet_zoo.errors import (
    DeviceError,
    DeviceLostError,
    DeviceTimeoutError,
    DeviceUnavailableError,
    InputError,
    RunnerError,
)
from tests.helpers.mac import TEAM, UDID, Mac, iphone, run_here
from tests.helpers.surroundings import PATIENCE_S

pytestmark = pytest.mark.coreml


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is left behind can be seen."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "tmp").glob("fbnet_zoo-*")]


@pytest.mark.skipif(platform.system() == "Darwin", reason="this is a Mac")
@pytest.mark.parametrize("find", [MacDevice.find, IPhoneDevice.find])
def test_elsewhere_one_line_says_that_a_mac_is_needed(find: Callable[[], Device]) -> None:
    with pytest.raises(DeviceUnavailableError, match=r"^Core ML and iPhones require a Mac \(sw_vers is"):
        find()


def test_without_xcode(mac: Mac) -> None:
    complaint = "xcode-select: error: tool 'xcodebuild' requires Xcode, but active developer directory is another"
    mac.write("bin/xcodebuild", f'#!/bin/sh\necho "{complaint}" >&2\nexit 1\n')
    with pytest.raises(
        DeviceUnavailableError, match=r"require Xcode itself, not only its command line tools.*requires"
    ):
        IPhoneDevice.find(team=TEAM)
    (mac.programs / "xcodebuild").unlink()
    with pytest.raises(DeviceUnavailableError, match=r"App Store.*xcode-select -s .* \(xcodebuild is missing\)"):
        IPhoneDevice.find(team=TEAM)


def test_without_a_team(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DeviceUnavailableError,
        match=r"must be signed: pass the ID of your development team .* or set FBNET_ZOO_APPLE_TEAM",
    ):
        IPhoneDevice.find()
    monkeypatch.setenv("FBNET_ZOO_APPLE_TEAM", TEAM)
    assert IPhoneDevice.find().info().model == "iPhone 15 Pro"


def test_without_devicectl_on_the_path(mac: Mac) -> None:
    (mac.programs / "devicectl").unlink()
    with pytest.raises(DeviceUnavailableError, match=r'run export PATH="\$PATH:/Applications/Xcode.app/.*/usr/bin"$'):
        IPhoneDevice.find(team=TEAM)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tunnelState": "unavailable"}, "no iPhone is connected: connect one"),
        ({"deviceType": "iPad"}, "no iPhone is connected"),
        ({"reality": "simulated"}, "no iPhone is connected"),
        ({"pairingState": "unpaired"}, "Ada's iPhone does not trust this Mac: unlock it and tap Trust"),
        ({"developerModeStatus": "disabled"}, "Developer Mode is off on Ada's iPhone: enable it"),
    ],
)
def test_phones_in_no_state_to_be_used(mac: Mac, changes: dict[str, str], message: str) -> None:
    mac.connect(iphone(**changes))
    with pytest.raises(DeviceUnavailableError, match=f"^{message}"):
        IPhoneDevice.find(team=TEAM)


def test_a_locked_phone(mac: Mac) -> None:
    mac.write("locked", "")
    with pytest.raises(DeviceUnavailableError, match=r"^Ada's iPhone is locked: unlock it, and keep it unlocked"):
        IPhoneDevice.find(team=TEAM)
    mac.write("silent", "")
    with pytest.raises(
        DeviceUnavailableError, match=r"^Ada's iPhone does not respond: keep it unlocked .*could not be"
    ):
        IPhoneDevice.find(team=TEAM)


def test_several_phones(mac: Mac) -> None:
    mac.connect(iphone(), iphone("Bob's iPhone", "other"))
    with pytest.raises(DeviceUnavailableError, match=r"several .* \(Ada's iPhone, Bob's iPhone\): leave only one"):
        IPhoneDevice.find(team=TEAM)
    first, second = (IPhoneDevice.find(team=TEAM, udid=udid).info() for udid in (UDID, "other"))
    assert first.id != second.id
    with pytest.raises(DeviceUnavailableError, match="the iPhone third is not connected"):
        IPhoneDevice.find(team=TEAM, udid="third")


@pytest.mark.parametrize("answer", ["no JSON", "{}"])
def test_answers_of_devicectl_that_cannot_be_read(mac: Mac, answer: str) -> None:
    mac.write("bin/devicectl", f'#!/bin/sh\nfor last; do :; done\necho "{answer}" > "$last"\n').chmod(0o755)
    with pytest.raises(DeviceUnavailableError, match=r"devicectl list devices: cannot read its output"):
        IPhoneDevice.find(team=TEAM)


def test_programs_that_hang_are_given_up(mac: Mac) -> None:
    def slow(command: object, timeout_s: float) -> None:
        raise TimeoutError

    with pytest.raises(DeviceTimeoutError, match="sw_vers did not finish within 60 s"):
        MacDevice.find(run=slow)  # type: ignore[arg-type]


def test_a_phone_and_a_mac_say_which_they_are(mac: Mac) -> None:
    phone, here = IPhoneDevice.find(team=TEAM).info(), MacDevice.find().info()
    assert (phone.kind, phone.manufacturer, phone.model, phone.system) == (
        "ios", "Apple", "iPhone 15 Pro", "iOS 18.6 (22G86)",
    )  # fmt: skip
    assert (here.kind, here.model, here.soc, here.system) == ("mac", "Mac14,2", "Apple M2", "macOS 15.5 (24F74)")
    assert (here.cores, here.memory_mb, here.abis) == (8, 16384.0, ("arm64",))
    for secret in (UDID, "Ada", "7C5E0D5A"):
        assert secret not in phone.model_dump_json() + here.model_dump_json()


@pytest.mark.usefixtures("phone_edges")
def test_a_phone_is_measured_through_the_real_coremltools(mac: Mac, tiny_package: ModelFile, tmp_path: Path) -> None:
    mac.write("durations_ns", json.dumps([51_000_000, 9_000_000, 3_000_000, 2_500_000, 2_750_000]))
    with IPhoneDevice.find(team=TEAM, compute_units="cpu_and_ne", run=run_here) as device:
        measurement = device.run(tiny_package, runs=2, warmup=2)
        assert mac.has_app()
    assert measurement.load_ms == 51.0
    assert (measurement.first_ms, measurement.warmup_ms, measurement.samples_ms) == (9.0, (9.0, 3.0), (2.5, 2.75))
    assert measurement.runtime == "coreml cpu_and_ne"
    assert (measurement.versions["xcode"], measurement.versions["coremltools"]) == ("16.4", "9.0")
    assert measurement.peak_rss_mb is None, "what this Mac takes is not what the phone takes"
    (build,) = mac.lines("builds")
    assert f"DEVELOPMENT_TEAM={TEAM} " in build
    assert f"id={UDID} " in build
    assert not mac.has_app()
    assert left(tmp_path) == []


@pytest.mark.usefixtures("phone_edges")
@pytest.mark.slow
def test_the_app_is_built_once_for_several_measurements(mac: Mac, tiny_package: ModelFile) -> None:
    mac.write("durations_ns", json.dumps([1_000_000] * 6))
    with IPhoneDevice.find(team=TEAM, run=run_here) as device:
        for _ in range(2):
            device.run(tiny_package, runs=1, warmup=1)
    assert len(mac.lines("builds")) == 1
    assert mac.lines("calls").count("device install app") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("phone_edges")
def test_what_the_phone_is_sent_is_the_input(mac: Mac, tiny_package: ModelFile) -> None:
    mac.write("durations_ns", json.dumps([1_000_000] * 3))
    tensor = np.arange(4, dtype=np.float32).reshape(1, 4)
    with IPhoneDevice.find(team=TEAM, run=run_here) as device:
        device.run(tiny_package, [tensor], runs=1, warmup=1)
    sent = list((mac.root / "container").rglob("requests/resources/*/*.bin"))
    assert [path.read_bytes() for path in sent] == [tensor.tobytes()] * 2


@pytest.mark.usefixtures("phone_edges")
def test_an_app_that_cannot_be_signed(mac: Mac, tiny_package: ModelFile, tmp_path: Path) -> None:
    mac.write("no_profile", "")
    with pytest.raises(DeviceUnavailableError, match=f"cannot be built for Ada's iPhone .*sign in to team {TEAM} in X"):
        IPhoneDevice.find(team=TEAM, run=run_here).run(tiny_package, runs=1, warmup=1)
    assert left(tmp_path) == []


@pytest.mark.usefixtures("phone_edges")
def test_what_core_ml_refuses_on_the_phone_is_said_and_nothing_left(
    mac: Mac, tiny_package: ModelFile, tmp_path: Path
) -> None:
    mac.write("refuses", "the model needs a newer iOS")
    with pytest.raises(RunnerError, match=r"^net.mlpackage: .*the model needs a newer iOS"):
        IPhoneDevice.find(team=TEAM, run=run_here).run(tiny_package, runs=1, warmup=1)
    assert not mac.has_app()
    assert left(tmp_path) == []


@pytest.mark.usefixtures("phone_edges")
def test_a_phone_that_is_unplugged_is_lost(
    mac: Mac, tiny_package: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac.write("unplugs", "")
    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: real_sleep(0))  # coremltools tries twenty times
    with pytest.raises(DeviceLostError, match=r"Ada's iPhone was disconnected .*interrupted.*; reconnect it"):
        IPhoneDevice.find(team=TEAM, run=run_here).run(tiny_package, runs=1, warmup=1)
    assert left(tmp_path) == []


def test_an_app_that_cannot_be_removed_is_named(mac: Mac, tiny_package: ModelFile) -> None:
    device = IPhoneDevice.find(team=TEAM)
    device.phone_target()
    with pytest.raises(DeviceUnavailableError, match=r"modelrunnerd may still be on Ada's iPhone: delete"):
        device.cleanup()
    (mac.root / "app").touch()  # the phone responds again
    device.cleanup()
    assert not (mac.root / "app").exists()


@pytest.mark.slow
def test_the_process_of_core_ml_says_why_it_cannot_run_here(mac: Mac, tiny_package: ModelFile) -> None:
    """The real process with the real coremltools: off macOS it loads no model."""
    if platform.system() == "Darwin":
        pytest.skip("this is a Mac")
    with pytest.raises(RunnerError, match=r"^net.mlpackage: Failed to load model"):
        MacDevice.find().run(tiny_package, runs=1, warmup=1)


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("import sys; sys.exit('Abort trap: 6')", RunnerError, "exited with code 1: Abort trap: 6"),
        ("import os; os.abort()", RunnerError, "exited with code -6: no output"),
        ("import time; time.sleep(60)", DeviceTimeoutError, "2 runs did not finish within 0.5 s; Core ML hangs"),
    ],
)
def test_processes_that_leave_no_answer(
    mac: Mac, tiny_package: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str,
    error: type[DeviceError], message: str,
) -> None:  # fmt: skip
    python = mac.write("bin/python", f'#!/bin/sh\nexec {sys.executable} -c "{script}"\n')
    python.chmod(0o755)
    info = MacDevice.find().info()
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(error, match=message):
        MacDevice(info, run_s=0.5 if error is DeviceTimeoutError else PATIENCE_S).run(tiny_package, runs=1, warmup=1)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 4}, "threads cannot be 4; expected 1, as Core ML chooses the number of threads itself"),
        ({"runs": 0}, "runs cannot be 0"),
        ({"warmup": 0}, "warmup cannot be 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    mac: Mac, tiny_package: ModelFile, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        MacDevice.find().run(tiny_package, **settings)


def test_files_that_core_ml_does_not_run_are_refused(mac: Mac, tiny_package: ModelFile, tmp_path: Path) -> None:
    other = tmp_path / "net.pte"
    other.touch()
    with pytest.raises(InputError, match=r"net\.pte: not an \.mlpackage folder, as Core ML requires; convert"):
        MacDevice.find().push(replace(tiny_package, path=other))
    MacDevice.find().push(tiny_package)


def test_unknown_compute_units(mac: Mac) -> None:
    with pytest.raises(InputError, match="compute_units cannot be 'cpu_and_npu'; did you mean 'cpu_and_"):
        MacDevice.find(compute_units="cpu_and_npu")
    with pytest.raises(InputError, match="expected one of cpu, cpu_and_gpu, cpu_and_ne, all"):
        MacDevice.find(compute_units="42")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Note: No thermal warning level has been recorded\nNote: No performance warning level has been recorded\n", 0),
        ("CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 100\n", 0),
        ("\tCPU_Scheduler_Limit \t= 80\n\tCPU_Speed_Limit \t= 100\n", 1),
        ("Thermal Warning Level = 5\n", 1),
        ("Thermal Warning Level = 0\n", 0),
        ("Error: Failed to get thermal warning level with error code 0x1\n", None),
        ("", None),
    ],
)
def test_warmth_of_a_mac(text: str, status: int | None) -> None:
    assert parse_thermal(text) == status
