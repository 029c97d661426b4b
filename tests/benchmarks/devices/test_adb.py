"""The link to a device, through the real adb client and server, to a device daemon of our own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.command import Output, run_program
from fbnet_zoo.errors import (
    DeviceError,
    DeviceLostError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnavailableError,
)
from tests.helpers.adb_daemon import Fault
from tests.helpers.phone import Phone, Plug, adb
from tests.helpers.surroundings import PATIENCE_S

TMP, FOR_EVER = "/data/local/tmp", "sleep 3600"


@pytest.fixture
def link(any_phone: Phone) -> Link:
    return Link(Server(), any_phone.serial, reconnect_s=PATIENCE_S)


def test_commands_return_what_they_print_and_their_exit_code(link: Link) -> None:
    reply = link.shell("echo out; echo err >&2; exit 7")
    assert reply.exit_code == 7
    assert reply.text.splitlines() == ["out", "err"]
    assert link.shell("true").text == ""
    assert link.shell("printf 'no end of line'").text == "no end of line"
    assert link.shell("echo \"it's\" '$HOME'").text == "it's $HOME\n"


def test_long_outputs_arrive_whole(link: Link) -> None:
    assert link.shell("seq 100000").text.split() == [str(number) for number in range(1, 100001)]


def test_bytes_that_are_no_text_do_not_stop_a_reply(link: Link) -> None:
    assert link.shell("printf '\\377\\376 raw'").text.endswith(" raw")


def test_pushed_files_are_those_of_here(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "with a space.bin"
    local.write_bytes(os.urandom(1_000_003))
    link.push(local, f"{TMP}/new/folder/it's.bin")
    assert any_phone.path(f"{TMP}/new/folder/it's.bin").read_bytes() == local.read_bytes()
    link.pull(f"{TMP}/new/folder/it's.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == local.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == ["back.bin", "with a space.bin"]


def test_empty_files_can_be_pushed(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    link.push(tmp_path / "empty", f"{TMP}/empty")
    assert any_phone.path(f"{TMP}/empty").read_bytes() == b""


def test_what_arrives_damaged_is_refused_and_removed(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "model.pte"
    local.write_bytes(b"weights")
    any_phone.faults.append(Fault(kind="corrupt", service="push:.*model.pte"))
    with pytest.raises(DeviceStorageError, match=r"model\.pte was damaged in transfer") as caught:
        link.push(local, f"{TMP}/model.pte")
    assert sha256(b"weights").hexdigest() in str(caught.value)
    assert any_phone.files == []
    link.push(local, f"{TMP}/model.pte")
    assert any_phone.files == ["model.pte"]


def test_a_full_device_says_so_and_keeps_nothing(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "model.pte"
    local.write_bytes(bytes(300_000))
    any_phone.faults.append(Fault(kind="full", service="push:", after=100_000))
    with pytest.raises(DeviceStorageError, match=r"cannot store model.pte: .*No space left on device; free some space"):
        link.push(local, f"{TMP}/model.pte")
    assert any_phone.files == []


def test_a_folder_that_cannot_be_made_is_an_error(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    any_phone.path(f"{TMP}/taken").write_text("a file")
    local = tmp_path / "model.pte"
    local.touch()
    with pytest.raises(DeviceStorageError, match=f"cannot create {TMP}/taken/below"):
        link.push(local, f"{TMP}/taken/below/model.pte")


def test_pulling_what_is_not_there_is_an_error(link: Link, tmp_path: Path) -> None:
    with pytest.raises(DeviceStorageError, match=f"{TMP}/nothing does not exist"):
        link.pull(f"{TMP}/nothing", tmp_path / "nothing")
    assert not list(tmp_path.glob("*nothing*"))


def test_devices_without_sha256sum_cannot_be_trusted_with_files(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    any_phone.write("bin/sha256sum", "#!/bin/sh\necho 'sha256sum: not found'; exit 127\n").chmod(0o755)
    local = tmp_path / "model.pte"
    local.touch()
    with pytest.raises(DeviceStorageError, match=r"cannot verify files: sha256sum.* printed 'sha256sum: not found'"):
        link.push(local, f"{TMP}/model.pte")


def test_adb_hides_broken_links_and_the_end_mark_shows_them(phone: Phone) -> None:
    """Why there is an end mark: adb itself ends with 0."""
    arrived = phone.root / "arrived"
    phone.faults.append(Fault(kind="drop", service="echo begin", until=arrived))
    line = ["adb", "-s", phone.serial, "shell", f"echo begin; {FOR_EVER}; echo end"]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"begin\n"
        arrived.touch()
        assert client.stdout.read() == b""
    assert client.returncode == 0


@pytest.mark.parametrize("begun", [False, True])
def test_a_link_that_breaks_once_is_restored(link: Link, any_phone: Phone, begun: bool) -> None:
    mark = any_phone.path(f"{TMP}/begun")
    any_phone.faults.append(Fault(kind="drop", service="shell.*echo begin", until=mark if begun else None))
    hang = f"[ -e {TMP}/begun ] || {{ touch {TMP}/begun; {FOR_EVER}; }}" if begun else "true"
    assert link.shell(f"echo begin; {hang}; echo end").text == "begin\nend\n"
    assert sum("echo begin" in service for service in any_phone.services) == 2


def test_a_link_that_breaks_twice_is_lost(link: Link, any_phone: Phone) -> None:
    any_phone.faults.append(Fault(kind="drop", service="echo begin", after=0.2, times=2))
    with pytest.raises(DeviceLostError, match=f"{any_phone.serial}: connection broken twice"):
        link.shell(f"echo begin; {FOR_EVER}")


def test_pushes_survive_one_broken_link(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "model.pte"
    local.write_bytes(os.urandom(500_000))
    any_phone.faults.append(Fault(kind="drop", service="^sync:"))
    link.push(local, f"{TMP}/model.pte")
    assert any_phone.path(f"{TMP}/model.pte").read_bytes() == local.read_bytes()


def test_pushes_that_do_not_arrive_are_repeated(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "model.pte"
    local.write_bytes(b"weights")
    any_phone.faults.append(Fault(kind="lose", service="push:"))
    link.push(local, f"{TMP}/model.pte")
    assert any_phone.path(f"{TMP}/model.pte").read_bytes() == b"weights"
    any_phone.faults.append(Fault(kind="lose", service="push:", times=2))
    with pytest.raises(DeviceLostError, match=r"connection broken twice \(/data/local/tmp/other did not arrive\)"):
        link.push(local, f"{TMP}/other")


def test_pulls_survive_one_broken_link_and_no_damage(link: Link, any_phone: Phone, tmp_path: Path) -> None:
    any_phone.path(f"{TMP}/trace").write_bytes(b"events" * 1000)
    any_phone.faults.append(Fault(kind="drop", service="^sync:"))
    link.pull(f"{TMP}/trace", tmp_path / "trace")
    assert (tmp_path / "trace").read_bytes() == b"events" * 1000
    any_phone.faults.append(Fault(kind="corrupt", service="pull:"))
    with pytest.raises(DeviceStorageError, match="/data/local/tmp/trace was damaged in transfer"):
        link.pull(f"{TMP}/trace", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phone", "trace"]


def test_an_unplugged_device_is_lost(phone: Phone) -> None:
    link = Link(Server(), phone.serial, reconnect_s=0.5)
    phone.faults.append(Fault(kind="unplug", service="echo begin", after=0.2))
    with pytest.raises(
        DeviceLostError, match=r"connection broken .* not restored within 0.5 s: the device is .*; reconnect it"
    ):
        link.shell(f"echo begin; {FOR_EVER}")


def test_slow_devices_are_waited_for(link: Link, any_phone: Phone) -> None:
    any_phone.faults.append(Fault(kind="slow", service="echo late", after=0.5))
    assert link.shell("echo late").text == "late\n"


def test_commands_that_hang_are_given_up(link: Link) -> None:
    with pytest.raises(DeviceTimeoutError, match=r"did not finish within 0.3 s: adb -s 127.0.0.1:\d+ shell"):
        link.shell("sleep 20", timeout_s=0.3)


def test_no_adb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceUnavailableError, match=r"adb cannot be started \(No such file.*platform-tools"):
        Server().states()


def test_adb_whose_server_does_not_start() -> None:
    def broken(command: Sequence[str], timeout_s: float) -> Output:
        return Output(exit_code=1, stdout=b"", stderr=b"error: cannot connect to daemon")

    with pytest.raises(DeviceUnavailableError, match="server does not respond: error: cannot connect to daemon"):
        Server(run=broken).states()


@pytest.mark.usefixtures("adb_server")
def test_no_device() -> None:
    with pytest.raises(DeviceUnavailableError, match="no device is connected; connect a phone"):
        Server().pick()


def test_a_serial_that_is_not_there(phone: Phone) -> None:
    with pytest.raises(DeviceUnavailableError, match=f"R58M is not connected; found {phone.serial}"):
        Server().pick("R58M")


def test_one_device_needs_no_serial(phone: Phone) -> None:
    assert Server().pick() == phone.serial


def test_two_devices_need_one(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = plug("first"), plug("second")
    with pytest.raises(DeviceUnavailableError, match="several devices are connected; choose one of") as caught:
        Server().pick()
    assert first.serial in str(caught.value)
    assert second.serial in str(caught.value)
    assert Server().pick(first.serial) == first.serial
    monkeypatch.setenv("ANDROID_SERIAL", second.serial)
    assert Server().pick() == second.serial


def test_an_unauthorized_device(plug: Plug) -> None:
    phone = plug(access="unauthorized")
    with pytest.raises(DeviceUnavailableError, match=rf"{phone.serial} is not ready .*'unauthorized'.*: unlock"):
        Server().pick()
    with pytest.raises(DeviceUnavailableError, match="unauthorized"):
        Link(Server(), phone.serial).check()


def test_an_offline_device(plug: Plug) -> None:
    phone = plug(access="silent")
    with pytest.raises(DeviceUnavailableError, match=r"is not ready \(state 'offline'\): unplug"):
        Server().pick(phone.serial)


def test_states_are_read_as_adb_words_them() -> None:
    text = (
        "List of devices attached\nA1\tdevice\nemulator-5554\toffline\n"
        "B2\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com]\n"
        "C3\trecovery\n\n"
    )
    server = Server(run=lambda command, timeout_s: Output(exit_code=0, stdout=text.encode(), stderr=b""))
    assert list(server.states()) == ["A1", "emulator-5554", "B2", "C3"]
    assert server.pick("A1") == "A1"
    for serial, cure in (
        ("B2", "udev rules"),
        ("C3", "boot it into Android"),
        ("emulator-5554", "unplug and reconnect it"),
    ):
        with pytest.raises(DeviceUnavailableError, match=cure):
            server.pick(serial)


def test_devices_on_usb_are_reconnected_by_kicking_them() -> None:
    """No USB device can be had here: what adb is asked is compared instead."""
    asked: list[list[str]] = []

    def usb(command: Sequence[str], timeout_s: float) -> Output:
        asked.append(list(command[1:]))
        return Output(exit_code=0, stdout=b"A1\tdevice\n" if command[1] == "devices" else b"", stderr=b"closed")

    with pytest.raises(DeviceLostError, match=r"A1: connection broken twice \(closed\)"):
        Link(Server(run=usb), "A1").shell("true")
    assert ["-s", "A1", "reconnect"] in asked


@pytest.mark.usefixtures("adb_server")
def test_versions_are_known() -> None:
    version = Server().version()
    assert f"Version {version}" in adb("version")


def test_programs_that_do_not_end_are_stopped() -> None:
    with pytest.raises(TimeoutError, match=r"not finished within 0.2 s"):
        run_program([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)


def test_every_failure_is_a_device_error() -> None:
    assert {DeviceLostError, DeviceStorageError, DeviceTimeoutError, DeviceUnavailableError} <= set(
        DeviceError.__subclasses__()
    )
