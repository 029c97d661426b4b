"""Ctrl-C, SIGTERM and a closed terminal end every long command, tidily and with the right exit code."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, get_ident
from typing import Any

import pytest

from fbnet_zoo import interruption, programs
from fbnet_zoo.benchmarks import zoo_report
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import save
from tests.helpers.paths import TINY
from tests.helpers.phone import Phone, Plug
from tests.helpers.programs import LONGEST_S, Program, command
from tests.helpers.search_spaces import NANO

pytestmark = pytest.mark.skipif(not hasattr(signal, "pidfd_send_signal"), reason="only Linux has these processes")

CODES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated"), signal.SIGHUP: (129, "terminated")}


def work_for_ever(program: Program) -> None:
    """Let the first network that is run take all day."""

    def forward(*_: Any) -> None:
        program.announce()
        time.sleep(24 * 3600)

    FBNet.forward = forward  # type: ignore[method-assign,assignment]  # in a process of its own


def ends(program: Program, number: signal.Signals) -> None:
    """Send a signal, and check what every command promises."""
    program.send(number)
    code, words = CODES[number]
    assert program.end() == code, program.text
    assert program.text.splitlines()[-1].endswith(f"error: {words}"), program.text
    assert "Traceback" not in program.text
    assert list(program.scratch.glob("*fbnet_zoo-*")) == []


@pytest.fixture
def weights(tmp_path: Path, tiny_model: FBNet) -> Path:
    path = tmp_path / "weights.safetensors"
    tiny_model.license = "MIT"
    save(tiny_model, path)
    return path


COMMANDS = {
    "train": "train {tiny} --data digits --out {tmp}/run",
    "eval": "eval {tiny} --data digits --weights {tmp}/weights.safetensors",
    "search": "search --space {tmp}/nano.yaml --data digits --method random --budget 1 --limit macs=45k "
    "--out {tmp}/run --device cpu",
    "convert": "convert {tiny} --weights none --to onnx --out {tmp}/out",
    "deploy": "deploy {tiny} --weights {tmp}/weights.safetensors --target onnx --out {tmp}/out/bundle",
}
IN_EVERY_RUN = {("train", signal.SIGTERM), ("convert", signal.SIGINT)}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(name, number, marks=() if (name, number) in IN_EVERY_RUN else pytest.mark.slow)
        for name in COMMANDS
        for number in CODES
    ],
)
def test_a_command_that_computes(name: str, number: signal.Signals, tmp_path: Path, weights: Path) -> None:
    (tmp_path / "nano.yaml").write_text(NANO)
    words = [word.format(tiny=TINY, tmp=tmp_path) for word in COMMANDS[name].split()]
    program = command(tmp_path, *words, prepare=work_for_ever)
    program.wait_for_work()
    ends(program, number)
    assert not list(tmp_path.glob("out/*"))
    assert not list(tmp_path.rglob(".lock"))


def test_an_interrupted_command_prints_its_object(tmp_path: Path, weights: Path) -> None:
    words = ("eval", TINY, "--data", "digits", "--weights", weights, "--json")
    program = command(tmp_path, *words, prepare=work_for_ever)
    program.wait_for_work()
    ends(program, signal.SIGTERM)
    found, _ = json.JSONDecoder().raw_decode(program.text[program.text.index("{") :])
    assert found == {"error": {"type": "Interrupted", "message": "terminated", "exit_code": 143}}


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    found = []
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def runtimes(pid: int) -> list[int]:
    """Return the processes that measure."""
    return [child for child in descendants(pid) if b"benchmarks.runtimes.run_" in command_line(child)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.onnx
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["run", pytest.param("compare", marks=pytest.mark.slow)])
def test_a_process_on_this_machine(
    name: str, number: signal.Signals, tiny_files: dict[str, ModelFile], tmp_path: Path
) -> None:
    files = [tiny_files["onnx"].path] * (2 if name == "compare" else 1)
    program = command(tmp_path, "bench", name, *files, "--runs", 10**9)
    program.wait_until(lambda: runtimes(program.pid))
    (child,) = runtimes(program.pid)
    ends(program, number)
    assert not is_alive(child)


@pytest.mark.parametrize("number", CODES)
def test_a_program_that_is_just_being_started(number: signal.Signals, tmp_path: Path) -> None:
    """The signal arrives when the program exists, but its starter has not been told yet."""

    def start(program: Program) -> None:
        class Late(subprocess.Popen[bytes]):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                (tmp_path / "pid").write_text(str(self.pid))
                program.announce()
                while not interruption.received():
                    time.sleep(0.01)

        subprocess.Popen = Late  # type: ignore[misc]  # in a process of its own
        with interruption.handled():
            programs.run(["sleep", str(LONGEST_S)], timeout_s=LONGEST_S)

    program = Program(start, tmp_path)
    program.wait_for_work()
    ends(program, number)
    assert not is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.onnx
@pytest.mark.slow
def test_a_table_that_is_measured_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "nano.yaml").write_text(NANO)
    words = ("lut", "measure", "--space", tmp_path / "nano.yaml", "--runtime", "onnxruntime", "--classes", 4)
    program = command(tmp_path, *words, "--validate", 0, "--out", tmp_path / "host.json")
    program.wait_until(lambda: runtimes(program.pid))
    (child,) = runtimes(program.pid)
    ends(program, signal.SIGTERM)
    assert not is_alive(child)
    assert "the same command with --resume continues" in program.text
    assert not (tmp_path / "host.partial" / ".lock").exists()


HANG = 'echo $$ >> "$SANDBOX/hanging"; while :; do sleep 0.05; done'


@pytest.mark.parametrize("number", CODES)
def test_a_phone(number: signal.Signals, phone: Phone, runner: Path, model_file: ModelFile, tmp_path: Path) -> None:
    phone.write("meanwhile", HANG)
    program = measuring(tmp_path, f"android:{phone.serial}", runner, model_file)
    program.wait_until(lambda: phone.lines("hanging"))
    ends(program, number)
    (pid,) = phone.lines("hanging")
    assert not is_alive(int(pid))
    assert phone.files == []


def test_several_phones(plug: Plug, runner: Path, model_file: ModelFile, tmp_path: Path) -> None:
    """Only the main thread sees a signal, but each phone has a thread: one measures, one cools down."""
    busy, warm = plug("busy"), plug("warm")
    busy.write("meanwhile", HANG)
    warm.write("warmth", "500\n")
    program = measuring(tmp_path, "android:all", runner, model_file)
    program.wait_until(lambda: busy.lines("hanging") and any("dumpsys battery" in each for each in warm.services))
    ends(program, signal.SIGTERM)
    (pid,) = busy.lines("hanging")
    assert not is_alive(int(pid))
    assert busy.files == warm.files == []


def measuring(folder: Path, device: str, runner: Path, model: ModelFile) -> Program:
    return command(folder, "bench", "run", model.path, "--device", device, "--runner", runner)


@pytest.mark.onnx
@pytest.mark.coreml
@pytest.mark.executorch
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_conversions_in_other_processes(number: signal.Signals, tmp_path: Path) -> None:
    files = tmp_path / "files"

    def report(_: Program) -> None:
        with interruption.handled():
            sys.exit(zoo_report.main(["--jobs", "2", "--files", str(files), "--out", str(tmp_path / "zoo.jsonl")]))

    program = Program(report, tmp_path)
    program.wait_until(lambda: len(list(files.glob("*/.fbnet_zoo-*"))) == 2)
    children = [child for child in descendants(program.pid) if b"spawn_main" in command_line(child)]
    assert len(children) == 2
    ends(program, number)
    assert not any(map(is_alive, children))
    assert not list(files.glob("*/.fbnet_zoo-*"))


def test_a_library_that_does_not_come_back(tmp_path: Path) -> None:
    """No exception can be raised in C code; where one is raised before it, this library swallows it."""

    def compute(program: Program) -> None:
        interruption.GRACE_S = 0.2
        with interruption.handled():
            with suppress(KeyboardInterrupt):
                program.announce()
                hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

    program = Program(compute, tmp_path)
    program.wait_for_work()
    program.send(signal.SIGTERM)
    assert program.end() == 143
    assert program.text == "error: terminated; cleanup took too long, so the next run has to do it\n"


def test_a_signal_that_another_thread_receives(tmp_path: Path) -> None:
    """The wait of the main thread does not end with it."""

    def wait(_: Program) -> None:
        with interruption.handled():
            Thread(target=lambda: signal.pthread_kill(get_ident(), signal.SIGTERM)).start()
            Event().wait()

    program = Program(wait, tmp_path)
    assert program.end() == 143
    assert program.text == "error: terminated\n"


def test_a_second_signal_does_not_disturb_the_cleanup(tmp_path: Path) -> None:
    def tidy(program: Program) -> None:
        with interruption.handled():
            try:
                program.announce()
                time.sleep(LONGEST_S)
            finally:
                program.announce()
                for _ in range(20):
                    time.sleep(0.01)
                (tmp_path / "tidy").touch()

    program = Program(tidy, tmp_path)
    program.wait_for_work()
    program.send(signal.SIGINT)
    program.wait_for_work()
    program.send(signal.SIGINT)
    program.send(signal.SIGTERM)
    ends(program, signal.SIGINT)
    assert (tmp_path / "tidy").exists()


def test_a_library_that_swallows_the_interruption(tmp_path: Path) -> None:
    def swallow(program: Program) -> None:
        with interruption.handled():
            try:
                program.announce()
                time.sleep(LONGEST_S)
            except BaseException as error:
                raise RuntimeError("something else") from error

    program = Program(swallow, tmp_path)
    program.wait_for_work()
    ends(program, signal.SIGTERM)


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    def under_nohup(program: Program) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interruption.handled():
            program.announce()
            time.sleep(LONGEST_S)

    program = Program(under_nohup, tmp_path)
    program.wait_for_work()
    program.send(signal.SIGHUP)
    ends(program, signal.SIGTERM)


def test_processes_that_read_images_leave_the_decision_to_their_parent(tmp_path: Path) -> None:
    """A forked process neither wakes the parent's watch nor raises: it ends when it is terminated."""

    def fork(program: Program) -> None:
        interruption.GRACE_S = 0.2
        with interruption.handled():
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(LONGEST_S)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
            time.sleep(3 * interruption.GRACE_S)

    assert Program(fork, tmp_path).end() == 0
