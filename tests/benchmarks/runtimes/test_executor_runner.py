"""Every captured output of the real runner gives the right result or the right error, in each form of its log."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from fbnet_zoo.benchmarks.runtimes.executor_runner import command, has_log, parse
from fbnet_zoo.errors import (
    MissingBackendError,
    MissingKernelError,
    ModelFileError,
    RunnerError,
    RunnerInputError,
    RunnerUnusableError,
)
from tests.helpers.paths import DATA

CASES: dict[str, dict[str, Any]] = {
    case["case"]: case for case in map(json.loads, (DATA / "executor_runner.jsonl").read_text().splitlines())
}

ERRORS: dict[str, tuple[type[RunnerError], str]] = {
    "x86_64/bad_data_path": (RunnerInputError, "/nonexistent.ptd cannot be opened: No such file or directory"),
    "x86_64/bad_inputs_path": (RunnerInputError, "input /nonexistent.bin cannot be opened"),
    "x86_64/bad_inputs_size": (RunnerInputError, "an input has 40 bytes, the model expects 602112"),
    "x86_64/bad_method": (RunnerInputError, "no method 'nosuch'"),
    "x86_64/bad_print_output": (RunnerInputError, "rejects its command line: Unknown --print_output mode 'json'"),
    "x86_64/corrupt_badmagic": (ModelFileError, "starts with 'XXXX', expected 'ET12'"),
    "x86_64/corrupt_empty": (ModelFileError, "only 0 bytes"),
    "x86_64/corrupt_oldmagic": (ModelFileError, "starts with 'ET11', expected 'ET12'"),
    "x86_64/corrupt_onnx_as": (ModelFileError, "starts with 'pyto', expected 'ET12'"),
    "x86_64/corrupt_random": (ModelFileError, "expected 'ET12'"),
    "x86_64/corrupt_small_trunc5000": (ModelFileError, "has 5000 bytes, expected 6824"),
    "x86_64/corrupt_text": (ModelFileError, "only 12 bytes"),
    "x86_64/corrupt_trunc_1k": (ModelFileError, "has 1000 bytes, expected 22181792"),
    "x86_64/corrupt_trunc_32b": (ModelFileError, "only 32 bytes"),
    "x86_64/corrupt_trunc_4b": (ModelFileError, "only 4 bytes"),
    "x86_64/corrupt_trunc_half": (ModelFileError, "has 11000000 bytes, expected 22181792"),
    "x86_64/corrupt_trunc_tail100k": (ModelFileError, "has 22081792 bytes, expected 22181792"),
    "x86_64/corrupt_zero_delegate_head": (ModelFileError, r"XnnpackBackend rejects its part of the file \(0x30\)"),
    "x86_64/corrupt_zero_flatbuffer": (ModelFileError, r"XnnpackBackend rejects its part of the file \(0x12\)"),
    "x86_64/default_path": (RunnerInputError, "model.pte cannot be opened: No such file"),
    "x86_64/dir_path": (ModelFileError, "Is a directory"),
    "x86_64/etdump_flag": (RunnerUnusableError, "does not support the option --etdump_path"),
    "x86_64/missing_backend_vulkan": (MissingBackendError, "lacks the backend VulkanBackend"),
    "x86_64/missing_kernel": (MissingKernelError, "lacks the kernel mylib::foo.out"),
    "x86_64/negative_executions": (RunnerInputError, "illegal value '-5'"),
    "x86_64/positional_arg": (RunnerInputError, "Extra commandline args: /data/local/tmp/fbnet/fb.pte"),
    "x86_64/version": (RunnerUnusableError, "logged nothing"),
    "x86_64/wrong_flag": (RunnerUnusableError, "does not support the option --bogus_flag"),
    "x86_64/wrong_flag_value": (RunnerInputError, "illegal value 'ten'"),
    "x86_64/wrong_path": (RunnerInputError, "/nonexistent/model.pte cannot be opened"),
    "x86_64_nolog/corrupt": (RunnerUnusableError, "exit code 1 and logged nothing, so the cause is unknown"),
    "x86_64_nolog/fb_10_none": (RunnerUnusableError, "logged nothing, so there are no timings"),
    "x86_64_nolog/missing_kernel": (RunnerUnusableError, "exit code 134 and logged nothing"),
    "x86_64_nolog/small_xnnpack": (RunnerUnusableError, "logged nothing, so there are no timings"),
    "x86_64_nolog/wrong_flag": (RunnerUnusableError, "does not support the option --bogus"),
    "x86_64_nolog/wrong_path": (RunnerUnusableError, "exit code 134 and logged nothing"),
    "x86_64_portable/missing_backend_xnnpack": (MissingBackendError, "lacks the backend XnnpackBackend"),
    "x86_64_portable/missing_backend_xnnpack_small": (MissingBackendError, "lacks the backend XnnpackBackend"),
    "x86_64_etdump/etdump_unwritable": (RunnerInputError, "trace cannot be written to /nonexistent/dir/x.etdp"),
}


def as_stderr(line: str) -> str:
    return line


def as_logcat_brief(line: str) -> str:
    return re.sub(r"^([IEF]) \S+ \S+\] ", r"\1/ExecuTorch( 4711): ", line)


def as_logcat_with_times(line: str) -> str:
    return re.sub(r"^([IEF]) \S+ \S+\] ", r"11-21 02:27:23.512  4711  4711 \1 ExecuTorch: ", line)


def as_logcat_with_time(line: str) -> str:
    return re.sub(r"^([IEF]) \S+ \S+\] ", r"11-21 02:27:23.512 \1/ExecuTorch( 4711): ", line)


def as_logcat_tag(line: str) -> str:
    return re.sub(r"^([IEF]) \S+ \S+\] ", r"\1/ExecuTorch: ", line)


def as_logcat_of_a_user(line: str) -> str:
    return re.sub(r"^([IEF]) \S+ \S+\] ", r"2026-11-21 02:27:23.512345 shell  4711  4711 \1 ExecuTorch: ", line)


FORMS = [as_stderr, as_logcat_brief, as_logcat_with_times, as_logcat_with_time, as_logcat_tag, as_logcat_of_a_user]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable[[str], str]:
    chosen: Callable[[str], str] = request.param
    return chosen


def text_of(case: str, form: Callable[[str], str] = as_stderr) -> str:
    return "\n".join((*map(form, CASES[case]["stderr"]), CASES[case]["stdout"]))


@pytest.mark.parametrize("case", sorted(CASES.keys() - ERRORS.keys()))
def test_numbers_are_those_of_the_log(case: str, form: Callable[[str], str]) -> None:
    told = parse(text_of(case, form), CASES[case]["exit_code"])
    log = "".join(CASES[case]["stderr"])
    assert [f"{number:.6f} ms" for number in told.iterations_ms] == re.findall(r"Iteration \d+ of \d+: (.+? ms)", log)
    assert f"successfully {told.executions} time(s) in {told.total_ms:.6f} ms" in log
    assert f"Model loaded in {told.load_ms:.6f} ms" in log
    assert sum(told.iterations_ms) == pytest.approx(told.total_ms, abs=1e-5)
    assert len(told.iterations_ms) == told.executions


@pytest.mark.parametrize("case", ERRORS)
def test_failures_say_why(case: str, form: Callable[[str], str]) -> None:
    error, text = ERRORS[case]
    with pytest.raises(RunnerError, match=text) as caught:
        parse(text_of(case, form), CASES[case]["exit_code"])
    assert type(caught.value) is error


def test_every_kind_of_error_was_seen() -> None:
    assert {error for error, _ in ERRORS.values()} == set(RunnerError.__subclasses__())


@pytest.mark.parametrize("case", CASES)
def test_builds_without_logging_are_told_by_their_silence(case: str) -> None:
    usage = any(line.startswith("ERROR:") for line in CASES[case]["stderr"]) or case.endswith("/version")
    assert has_log(text_of(case)) == (not case.startswith("x86_64_nolog") and not usage)


def test_tracer_names_its_file() -> None:
    assert parse(text_of("x86_64_etdump/fb_10"), 0).trace == "fb_10.etdp"
    assert parse(text_of("x86_64_portable/small_portable"), 0).trace == "model.etdump"
    assert parse(text_of("x86_64/fb_10"), 0).trace is None


def test_older_runners_tell_only_the_total() -> None:
    """Before ExecuTorch 1.3.0 there are neither `Iteration` nor `Model loaded` lines."""
    old = "\n".join(
        line for line in CASES["x86_64/fb_10"]["stderr"] if "Iteration" not in line and "Model loaded" not in line
    )
    told = parse(old, 0)
    assert (told.load_ms, told.iterations_ms, told.executions, told.total_ms) == (None, (), 10, 286.227988)


def test_carriage_returns_and_foreign_bytes_do_no_harm() -> None:
    text = text_of("x86_64/fb_10")
    noisy = b"\xff\xfe\x00 garbage\n" + text.encode().replace(b"\n", b"\r\n") + b"\x80\x81"
    assert parse(noisy.decode(errors="replace"), 0) == parse(text, 0)


def test_a_line_without_its_end_before_the_log_does_no_harm() -> None:
    text = "OutputX 0: tensor(sizes=[1, 2], [1., 2.])" + text_of("x86_64/small_xnnpack")
    assert parse(text, 0) == parse(text_of("x86_64/small_xnnpack"), 0)


def test_lost_or_foreign_iterations_are_refused() -> None:
    lines = text_of("x86_64/fb_10").splitlines()
    lost = [line for line in lines if "Iteration 4 of" not in line]
    iterations = [line for line in lines if "Iteration" in line]
    for wrong in (lost, iterations + lines, lines[:6] + iterations[::-1] + lines[16:]):
        with pytest.raises(RunnerError, match="lines are lost, or belong to another program"):
            parse("\n".join(wrong), 0)


def test_a_log_that_ends_early_is_no_result() -> None:
    lines = text_of("x86_64/fb_10").splitlines()
    end = next(number for number, line in enumerate(lines) if "executed successfully" in line)
    with pytest.raises(RunnerError, match="logged no time; its last line is 'Iteration 10 of 10"):
        parse("\n".join(lines[:end]), 0)


@pytest.mark.parametrize(
    ("exit_code", "text", "error", "message"),
    [
        (126, "sh: ./executor_runner: Exec format error", RunnerUnusableError, "another ABI.*Exec format error"),
        (127, "sh: ./executor_runner: not found", RunnerUnusableError, "perhaps another ABI"),
        (
            1,
            'CANNOT LINK EXECUTABLE "./er": library "libc++_shared.so" not found',
            RunnerUnusableError,
            "c\\+\\+_static",
        ),
        (132, "Illegal instruction", RunnerUnusableError, "instructions that the processor lacks"),
        (137, "Killed", RunnerError, "memory ran out"),
        (139, "Segmentation fault", RunnerError, "crashed"),
        (3, "I 00:00:00.1 executorch:a.cpp:1] started", RunnerError, "failed with exit code 3"),
    ],
)
def test_ends_outside_of_the_runner(exit_code: int, text: str, error: type[RunnerError], message: str) -> None:
    with pytest.raises(RunnerError, match=message) as caught:
        parse(text, exit_code)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("12", RunnerInputError),
        ("14", MissingKernelError),
        ("20", MissingBackendError),
        ("22", RunnerInputError),
        ("23", ModelFileError),
        ("30", ModelFileError),
        ("7f", RunnerError),
    ],
)
def test_unknown_causes_are_classed_by_the_code(code: str, error: type[RunnerError]) -> None:
    log = f"E 00:00:00.1 executorch:x.cpp:1] something new\nF 00:00:00.2 executorch:y.cpp:2] it failed: 0x{code}"
    with pytest.raises(RunnerError, match=f"code 0x{code}.*: something new") as caught:
        parse(log, 134)
    assert type(caught.value) is error


def test_command_line_asks_for_what_is_needed() -> None:
    line = command("./executor_runner", "m.pte", executions=23, threads=4, inputs=["a.bin", "b.bin"])
    assert line[0] == "./executor_runner"
    assert {"--model_path=m.pte", "--num_executions=23", "--cpu_threads=4", "--inputs=a.bin,b.bin"} <= set(line)
    assert not any("etdump_path=" in option and "undefok" not in option for option in line)
    assert "--etdump_path=t.etdp" in command("r", "m.pte", executions=1, threads=1, trace="t.etdp")


def test_captured_iterations_are_in_order() -> None:
    """Guards the data: the tests above compare with them."""
    for case in CASES.values():
        numbers = [int(found[1]) for line in case["stderr"] if (found := re.search(r"Iteration (\d+)", line))]
        assert all(after == before + 1 for before, after in pairwise(numbers))
