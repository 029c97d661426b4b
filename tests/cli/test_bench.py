"""`fbnet-zoo bench` as its user meets it: real files in real runtimes, a sandbox phone, stores, one-line errors."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fbnet_zoo._require import require
from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.devices.rapl import RaplMeter
from fbnet_zoo.benchmarks.measure import Device, Measurement, ModelFile, RunEnergy
from fbnet_zoo.benchmarks.profile import Profile
from fbnet_zoo.cli.app import app
from fbnet_zoo.cli.bench import run
from fbnet_zoo.cli.bench.models import from_file
from fbnet_zoo.converters.manifest import FileRecord, Manifest
from fbnet_zoo.errors import EnergyUnavailableError
from tests.helpers.measurements import measurement
from tests.helpers.paths import DATA, TINY
from tests.helpers.phone import Phone

pytestmark = [pytest.mark.onnx, pytest.mark.executorch]

ETDUMP = DATA / "small_xnnpack.etdp"
QUICK = ("--runs", 2, "--warmup", 1)

Files = dict[str, ModelFile]


def bench(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(word) for word in words)])


def read_json(result: Result) -> dict[str, Any]:
    """Parse all of stdout: anything beside the one object is an error."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def error(result: Result, exit_code: int = 2) -> str:
    """Return the one line that says what went wrong."""
    assert (result.exit_code, result.stdout) == (exit_code, "")
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    return line


def test_help_names_the_commands() -> None:
    result = bench()
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("run", "profile", "compare", "devices"))


@pytest.fixture(scope="module")
def pair(tiny_files: Files, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files of one network with different content, and their manifests."""
    onnx = require("onnx", extra="onnx")
    first, second = tiny_files["onnx"].path, tmp_path_factory.mktemp("second") / "second.onnx"
    model = onnx.load(first)
    onnx.helper.set_model_props(model, {"remark": "another file"})
    onnx.save(model, second)
    manifest = Manifest.load(first.with_name("tiny.onnx.json"))
    manifest.model_copy(update={"file": FileRecord.of(second)}).save(second.with_name("second.onnx.json"))
    return first, second


@pytest.fixture(scope="module")
def results(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with five measurements of each of them, in turn."""
    path = tmp_path_factory.mktemp("results") / "results.jsonl"
    result = bench("run", *pair, *QUICK, "--out", path)
    assert result.exit_code == 0, result.stderr
    return path


class TestRun:
    def test_files_are_measured_in_turn(self, results: Path) -> None:
        order = [each.file for each in store.read(results)]
        assert order == ["tiny.onnx", "second.onnx", "second.onnx", "tiny.onnx"] * 2 + ["tiny.onnx", "second.onnx"]

    def test_manifest_says_what_a_file_is(self, tiny_files: Files) -> None:
        path = tiny_files["executorch"].path
        assert from_file(path) == replace(tiny_files["executorch"], backend="xnnpack")

    def test_resume_measures_only_what_is_missing(self, results: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
        part = tmp_path / "part.jsonl"
        part.write_text("".join(results.read_text().splitlines(keepends=True)[:9]))
        words = ("run", *pair, *QUICK, "--out", part, "--resume")
        shown = read_json(bench(*words, "--json"))
        assert [each.file for each in store.read(part)][9:] == ["second.onnx"]
        assert [record["processes"] for record in shown["results"]] == [5, 5]
        again = bench(*words)
        assert "measuring: 0 processes, 10 done before" in again.stderr
        assert len(store.read(part)) == 10

    def test_json_sums_up_the_processes(self, results: Path, pair: tuple[Path, Path]) -> None:
        shown = read_json(bench("run", *pair, *QUICK, "--out", results, "--resume", "--json"))
        assert shown.keys() == {"results", "comparisons", "failures", "store"}
        samples = [sample for each in store.read(results) if each.file == "tiny.onnx" for sample in each.samples_ms]
        first = shown["results"][0]
        assert (first["file"], first["processes"], first["samples"]) == ("tiny.onnx", 5, len(samples))
        assert min(samples) <= first["interval_ms"][0] <= first["median_ms"] <= first["interval_ms"][1] <= max(samples)
        (comparison,) = shown["comparisons"]
        assert (comparison["a"], comparison["b"], comparison["pairs"]) == ("tiny.onnx", "second.onnx", 5)
        assert comparison["differs"] is not (comparison["low"] <= 1 <= comparison["high"])

    def test_table(self, results: Path, pair: tuple[Path, Path]) -> None:
        text = bench("run", *pair, *QUICK, "--out", results, "--resume").stdout
        assert "median" in text
        assert "tiny.onnx fp32" in text
        assert "of 5 pairs" in text

    @pytest.mark.slow
    def test_networks_are_converted_first(self, tmp_path: Path) -> None:
        words = ("run", TINY, "--weights", "none", "--to", "torch", "--keep", tmp_path, "--repeat", 1, *QUICK)
        (shown,) = read_json(bench(*words, "--json"))["results"]
        assert (shown["file"], shown["target"], shown["runtime"]) == ("tiny.pt2", "torch", "torch")
        assert [path.name for path in tmp_path.iterdir()] == ["tiny.pt2"]

    @pytest.mark.slow
    def test_format_that_lacks_a_precision_does_not_stop_the_others(self, tmp_path: Path) -> None:
        words = ("run", TINY, "--weights", "none", "--to", "torch", "onnx", "--precision", "fp16", "--repeat", 1)
        result = bench(*words, *QUICK, "--keep", tmp_path, "--json")
        shown = json.loads(result.stdout)
        assert result.exit_code == 1
        assert [(record["target"], record["precision"]) for record in shown["results"]] == [("onnx", "fp16")]
        (failure,) = shown["failures"]
        assert failure["error"]["message"].startswith("torch is measured in fp32 only")
        assert Manifest.load(tmp_path / "tiny.onnx.json").weights == "random seed 0"

    def test_a_file_that_fails_does_not_stop_the_others(self, tiny_files: Files, tmp_path: Path) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"broken")
        result = bench("run", broken, tiny_files["onnx"].path, *QUICK, "--repeat", 1, "--json")
        shown = json.loads(result.stdout)
        assert result.exit_code == 1
        assert [record["file"] for record in shown["results"]] == ["tiny.onnx"]
        (failure,) = shown["failures"]
        assert (failure["device"], failure["file"]) == ("host", "broken.onnx")
        assert failure["error"]["type"] == "ModelFileError"

    def test_on_a_phone(self, phone: Phone, runner: Path, model_file: ModelFile, tmp_path: Path) -> None:
        phone.replay("x86_64/fb_10")
        paths = tmp_path / "phone.jsonl", tmp_path / "minibench.json"
        words = ("run", model_file.path, "--device", "android", "--runner", runner, "--runs", 8, "--warmup", 2)
        shown = read_json(bench(*words, "--out", paths[0], "--minibench", paths[1], "--json"))
        assert shown["results"][0]["device"]["model"] == "Phone 9"
        (stored,) = store.read(paths[0])
        assert len(stored.samples_ms) == 8
        assert {row["metric"] for row in json.loads(paths[1].read_text())} >= {"avg_inference_latency(ms)"}
        assert phone.files == []

    def test_energy_is_refused_where_none_is_known_before_anything_is_measured(
        self, phone: Phone, runner: Path, model_file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = (
            "run",
            model_file.path,
            "--device",
            "android",
            "--runner",
            runner,
            "--energy",
            "--out",
            tmp_path / "no",
        )
        assert "the energy is not known while the device is plugged in" in error(bench(*words), 1)
        assert phone.lines("runs") == []
        monkeypatch.setattr(HostDevice, "energy_meter", lambda _: RaplMeter(root=tmp_path))
        words = ("run", TINY, "--weights", "none", "--to", "onnx", "--energy", "--keep", tmp_path / "kept")
        assert "this machine reports no energy: " in error(bench(*words), 1)
        assert list(tmp_path.glob("no")) == list(tmp_path.glob("kept")) == []
        with pytest.raises(EnergyUnavailableError, match="this device reports no energy; it can be measured on"):
            Device.energy_meter(HostDevice())  # what all other devices have

    def test_energy_is_shown_if_it_was_measured(self) -> None:
        metered = RunEnergy(mj=2.5, idle_mw=1_500.0, source="a meter", runs=10, seconds=1.0)
        timed = [measurement(file="a.pte", sha256="1" * 64), measurement(energy=metered)]
        without, with_energy = run.results(timed)
        assert {key for key in with_energy if key not in without} == {"energy_mj", "idle_mw", "energy_source"}
        assert (with_energy["energy_mj"], with_energy["idle_mw"], with_energy["energy_source"]) == (
            2.5,
            1_500,
            "a meter",
        )
        *_, energy, notes = run.table([without, with_energy]).columns
        assert (energy.header, list(energy.cells)) == ("energy\nmJ", ["", "2.5"])
        assert "energy is above the idle 1.5 W, by a meter" in str(list(notes.cells)[1])
        assert all("energy" not in str(column.header) for column in run.table([without]).columns)

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (("no.onnx",), "no.onnx: no such file; fbnet-zoo convert writes one"),
            (("fbnet_bb",), "did you mean 'fbnet_b"),
            (("no.onnx", "--to", "onnx"), "--to, --precision and --weights are for networks"),
            (("no.onnx", "--resume"), "--resume needs the file with the earlier measurements; name it with --out"),
            (("no.onnx", "--device", "hots"), "there is no device 'hots'; did you mean 'host'"),
            ((TINY, "--weights", "none", "--to", "onix"), "there is no target 'onix'; did you mean 'onnx'"),
        ],
        ids=["file", "name", "to", "resume", "device", "target"],
    )
    def test_wrong_words(self, words: tuple[object, ...], text: str) -> None:
        assert text in error(bench("run", *words))

    def test_file_of_a_format_that_the_device_does_not_run(self, tiny_files: Files, phone: Phone, runner: Path) -> None:
        onnx = tiny_files["onnx"].path
        for words in (("run", onnx), ("run", TINY, "--weights", "none", "--to", "onnx"), ("profile", onnx)):
            line = error(bench(*words, "--device", "android", "--runner", runner))
            assert "the device android runs files for executorch, not for onnx" in line

    def test_changed_file(self, tiny_files: Files, tmp_path: Path) -> None:
        original = tiny_files["onnx"].path
        for path in (original, original.with_name(f"{original.name}.json")):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        with (tmp_path / original.name).open("ab") as file:
            file.write(b"!")
        assert "does not match its manifest" in error(bench("run", tmp_path / original.name))

    def test_file_without_manifest(self, tiny_files: Files, tmp_path: Path) -> None:
        path = tmp_path / "mine.onnx"
        path.write_bytes(tiny_files["onnx"].path.read_bytes())
        result = bench("run", path, *QUICK, "--json")
        assert read_json(result)["results"][0]["model"] == "mine"
        assert "has no manifest, so its precision is unknown" in result.stderr


class TestProfile:
    def test_of_a_file(self, tiny_files: Files, tmp_path: Path) -> None:
        out, html = tmp_path / "profile.json", tmp_path / "profile.html"
        words = ("profile", tiny_files["onnx"].path, "--runs", 3, "--top", 4, "--out", out, "--html", html)
        result = bench(*words)
        assert result.exit_code == 0, result.stderr
        profile = Profile.model_validate_json(out.read_bytes())
        slowest = max(profile.operators, key=lambda each: each.median_ms)
        assert slowest.name in result.stdout
        assert len(result.stdout.partition("\n\n")[0].splitlines()) == 1 + 4
        assert profile.file in html.read_text()
        assert read_json(bench("profile", out, "--json")) == json.loads(out.read_text())

    def test_of_an_etdump(self) -> None:
        text = bench("profile", ETDUMP).stdout
        assert "mean.out, undelegated" in text
        assert "of the operators' time is undelegated" in text
        assert "median of 3 runs" in text

    def test_of_a_phone(self, phone: Phone, runner: Path, model_file: ModelFile) -> None:
        phone.replay("x86_64_etdump/small_xnnpack")
        (phone.root / "trace").write_bytes(ETDUMP.read_bytes())
        words = ("profile", model_file.path, "--device", "android", "--runner", runner, "--runs", 2, "--json")
        profile = Profile.model_validate_json(json.dumps(read_json(bench(*words))))
        assert (profile.runs, profile.file, profile.device and profile.device.model) == (2, "fb.pte", "Phone 9")
        assert phone.files == []

    def test_file_without_tracer(self, tiny_files: Files) -> None:
        assert "executorch has no tracer on this machine" in error(bench("profile", tiny_files["executorch"].path), 1)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("none.json", "none.json: cannot be read: No such file"),
            ("none.etdp", "none.etdp: no such file"),
            ("wrong.json", "not a profile of onnxruntime"),
            ("wrong.txt", "not a converted file; expected .onnx, .mlpackage"),
        ],
    )
    def test_wrong_file(self, name: str, text: str, tmp_path: Path) -> None:
        for wrong in ("wrong.json", "wrong.txt"):
            (tmp_path / wrong).write_text('{"a": 1}')
        assert text in error(bench("profile", tmp_path / name))


Store = Callable[..., Path]


class TestCompare:
    @pytest.fixture
    def stored(self, tmp_path: Path) -> Store:
        def stored(*measurements: Measurement, name: str = "results.jsonl") -> Path:
            for each in measurements:
                store.append(tmp_path / name, each)
            return tmp_path / name

        return stored

    def test_two_stores(self, stored: Store) -> None:
        before = stored(measurement([10.0, 10.1, 9.9, 10.0, 10.0]), name="before.jsonl")
        after = stored(measurement([12.0, 12.1, 11.9, 12.0, 12.0]), name="after.jsonl")
        (found,) = read_json(bench("compare", before, after, "--json"))["comparisons"]
        assert (found["ratio"], found["differs"], found["pairs"]) == (pytest.approx(1.2), True, 0)
        assert found["b"] == f"fbnet_c:executorch:fp32 in {after}"
        text = bench("compare", before, after).stdout
        assert "takes 1.200 times as long as" in text
        assert "no difference shown" in bench("compare", before, before).stdout

    def test_stores_with_nothing_in_common(self, stored: Store) -> None:
        before = stored(measurement(), name="before.jsonl")
        after = stored(measurement(model="fbnet_a"), name="after.jsonl")
        assert "have no network in common" in error(bench("compare", before, after))

    def test_selections(self, stored: Store) -> None:
        samples = [10.0, 10.1, 9.9, 10.0, 10.0]
        path = stored(
            measurement(samples, sha256="1" * 64),
            measurement([half / 2 for half in samples], precision="int8", sha256="2" * 64),
            measurement([99.0] * 5, minute=-9, precision="int8", sha256="3" * 64),
        )
        result = bench("compare", "fbnet_c:executorch:fp32", "fbnet_c:executorch:int8", "--store", path, "--json")
        (found,) = read_json(result)["comparisons"]
        assert found["ratio"] == pytest.approx(0.5)
        assert "skipped 1 measurements of an earlier file" in result.stderr

    @pytest.mark.parametrize(
        ("selection", "text"),
        [
            ("fbnet_c", "'fbnet_c' matches several in {store}; choose one of fbnet_c:executorch:fp32, fbnet_c:execut"),
            ("fbnet_c:executorch:int4", "did you mean 'fbnet_c:executorch:"),
            ("resnet50", "{store} has no measurements of 'resnet50', MODEL:TARGET:PRECISION; it has fbnet_c:exec"),
        ],
    )
    def test_wrong_selection(self, selection: str, text: str, stored: Store) -> None:
        path = stored(measurement(), measurement(precision="int8"))
        line = error(bench("compare", selection, "fbnet_c:executorch:fp32", "--store", path))
        assert text.format(store=path) in line

    @pytest.mark.slow
    def test_two_files_are_measured_in_turn(self, tiny_files: Files, tmp_path: Path) -> None:
        path, kept = tiny_files["onnx"].path, tmp_path / "kept.jsonl"
        words = ("compare", path, path, "--pairs", 5, "--runs", 1, "--warmup", 1, "--store", kept)
        (found,) = read_json(bench(*words, "--json"))["comparisons"]
        assert (found["pairs"], len(store.read(kept))) == (5, 10)

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (("fbnet_b", "fbnet_c"), "are neither two files nor two stores; name the store of selections with --store"),
            (("no.onnx", "no.pte"), "no.onnx: no such file"),
            (("no.jsonl", "no.jsonl"), "no.jsonl: cannot be read"),
        ],
    )
    def test_wrong_words(self, words: tuple[str, ...], text: str) -> None:
        assert text in error(bench("compare", *words))

    def test_too_few_pairs(self, tiny_files: Files) -> None:
        path = tiny_files["onnx"].path
        assert "measure at least 5" in error(bench("compare", path, path, "--pairs", 4))


def test_devices(adb_server: None) -> None:
    result = bench("devices")
    names = [line.split()[0] for line in result.stdout.splitlines() if line and line[0] != " "]
    assert names == ["host", "android", "ios", "mac"]
    shown = read_json(bench("devices", "--json"))["devices"]
    assert [finding["name"] for finding in shown] == names
    assert shown[0]["usable"] is True
