"""A process of `executor_runner` on an Android device: starting and stopping it, and reading its output."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.linux import memory_mb
from fbnet_zoo.benchmarks.runtimes.executor_runner import LOG_TAG, RunnerOutput, command, has_log, parse
from fbnet_zoo.errors import DeviceTimeoutError, InputError, RunnerError

RUNNER_VARIABLE = "FBNET_ZOO_RUNNER"
FOLDER = "/data/local/tmp/fbnet_zoo"
"""Folder of all files on a device; also emptied at the start, in case the device was unplugged before cleanup."""

RUNNER = f"{FOLDER}/executor_runner"
TRACE = f"{FOLDER}/trace.etdp"
_PID = f"{FOLDER}/pid"

STOP = f'p=$(cat {_PID} 2>/dev/null); [ -n "$p" ] && grep -q {FOLDER} "/proc/$p/cmdline" 2>/dev/null && kill -9 "$p"'
"""Kills a leftover runner. The PID may have been reused, so our folder must be in its command line."""

_FORCE_IDLE = (
    'idle=; [ "$(dumpsys deviceidle get force 2>/dev/null)" = false ] '
    "&& dumpsys deviceidle force-idle >/dev/null && idle=1"
)
_UNFORCE_IDLE = '[ -z "$idle" ] || dumpsys deviceidle unforce >/dev/null'
"""Defers the system's background work during a run; skipped if it is deferred already, or not supported."""

_WATCH = (
    "while status=$(cat /proc/$!/status 2>/dev/null); do case $status in "
    "*executor_runner*VmHWM*) last=$status;; *VmHWM*) ;; *) break;; esac; sleep 0.02; done"
)
"""Keeps the last status of the runner: before `exec` the process is a shell, after its exit it reports no memory.
An old `sleep` without fractions fails, and the loop polls faster."""

_ABI_OF_MACHINE = {0x03: "x86", 0x28: "armeabi-v7a", 0x3E: "x86_64", 0xB7: "arm64-v8a", 0xF3: "riscv64"}


def find_runner(path: Path | None = None) -> Path:
    """Return the path of the runner (default: `FBNET_ZOO_RUNNER`).

    Raises:
        InputError: no runner is given, or it does not exist.
    """
    name = path or os.environ.get(RUNNER_VARIABLE)
    if not name:
        raise InputError(
            f"an executor_runner of ExecuTorch, built for the device, is required; pass it as runner or set "
            f"{RUNNER_VARIABLE}"
        )
    if not Path(name).is_file():
        raise InputError(f"{name}: no such file; expected an executor_runner")
    return Path(name)


def elf_abi(path: Path) -> str | None:
    """Return Android's name of the ABI that a program is built for; `None` if unknown or not an ELF file.

    Source: the ELF header's `EI_DATA` and `e_machine` (System V ABI, chapter 4).
    """
    with path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(b"\x7fELF") or len(header) < 20:  # up to and including e_machine
        return None
    little_endian = header[5] == 1
    return _ABI_OF_MACHINE.get(int.from_bytes(header[18:20], "little" if little_endian else "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AndroidRun:
    """A run of a model on a device; all paths are on the device.

    Attributes:
        name: model name, for errors.
        model: path of the model.
        inputs: paths of the input tensors.
        threads: number of threads.
        mask: hexadecimal mask of the cores to use (default: all).
        trace: path of the trace to write (default: no trace).
    """

    name: str
    model: str
    inputs: Sequence[str]
    threads: int
    mask: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Result of `time_runs`; the fields are those of `Measurement`, and `traced` if the runner has a tracer."""

    load_ms: float | None
    first_ms: float | None
    warmup_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]
    runs_per_sample: int
    traced: bool


def time_runs(link: Link, job: AndroidRun, *, runs: int, warmup: int, timeout_s: float) -> RunTimes:
    """Time a model in its own process, or in two if the runner reports only totals.

    Raises:
        RunnerError: the runner failed.
        DeviceTimeoutError: the runner did not finish in time; `STOP` stops it.
        DeviceLostError: the connection broke and could not be restored, or broke twice.
    """
    output = execute(link, job, executions=warmup + runs, timeout_s=timeout_s)
    traced = output.trace is not None
    if output.iterations_ms:
        return RunTimes(
            load_ms=output.load_ms,
            first_ms=output.iterations_ms[0],
            warmup_ms=output.iterations_ms[:warmup],
            samples_ms=output.iterations_ms[warmup:],
            runs_per_sample=1,
            traced=traced,
        )
    cold = execute(link, job, executions=warmup, timeout_s=timeout_s)
    mean = (output.total_ms - cold.total_ms) / runs
    if mean <= 0:
        raise RunnerError(
            f"{link.serial}: {job.name}: {warmup + runs} runs took no longer than {warmup}, so a run cannot be timed; "
            "use more runs, or a runner of ExecuTorch 1.3 or newer, which times each run"
        )
    return RunTimes(
        load_ms=output.load_ms, first_ms=None, warmup_ms=(), samples_ms=(mean,), runs_per_sample=runs, traced=traced
    )


def execute(link: Link, job: AndroidRun, *, executions: int, timeout_s: float, meanwhile: str = ":") -> RunnerOutput:
    """Run a model and return the parsed output; a runner left by a broken connection is stopped first.

    Args:
        link: connection to the device.
        job: the run.
        executions: number of runs.
        timeout_s: time limit, seconds.
        meanwhile: shell command that ends when the process `$!`, the runner, does.

    Raises:
        RunnerError: the runner failed.
        DeviceTimeoutError: the runner did not finish in time; `STOP` stops it.
        DeviceLostError: the connection broke and could not be restored, or broke twice.
    """
    line = command(RUNNER, job.model, executions=executions, threads=job.threads, inputs=job.inputs, trace=job.trace)
    try:
        start = f"cd {FOLDER} || exit; {_FORCE_IDLE}; {_start(line, job.mask)}"
        reply = link.shell(f"{start}; {meanwhile}; wait $!; code=$?; {_UNFORCE_IDLE}; exit $code", timeout_s=timeout_s)
    except DeviceTimeoutError as error:
        raise DeviceTimeoutError(
            f"{link.serial}: {job.name}: {executions} runs did not finish within {timeout_s:g} s; "
            "the device hangs, or the limit is too low"
        ) from error
    pid, text = _split_pid(reply.text)
    try:
        output = parse(text if has_log(text) else f"{text}\n{_logcat(link, pid)}", reply.exit_code)
        if output.executions != executions:
            raise RunnerError(f"the runner reports {output.executions} runs, expected {executions}")
    except RunnerError as error:
        raise type(error)(f"{link.serial}: {job.name}: {error}") from error
    return output


def pause(link: Link, *, seconds: float, timeout_s: float, meanwhile: str) -> None:
    """Leave a device as idle as during a run; `meanwhile` ends when the process `$!` does, after so many seconds.

    Raises:
        DeviceTimeoutError: the device did not respond in time.
        DeviceLostError: the connection broke and could not be restored, or broke twice.
    """
    start = f"cd {FOLDER} || exit; {_FORCE_IDLE}; sleep {seconds:g} & trap 'kill -9 $!' HUP"
    link.shell(f"{start}; {meanwhile}; wait $!; {_UNFORCE_IDLE}", timeout_s=seconds + timeout_s)


def peak_memory_mb(link: Link, job: AndroidRun, *, executions: int, timeout_s: float) -> float | None:
    """Return the peak resident memory of a process that runs a model, 2^20 bytes; `None` if it exited unobserved.

    Polling slows the process down, so its times are not used.

    Raises:
        RunnerError: the runner failed.
        DeviceTimeoutError: the runner did not finish in time; `STOP` stops it.
        DeviceLostError: the connection broke and could not be restored, or broke twice.
    """
    line = command(RUNNER, job.model, executions=executions, threads=job.threads, inputs=job.inputs)
    start = _start(line, job.mask, ">/dev/null 2>&1")
    reply = link.shell(
        f'cd {FOLDER} || exit; last=; {start}; {_WATCH}; wait $!; code=$?; echo "$last"; exit $code',
        timeout_s=timeout_s,
    )
    if reply.exit_code:
        raise RunnerError(f"{link.serial}: {job.name}: exit code {reply.exit_code} while memory was measured")
    return memory_mb(reply.text.replace("\t", " "), "VmHWM")


def _start(line: Sequence[str], mask: str | None, redirection: str = "") -> str:
    """Return the command that starts a runner in the background; the shell kills it if the connection breaks."""
    pinned = ["taskset", mask, *line] if mask else line
    process = f"echo $$ > {_PID}; echo pid=$$; exec {' '.join(map(quote, pinned))}"
    return f"{STOP}; sh -c {quote(process)} {redirection} & trap 'kill -9 $!' HUP"


def _split_pid(text: str) -> tuple[str, str]:
    found = re.search(r"^pid=(\d+)\n", text, re.MULTILINE)
    return (found[1], text[: found.start()] + text[found.end() :]) if found else ("", text)


def _logcat(link: Link, pid: str) -> str:
    """Return the process's lines in the system log, where Android builds of the runner write."""
    reply = link.shell(f"logcat -d -v brief -s {LOG_TAG}:V")
    return "\n".join(line for line in reply.text.splitlines() if re.match(rf"./{LOG_TAG} *\( *{pid}\):", line))
