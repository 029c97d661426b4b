"""One process of `executor_runner` on an Android device: started, waited for, read, stopped."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.runtimes.executor_runner import LOG_TAG, RunnerOutput, command, has_log, parse
from fbnet_zoo.errors import DeviceTimeoutError, InputError, RunnerError

RUNNER_VARIABLE = "FBNET_ZOO_RUNNER"
FOLDER = "/data/local/tmp/fbnet_zoo"
"""Everything that is put on a device; emptied at the start too, since an unplugged device could not be tidied."""

RUNNER = f"{FOLDER}/executor_runner"
TRACE = f"{FOLDER}/trace.etdp"
_PID = f"{FOLDER}/pid"

STOP = f'p=$(cat {_PID} 2>/dev/null); [ -n "$p" ] && grep -q {FOLDER} "/proc/$p/cmdline" 2>/dev/null && kill -9 "$p"'
"""Stops what still runs. A process number may long be somebody else's: our folder must be in its command line."""

_FORCE_IDLE = (
    'idle=; [ "$(dumpsys deviceidle get force 2>/dev/null)" = false ] '
    "&& dumpsys deviceidle force-idle >/dev/null && idle=1"
)
_UNFORCE_IDLE = '[ -z "$idle" ] || dumpsys deviceidle unforce >/dev/null'
"""The system's own work waits meanwhile; left alone where it is forced to wait already, or knows no such thing."""

_WATCH = (
    "while status=$(cat /proc/$!/status 2>/dev/null); do case $status in "
    "*executor_runner*VmHWM*) last=$status;; *VmHWM*) ;; *) break;; esac; sleep 0.02; done"
)
"""Keeps what the system said last of the process: before it is the runner it is a shell, after its end no memory is
told. An old `sleep` that takes no fractions fails, and the loop turns faster."""

_ABI_OF_MACHINE = {0x03: "x86", 0x28: "armeabi-v7a", 0x3E: "x86_64", 0xB7: "arm64-v8a", 0xF3: "riscv64"}


def find_runner(path: Path | None = None) -> Path:
    """Return the runner to put on the device: the given one, or that which `FBNET_ZOO_RUNNER` names.

    Raises:
        InputError: there is none.
    """
    name = path or os.environ.get(RUNNER_VARIABLE)
    if not name:
        raise InputError(
            f"name the executor_runner of ExecuTorch that is built for the device: as runner, or in {RUNNER_VARIABLE}"
        )
    if not Path(name).is_file():
        raise InputError(f"{name}: there is no such executor_runner")
    return Path(name)


def elf_abi(path: Path) -> str | None:
    """Return the ABI that a program is built for, as Android calls it; `None` if it is no ELF file or of another.

    Source: the ELF header's `EI_DATA` and `e_machine` (System V ABI, chapter 4).
    """
    with path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(b"\x7fELF") or len(header) < 20:  # up to and with e_machine
        return None
    little_endian = header[5] == 1
    return _ABI_OF_MACHINE.get(int.from_bytes(header[18:20], "little" if little_endian else "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run on a device.

    Attributes:
        name: of the model, for errors.
        model: its path on the device.
        inputs: paths of its input tensors there.
        threads: how many may work.
        mask: of the cores to use, hexadecimal; all if not given.
        trace: path of the trace to write there.
    """

    name: str
    model: str
    inputs: Sequence[str]
    threads: int
    mask: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What `time_runs` found, ms; the fields are those of `Measurement`."""

    load_ms: float | None
    first_ms: float | None
    warmup_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]
    runs_per_sample: int
    traced: bool


def time_runs(link: Link, job: Job, *, runs: int, warmup: int, timeout_s: float) -> Timing:
    """Time a model in a process of its own; in two, where the runner tells only totals.

    Raises:
        RunnerError: the runner failed.
        DeviceTimeoutError: it did not end in time; `STOP` stops it.
        DeviceLostError: the link broke and did not come back, or broke again.
    """
    told = execute(link, job, executions=warmup + runs, timeout_s=timeout_s)
    traced = told.trace is not None
    if told.iterations_ms:
        return Timing(
            load_ms=told.load_ms,
            first_ms=told.iterations_ms[0],
            warmup_ms=told.iterations_ms[:warmup],
            samples_ms=told.iterations_ms[warmup:],
            runs_per_sample=1,
            traced=traced,
        )
    cold = execute(link, job, executions=warmup, timeout_s=timeout_s)
    mean = (told.total_ms - cold.total_ms) / runs
    if mean <= 0:
        raise RunnerError(
            f"{link.serial}: {job.name}: {warmup + runs} runs took no longer than {warmup}, so nothing can be said; "
            "ask for more runs, or use a runner of ExecuTorch 1.3 or newer, which times each"
        )
    return Timing(
        load_ms=told.load_ms, first_ms=None, warmup_ms=(), samples_ms=(mean,), runs_per_sample=runs, traced=traced
    )


def execute(link: Link, job: Job, *, executions: int, timeout_s: float) -> RunnerOutput:
    """Run a model, after stopping what a broken link may have left running, and read what the runner says.

    Raises:
        RunnerError: the runner failed.
        DeviceTimeoutError: it did not end in time; `STOP` stops it.
        DeviceLostError: the link broke and did not come back, or broke again.
    """
    line = command(RUNNER, job.model, executions=executions, threads=job.threads, inputs=job.inputs, trace=job.trace)
    try:
        start = f"cd {FOLDER} || exit; {_FORCE_IDLE}; {_start(line, job.mask)}"
        reply = link.shell(f"{start}; wait $!; code=$?; {_UNFORCE_IDLE}; exit $code", timeout_s=timeout_s)
    except DeviceTimeoutError as error:
        raise DeviceTimeoutError(
            f"{link.serial}: {job.name}: {executions} runs did not end within {timeout_s:g} s; "
            "the device hangs, or needs a higher limit"
        ) from error
    pid, text = _split_pid(reply.text)
    try:
        told = parse(text if has_log(text) else f"{text}\n{_logcat(link, pid)}", reply.exit_code)
        if told.executions != executions:
            raise RunnerError(f"the runner tells of {told.executions} runs where {executions} were asked for")
    except RunnerError as error:
        raise type(error)(f"{link.serial}: {job.name}: {error}") from error
    return told


def peak_memory_mb(link: Link, job: Job, *, executions: int, timeout_s: float) -> float | None:
    """Return the largest resident memory of a process that runs a model, 2^20 bytes; `None` if it ended unseen.

    Looking at a process takes time from it, so this is a process whose times are not used.

    Raises:
        RunnerError: the runner failed.
        DeviceTimeoutError: it did not end in time; `STOP` stops it.
        DeviceLostError: the link broke and did not come back, or broke again.
    """
    line = command(RUNNER, job.model, executions=executions, threads=job.threads, inputs=job.inputs)
    start = _start(line, job.mask, ">/dev/null 2>&1")
    reply = link.shell(
        f'cd {FOLDER} || exit; last=; {start}; {_WATCH}; wait $!; code=$?; echo "$last"; exit $code',
        timeout_s=timeout_s,
    )
    if reply.exit_code:
        raise RunnerError(f"{link.serial}: {job.name}: exit code {reply.exit_code} where memory was measured")
    found = re.search(r"^VmHWM:\s*(\d+) kB", reply.text, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def _start(line: Sequence[str], mask: str | None, redirection: str = "") -> str:
    """Return what starts a runner beside the shell, which stops it when the link breaks."""
    pinned = ["taskset", mask, *line] if mask else line
    process = f"echo $$ > {_PID}; echo pid=$$; exec {' '.join(map(quote, pinned))}"
    return f"{STOP}; sh -c {quote(process)} {redirection} & trap 'kill -9 $!' HUP"


def _split_pid(text: str) -> tuple[str, str]:
    found = re.search(r"^pid=(\d+)\n", text, re.MULTILINE)
    return (found[1], text[: found.start()] + text[found.end() :]) if found else ("", text)


def _logcat(link: Link, pid: str) -> str:
    """Return what the process wrote to the system's log, where Android builds of the runner write."""
    reply = link.shell(f"logcat -d -v brief -s {LOG_TAG}:V")
    return "\n".join(line for line in reply.text.splitlines() if re.match(rf"./{LOG_TAG} *\( *{pid}\):", line))
