"""ExecuTorch's `executor_runner`: its command line and its log.

It logs to stderr or, in Android builds, to logcat; lines are recognized by their message, wherever they appear.
Verified with ExecuTorch 1.4.1; before 1.3.0 it reports only the total time of all runs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fbnet_zoo.errors import (
    MissingBackendError,
    MissingKernelError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)

LOG_TAG = "ExecuTorch"
"""Tag of its lines in Android's log."""

_STDERR = re.compile(r"(?P<level>[DIEF]) \d\d:\d\d:\d\d\.\d+ \S+?:\S+?:\d+\] (?P<message>.*)")
_LOGCAT_BRIEF = re.compile(rf"(?:[\d-]+ [\d:.]+ +)?(?P<level>[VDIWEF])/{LOG_TAG} *(?:\( *\d+\))?: (?P<message>.*)")
_LOGCAT_TIMES = re.compile(rf"[\d-]+ [\d:.]+ +(?:\S+ +)?\d+ +\d+ (?P<level>[VDIWEF]) {LOG_TAG} *: (?P<message>.*)")
_COUNT, _MS = r"([0-9]{1,9})", r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_LOADED = re.compile(rf"Model loaded in {_MS} ms")
_ITERATION = re.compile(rf"Iteration {_COUNT} of {_COUNT}: {_MS} ms")
_EXECUTED = re.compile(rf"Model executed successfully {_COUNT} time\(s\) in {_MS} ms")
_TRACE = re.compile(r"ETDump written to file '(.+)'")
_CODE = re.compile(r"0x([0-9a-fA-F]+)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOutput:
    """Result of one process.

    Attributes:
        load_ms: time to load the model; `None` if the runner does not report it.
        iterations_ms: time of every run, including the first; empty if the runner reports only the total.
        executions: number of runs.
        total_ms: total time of all runs.
        trace: path of the trace, if the runner has a tracer.
    """

    load_ms: float | None
    iterations_ms: tuple[float, ...]
    executions: int
    total_ms: float
    trace: str | None


@dataclass(frozen=True, slots=True)
class _LogLine:
    level: str
    message: str


def command(
    program: str,
    model: str,
    *,
    executions: int,
    threads: int,
    inputs: Sequence[str] = (),
    trace: str | None = None,
) -> list[str]:
    """Return the command line that runs a model.

    Args:
        program: path of the runner.
        model: path of the `.pte` file.
        executions: number of runs, including the warm-up, which the runner does not distinguish.
        threads: number of threads; the runner's default may be 0, which means all cores.
        inputs: paths of the input tensors, raw bytes (default: tensors of ones).
        trace: path of the trace to write (default: none); ignored by a runner without a tracer.
    """
    options = {
        "model_path": model,
        "num_executions": str(executions),
        "cpu_threads": str(threads),
        "print_output": "none",
        "undefok": "print_output,etdump_path",
    }
    if inputs:
        options["inputs"] = ",".join(inputs)
    if trace:
        options["etdump_path"] = trace
    return [program, *(f"--{name}={value}" for name, value in options.items())]


def has_log(text: str) -> bool:
    """Return whether a text contains a line of the runner's log.

    >>> has_log("I 00:00:00.000647 executorch:executor_runner.cpp:624] Model loaded in 9.1 ms.")
    True
    >>> has_log("OutputX 0: tensor(sizes=[1, 10], ...)")
    False
    """
    return any(line.level for line in _lines(text))


def parse(text: str, exit_code: int) -> RunnerOutput:
    """Parse the output of a process.

    Args:
        text: output and log, from stderr or logcat, possibly mixed with other lines.
        exit_code: exit code, as reported by a shell.

    Raises:
        RunnerError: the process failed, or its log is incomplete; the class and the text give the cause.

    >>> parse("I/ExecuTorch( 77): Model executed successfully 2 time(s) in 20.5 ms.", 0).total_ms
    20.5
    """
    lines = _lines(text)
    if exit_code:
        raise _failure(lines, exit_code)
    messages = [line.message for line in lines]
    executed = _last(_EXECUTED, messages)
    if executed is None:
        raise _silent(lines)
    executions, total_ms = int(executed[1]), float(executed[2])
    loaded, trace = _last(_LOADED, messages), _last(_TRACE, messages)
    return RunnerOutput(
        load_ms=float(loaded[1]) if loaded else None,
        iterations_ms=_iterations(messages, executions),
        executions=executions,
        total_ms=total_ms,
        trace=trace[1] if trace else None,
    )


def _lines(text: str) -> list[_LogLine]:
    lines = []
    for raw in text.replace("\r\n", "\n").split("\n"):
        found = _STDERR.search(raw) or _LOGCAT_BRIEF.match(raw) or _LOGCAT_TIMES.match(raw)
        lines.append(_LogLine(found["level"], found["message"]) if found else _LogLine("", raw))
    return lines


def _last(pattern: re.Pattern[str], messages: Sequence[str]) -> re.Match[str] | None:
    return next((found for message in reversed(messages) if (found := pattern.search(message))), None)


def _iterations(messages: Sequence[str], executions: int) -> tuple[float, ...]:
    found = [match for message in messages if (match := _ITERATION.search(message))]
    if found and (len(found) != executions or any(int(match[1]) != at for at, match in enumerate(found, start=1))):
        raise RunnerError(
            f"the log has {len(found)} iteration lines for {executions} runs: lines are lost, or belong to another "
            "program; stop other programs that use ExecuTorch, and enlarge the device's log (adb logcat -G 4M)"
        )
    times = tuple(float(match[3]) for match in found)
    if times and min(times) <= 0:
        raise RunnerError(f"the runner reports that iteration {times.index(min(times)) + 1} took no time")
    return times


def _silent(lines: Sequence[_LogLine]) -> RunnerError:
    if any(line.level for line in lines):
        return RunnerError(f"the runner succeeded but logged no time; its last line is {_end(lines)!r}")
    return RunnerUnusableError(
        "the runner succeeded but logged nothing, so there are no timings; "
        "build it with -DEXECUTORCH_ENABLE_LOGGING=ON and -DEXECUTORCH_LOG_LEVEL=Info"
    )


def _end(lines: Sequence[_LogLine]) -> str:
    return next((line.message for line in reversed(lines) if line.message.strip()), "")


_REBUILD = "build the runner with it, or convert for another backend"
_DAMAGED = "the file is damaged or incomplete; convert it again"
_CAUSES: tuple[tuple[re.Pattern[str], type[RunnerError], str], ...] = tuple(
    (re.compile(pattern), error, text)
    for pattern, error, text in (
        (r"Backend (\w+) is not registered", MissingBackendError, f"the runner lacks the backend {{0}}; {_REBUILD}"),
        (
            r"(?:kernel '|Missing operator: \[\d+\] )([\w:.]+)",
            MissingKernelError,
            "the runner lacks the kernel {0}; build the runner with it, or delegate the operator to a backend",
        ),
        (
            r"Program identifier '(.*)' != expected '(.*)'",
            ModelFileError,
            "the file starts with {0!r}, expected {1!r}; convert it with the runner's version of ExecuTorch",
        ),
        (
            r"Expected file size from extended header is (\d+), actual file size from data loader is (\d+)",
            ModelFileError,
            f"the file has {{1}} bytes, expected {{0}}; {_DAMAGED}",
        ),
        (r"offset \d+ \+ size \d+ > file_size_ (\d+)", ModelFileError, f"the file has only {{0}} bytes; {_DAMAGED}"),
        (
            r"Init failed for backend (\w+): (0x(?:12|23|30))\b",
            ModelFileError,
            f"the backend {{0}} rejects its part of the file ({{1}}); {_DAMAGED} with the version of the runner",
        ),
        (r"Failed to parse model file (.+)", ModelFileError, f"the file cannot be read ({{cause}}); {_DAMAGED}"),
        (r"Failed to open ETDump file at (.+)\.$", RunnerInputError, "the trace cannot be written to {0}"),
        (r"Failed to open input file: (.+)", RunnerInputError, "the input {0} cannot be opened"),
        (r"Failed to open (\S+): (.+) \(\d+\)$", RunnerInputError, "{0} cannot be opened: {1}"),
        (
            r"input size \((\d+)\) and tensor size \((\d+)\) mismatch",
            RunnerInputError,
            "an input has {0} bytes, the model expects {1}; check the shape and type of every input",
        ),
        (r"No method named '(.+)' in program", RunnerInputError, "the model has no method {0!r}"),
        (
            r"unknown command line flag '(.+)'",
            RunnerUnusableError,
            "the runner does not support the option --{0}; use one of a newer ExecuTorch",
        ),
        (
            r"(illegal value .+|Extra commandline args.*|Unknown --\w+ mode .*)",
            RunnerInputError,
            "the runner rejects its command line: {0}",
        ),
        (
            r"CANNOT LINK EXECUTABLE.*?: (.+)",
            RunnerUnusableError,
            "the runner does not start: {0}; link it statically (-DANDROID_STL=c++_static)",
        ),
    )
)

_CLASS_OF_CODE: dict[int, tuple[type[RunnerError], str]] = {
    0x12: (RunnerInputError, "invalid argument"),
    0x14: (MissingKernelError, "operator missing"),
    0x20: (MissingBackendError, "not found"),
    0x22: (RunnerInputError, "access failed"),
    0x23: (ModelFileError, "invalid program"),
    0x30: (ModelFileError, "the backend rejects its part of the file"),
}

_CLASS_OF_EXIT: dict[int, tuple[type[RunnerError], str]] = {
    126: (RunnerUnusableError, "the system cannot execute it: another ABI, or no permission"),
    127: (RunnerUnusableError, "the program, its loader or a library is missing: perhaps another ABI"),
    132: (RunnerUnusableError, "it uses instructions that the processor lacks; build it for an older one"),
    137: (RunnerError, "the system killed it, usually because memory ran out"),
    139: (RunnerError, "it crashed (segmentation fault)"),
}


def _failure(lines: Sequence[_LogLine], exit_code: int) -> RunnerError:
    # Info lines can look like a cause: missing system files are normal.
    errors = [line.message for line in lines if line.level in {"", "E", "F"} and line.message.strip()]
    first = next((line.message for line in lines if line.level in {"E", "F"}), errors[0] if errors else "")
    for message in errors:
        for pattern, error, text in _CAUSES:
            if found := pattern.search(message):
                return error(text.format(*found.groups(), cause=first))
    if code := next((code for message in reversed(errors) if (code := _CODE.search(message))), None):
        error, meaning = _CLASS_OF_CODE.get(int(code[1], 16), (RunnerError, "unknown"))
        return error(f"the runner failed with code 0x{code[1]} ({meaning}): {first}")
    return _failure_of_exit(exit_code, first, logged=any(line.level for line in lines))


def _failure_of_exit(exit_code: int, first: str, *, logged: bool) -> RunnerError:
    if exit_code in _CLASS_OF_EXIT:
        error, meaning = _CLASS_OF_EXIT[exit_code]
        return error(f"the runner exited with code {exit_code}: {meaning}" + (f" ({first})" if first else ""))
    if not logged:
        return RunnerUnusableError(
            f"the runner failed with exit code {exit_code} and logged nothing, so the cause is unknown"
            + (f" (it printed {first!r}); " if first else "; ")
            + "build it with -DEXECUTORCH_ENABLE_LOGGING=ON"
        )
    return RunnerError(f"the runner failed with exit code {exit_code}: {first}")
