"""Limits: what is too large is refused before it is allocated, by one sentence that says how to raise the limit."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from fbnet_zoo import arch_file, cost, create, get_spec, limits, list_models, planner
from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.lut.network_figures import read_figures
from fbnet_zoo.benchmarks.lut.rounds import Rounds
from fbnet_zoo.benchmarks.measure import check_counts
from fbnet_zoo.cli import screen
from fbnet_zoo.cli.app import app
from fbnet_zoo.cli.network import read_labels
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.converters.quantization import calibration
from fbnet_zoo.data import photographs
from fbnet_zoo.deploy.record import Bundle
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.latency import find_table, load_table
from fbnet_zoo.latency.importers import hw_nas_bench, mobile_vision
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.layers import check_batch
from fbnet_zoo.search.dmasking.supernet import MaskedSupernet
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.oracle import read_oracle
from fbnet_zoo.search.record import load_record
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import parse as parse_space
from fbnet_zoo.spec import PreprocessSpec
from fbnet_zoo.train import Recipe, load_recipe
from fbnet_zoo.weights import checkpoints
from tests.helpers.paths import ROOT, TINY
from tests.helpers.space_texts import SMALL

TEXT = TINY.read_text(encoding="utf-8")
STEM, ROW, HEAD = TEXT.splitlines()[6], TEXT.splitlines()[9], TEXT.splitlines()[17]
RAISED = (
    r"; expected at most [\d,]+, a limit that protects this machine and can be raised with FBNET_ZOO_LIMITS={}=\d+$"
)


def refused(name: str, message: str) -> Any:
    return pytest.raises(InputError, match=message + RAISED.format(name))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_documentation_lists_every_limit() -> None:
    page = (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (.+) \|$", page, re.MULTILINE)
    assert rows == [(name, f"{each.default:,}", each.what) for name, each in limits.LIMITS.items()]


class TestVariable:
    @pytest.mark.parametrize("value", ["5000", "5e3", "5.0e3", " 5000 "])
    def test_sets_limits(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, f"rows={value}, blocks = 7")
        assert [limits.limit(name) for name in ("rows", "blocks", "options")] == [5000, 7, 256]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("parameters=5", "unknown limit 'parameters'; did you mean 'params'?"),
            ("params", "sets params to ''; expected a number, such as 5000000 or 5e6"),
            ("params=many", "sets params to 'many'; expected a number"),
            ("params=-1", "sets params to '-1'; expected"),
            ("params=0", "sets params to '0'; expected"),
            ("params=1e999", "sets params to '1e999'; expected"),
        ],
    )
    def test_mistakes_are_explained(self, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, value)
        with pytest.raises(InputError, match=re.escape(message)):
            get_spec("fbnet_b"), arch_file.parse(TEXT)


SO_FAR = ": up to this row, the network has"
WIDE = ROW.replace("e: 2, c: 12, s: 2, g: 2", "e: 64, c: 65536, s: 2")
DEEP = ROW + "\n    - {k: 3, e: 2, c: 12, r: 64}" * 20
LAST = "head: {op: conv, k: 31, c: 65536}"
DEFINITIONS = {
    "wide": ("params", ROW, WIDE, rf":11{SO_FAR} [\d,]+ parameters"),
    "deep": ("blocks", ROW, DEEP, rf":\d+{SO_FAR} 1,025 blocks"),
    "head": ("params", HEAD, LAST, r":1: with its head and 1000 classes, the network has 1,[\d,]+ parameters"),
    "tall": (
        "activations",
        "c: 8, s: 2, b",
        "c: 1024, s: 2, b",
        r":4: for 1 images of 4096 px, .* outputs 8,589,934,592 activation values",
    ),
}
"""The limit; a part of the tiny definition and what replaces it; the beginning of the error."""


def hostile(case: str) -> str:
    _, old, new, _ = DEFINITIONS[case]
    text = TEXT.replace(old, new)
    assert text != TEXT
    return text.replace("input_size: 64", "input_size: 4096") if case == "tall" else text


class TestDefinitions:
    @pytest.mark.parametrize("case", DEFINITIONS)
    def test_too_large_ones_are_refused_with_their_line(self, case: str) -> None:
        name, *_, message = DEFINITIONS[case]
        with refused(name, f"^hostile.yaml{message}.*"):
            arch_file.parse(hostile(case), "hostile.yaml")

    @pytest.mark.parametrize("case", DEFINITIONS)
    def test_limits_can_be_raised(self, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, f"{DEFINITIONS[case][0]}=1e15")
        assert arch_file.parse(hostile(case)).name == "tiny"

    @pytest.mark.parametrize(
        "words",
        [
            ("show",), ("lint",), ("predict", photographs()[0]), ("convert", "--to", "onnx"),
            ("deploy", "--target", "onnx"), ("bench", "run", "--to", "torch"),
            ("train", "--data", "digits"), ("eval", "--data", "digits"),
        ],
        ids=lambda words: words[0],
    )  # fmt: skip
    def test_every_command_refuses_them(self, words: tuple[object, ...], tmp_path: Path) -> None:
        path = tmp_path / "hostile.yaml"
        path.write_text(hostile("wide"))
        command = list(words)
        command.insert(2 if words[0] == "bench" else 1, path)
        if words[0] in {"convert", "deploy", "train"}:
            command += ["--out", tmp_path / "out"]
        result = run(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.search(r"the network has [\d,]+ parameters; expected at most", result.stderr), result.stderr
        assert result.stderr.count("\n") == 1
        assert sorted(each.name for each in tmp_path.iterdir()) == ["hostile.yaml"]

    def test_arguments_of_functions_are_checked_too(self) -> None:
        with refused("params", r"with its head and 1000000 classes, the network has 1,9\d\d,\d{3},\d{3} parameters"):
            create("fbnet_b", num_classes=1_000_000)
        spec = get_spec("fbnet_b").model_copy(update={"input_size": 4096})
        with refused("batch", "there are 100,000 images in a batch"):
            check_batch(planner.plan(spec), 64, 100_000)
        with refused("activations", r"for 64 images of 4096 px, stages.4.0.expand.* outputs [\d,]+ activation values"):
            check_batch(planner.plan(spec), 4096, 64)
        with refused("activations", "1 calibration images of 2000000 px have 12,000,000,000,000 activation values"):
            preprocess = PreprocessSpec.model_construct(resize=2_000_000, crop=2_000_000)
            calibration._prepare([None], preprocess, 3)  # type: ignore[list-item]

    def test_plans_count_parameters_exactly(self) -> None:
        """Networks up to a limit of exactly their parameters can be planned, one fewer is too few."""
        for name in list_models()[::5]:
            spec, params = get_spec(name), cost(name).params
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(limits.VARIABLE, f"params={params}")
                planner.plan(spec)
                patch.setenv(limits.VARIABLE, f"params={params - 1}")
                with refused("params", f"has {params:,} parameters"):
                    planner.plan(spec)


SPACES = {
    "options": (", c: 16}", f", c: {list(range(8, 8 * 258, 8))}}}", "13: a value has 257 options"),
    "range": (
        ", c: 16}",
        ", c: {first: 1, last: 1000, step: 1}}",
        "13: from 1 to 1000 by 1, there are .* 1,000 options",
    ),
    "candidates": (
        "layers: 2, e: [1, 2.5], c: 16",
        "layers: 64, e: {first: 1, last: 8, step: 0.1}, c: {first: 8, last: 256, step: 8}",
        r"13: up to this row, the layers can choose among [\d,]+ blocks",
    ),
}
"""A part of the small space and what replaces it; the beginning of the error."""


class TestSpaces:
    @pytest.mark.parametrize("case", SPACES)
    def test_too_large_ones_are_refused_with_their_line(self, case: str) -> None:
        old, new, message = SPACES[case]
        text = SMALL.replace(old, new)
        assert text != SMALL
        with refused("candidates" if case == "candidates" else "options", f"^small.yaml:{message}"):
            parse_space(text, "small.yaml")

    @pytest.mark.parametrize(("name", "supernet"), [("digits_tiny", Supernet), ("digits_masking", MaskedSupernet)])
    def test_supernet_is_refused_before_it_is_built(
        self, name: str, supernet: Callable[..., torch.nn.Module], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = load_space(name)
        params = sum(value.numel() for value in supernet(space, num_classes=10).parameters())
        monkeypatch.setenv(limits.VARIABLE, f"params={params // 2}")
        with refused("params", f"all blocks of the supernet of {name} together have [\\d,]+ parameters"):
            supernet(space, num_classes=10)

    def test_search_is_refused_before_there_is_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, "params=200000")  # of single networks: 143,232
        limit = ("--limit", "macs=400k")
        result = run(
            "search", "--space", "digits_tiny", "--data", "digits", "--method", "dnas", *limit, "--out", tmp_path / "a"
        )
        assert result.exit_code == 2
        assert "the supernet of digits_tiny together have" in result.stderr
        assert not (tmp_path / "a").exists()


def files(folder: Path) -> Iterator[tuple[str, Path, Callable[[Path], object]]]:
    """Yield every reader of users' tables, records and text files, with a file that it would refuse or read later."""
    encoding = Encoding(load_space("digits_tiny"))
    table = json.dumps({"operators": [{"median_ms": 1}] * 9})
    readers: dict[str, tuple[str, Callable[[Path], object]]] = {
        "table.json": (table, load_table),
        "oracle.csv": ("choices,top1\n" + "1,1\n" * 9, lambda path: read_oracle(path, encoding)),
        "times.csv": ("network,median_ms\n" + "a,1\n" * 9, read_figures),
        "store.jsonl": ("\n" * 9, store.read),
        "labels.txt": ("a\n" * 9, read_labels),
        "mobile_vision.jsonl": ("\n" * 9, lambda path: list(mobile_vision._records(path))),
        "hw_nas.json": (json.dumps({str(index): 1 for index in range(9)}), lambda p: hw_nas_bench._figures(p, None)),
        "manifest.json": ("{}" + " " * 99, Manifest.load),
        "record.json": ("{}" + " " * 99, load_record),
        "bundle/manifest.json": ("{}" + " " * 99, lambda path: Bundle.load(path.parent)),
    }
    for name, (text, read) in readers.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        yield name, path, read


class TestFiles:
    def test_too_many_rows_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, "rows=5")
        tried = 0
        for name, path, read in files(tmp_path):
            if name.endswith(("manifest.json", "record.json", "oracle.csv")):
                continue
            with refused("rows", rf"{path} has (at least )?\d+ rows"):
                read(path)
            tried += 1
        assert tried == 6

    def test_too_large_files_are_refused_without_reading_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(limits.VARIABLE, "file_bytes=8")
        tried = 0
        for name, path, read in files(tmp_path):
            if name.endswith(".csv"):  # read row by row
                continue
            with refused("file_bytes", rf"{path} has {path.stat().st_size} bytes"):
                read(path)
            tried += 1
        assert tried == 8

    def test_endless_device_is_not_read_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, "file_bytes=1000")
        with refused("file_bytes", "/dev/zero has at least 1,001 bytes"):
            read_labels(Path("/dev/zero"))


class TestThreads:
    def test_every_option_and_record_is_limited(self, tmp_path: Path) -> None:
        """`--threads 1000000` would end in an abort of the runtime."""
        (tmp_path / "recipe.yaml").write_text("threads: 1000000\n")
        table = find_table("host_xnnpack_digits_tiny")
        for call in (
            lambda: load_recipe(tmp_path / "recipe.yaml", Recipe()),
            lambda: check_counts(runs=1, threads=1_000_000),
            lambda: Rounds(threads=1_000_000),
        ):
            with refused("threads", "there are 1,000,000 threads"):
                call()
        with pytest.raises(ValueError, match="there are 1,000,000 threads"):
            LatencyTable.model_validate({**table.model_dump(), "threads": 1_000_000})

    def test_every_command_with_the_option(self) -> None:
        tried = 0
        for words, command in _commands(typer.main.get_command(app)):
            for option in {"--threads": 1_000_000, "--batch-size": 1_000_000}.items():
                if option[0] in {name for parameter in command.params for name in parameter.opts}:
                    needed = ["x" for each in command.params if each.param_type_name == "argument" and each.required]
                    result = run(*words, *needed, *option, *_required(command))
                    assert result.exit_code == 2
                    assert "there are 1,000,000" in result.stderr, (words, result.stderr)
                    tried += 1
        assert tried >= 4

    def test_batch_of_a_recipe(self) -> None:
        with pytest.raises(ValueError, match="there are 1,000,000 images in a batch"):
            Recipe(batch_size=1_000_000)


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        if getattr(command, "commands", None):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


def _required(command: Any) -> list[str]:
    options = [each for each in command.params if each.param_type_name == "option" and each.required]
    return [word for each in options for word in (each.opts[0], "x")]


ALLOCATIONS = {
    "torch": lambda: torch.empty(10**15),
    "numpy": lambda: np.empty(10**16),
    "python": lambda: bytearray(10**18),
    "overflow": lambda: torch.empty(2**62),
}


class TestMemory:
    @pytest.mark.parametrize("library", ALLOCATIONS)
    def test_failures_of_allocators_become_a_sentence(self, library: str) -> None:
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            ALLOCATIONS[library]()
        wrapped = WeightsError("it is damaged")
        wrapped.__cause__ = caught.value
        for error in (caught.value, wrapped):
            sentence = screen.sentence(error)
            assert re.match(r"there is not enough memory( for [\d.e+]+ (GB|PiB))?; use a smaller network", sentence)

    def test_gpu(self) -> None:
        error = torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 16"
        )
        assert screen.sentence(error).startswith("there is not enough memory for 20.00 GiB; use a smaller network")

    def test_others_stay_what_they_are(self) -> None:
        assert screen.sentence(RuntimeError("shapes differ")).startswith("unexpected RuntimeError: shapes differ")

    def test_command_that_runs_out_of_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """154 TB of weights are more than a process can address."""
        monkeypatch.setenv(limits.VARIABLE, "params=1e15")
        path = tmp_path / "huge.yaml"
        path.write_text(TEXT.replace(ROW, "    - {op: conv, k: 31, c: 65536, s: 2}\n    - {op: conv, k: 31, c: 65536}"))
        result = run("predict", path, photographs()[0], "--weights", "none")
        assert result.exit_code == 1
        assert re.fullmatch(r"error: there is not enough memory for .* GB; use a smaller .*\n", result.stderr)

    def test_checkpoint_is_not_called_damaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.pth"
        torch.save({"a": torch.zeros(1)}, path)
        monkeypatch.setattr(torch, "load", lambda *_, **__: torch.empty(10**15))
        with pytest.raises(RuntimeError, match="allocate"):
            checkpoints.read(path, [get_spec("fbnet_b")])
        with contextlib.suppress(OSError):
            path.unlink()
