"""The command line as its user meets it: output, exit codes, one-line errors, and what it never does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from fbnet_zoo import create, get_spec, list_models, register, registry, transforms
from fbnet_zoo.cli import convert
from fbnet_zoo.cli.app import ORDER, app
from fbnet_zoo.cli.parameters import spread
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.data import load_batch, photographs
from fbnet_zoo.spec import WeightsSpec
from fbnet_zoo.weights.loading import randomize, save
from tests.helpers.hub_server import HubServer
from tests.helpers.marks import first_is_quick
from tests.helpers.surroundings import PATIENCE_S

PHOTOGRAPH = str(photographs()[0])
TINY = """\
name: tiny
family: fbnet
summary: "A few layers."
input_size: 32
defaults: {act: relu}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {k: 3, e: 1, c: 8}
  4:
    - {k: 3, e: 2, c: 16, s: 2, se: 0.25}
head: {op: conv, k: 1, c: 16}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def read_json(result: Result) -> dict[str, Any]:
    """Parse all of stdout: anything beside the one object is an error."""
    return json.loads(result.stdout)


def command(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fbnet_zoo", *map(str, words)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class TestHelp:
    def test_every_command_has_its_place(self) -> None:
        page = run("--help").stdout
        places = [re.search(rf"^\W+{name} ", page, re.MULTILINE) for name in ORDER if name != "lint"]
        assert [place and place.start() for place in places] == sorted(place.start() for place in places if place)
        assert "lint" in page


class TestList:
    def test_table_has_every_network(self) -> None:
        result = run("list")
        assert result.exit_code == 0
        assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == list_models()

    def test_line_of_fbnet_b(self) -> None:
        # 4,818,216 parameters and 291,004,424 MACs by mobile-vision; 74.5441 and the licence by its model zoo
        line = next(line for line in run("list", "fbnet_b").stdout.splitlines() if line.startswith("fbnet_b"))
        assert line.split() == ["fbnet_b", "fbnet", "224", "4.82", "291.0", "74.5", "fb_in1k", "CC-BY-NC-4.0"]

    def test_json(self) -> None:
        models = read_json(run("list", "fbnetv3_[bg]_timm", "--json"))["models"]
        assert [model["name"] for model in models] == ["fbnetv3_b_timm", "fbnetv3_g_timm"]
        first = models[0]
        assert first.keys() == {
            "name", "aliases", "family", "summary", "input_size", "params", "macs", "top1", "weights",
        }  # fmt: skip
        assert (first["params"], first["macs"], first["top1"]) == (8598464, 407508576, 78.184)
        assert first["weights"][0]["license"] == "Apache-2.0"

    @pytest.mark.parametrize("option", ["--pretrained", "--no-pretrained"])
    def test_pretrained(self, option: str) -> None:
        models = read_json(run("list", option, "--json"))["models"]
        assert models
        assert all(bool(model["weights"]) is (option == "--pretrained") for model in models)

    def test_family(self) -> None:
        models = read_json(run("list", "--family", "chamnet", "--json"))["models"]
        assert [model["name"] for model in models] == [f"chamnet_{letter}" for letter in "abcdef"]

    def test_nothing_fits(self) -> None:
        result = run("list", "no_such_*")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith("note: no network matches")
        assert read_json(run("list", "no_such_*", "--json")) == {"models": []}


class TestShow:
    def test_page_says_what_the_definition_amounts_to(self) -> None:
        text = run("show", "fbnet_b").stdout
        assert "  16:\n    - {k: 5, e: 6, c: 64, s: 2, r: 2}\n    - {op: skip, c: 64}\n" in text
        assert "4,818,216  291,004,424" in text
        assert "CC-BY-NC-4.0" in text
        assert "https://dl.fbaipublicfiles.com/fbnet/models/20200103/rAuaZE/fbnet_b_f153237418/model.pth\n" in text
        assert "published by" in text
        assert "Samsung Galaxy S8" in text
        assert "arXiv:1812.03443" in text

    def test_printed_definition_is_a_definition(self, tmp_path: Path) -> None:
        text = run("show", "fbnetv3_a").stdout
        copy = tmp_path / "copy.yaml"
        copy.write_text(text.partition("Definition\n")[2].partition("\n\nCost")[0])
        assert read_json(run("show", copy, "--json"))["cost"] == read_json(run("show", "fbnetv3_a", "--json"))["cost"]

    def test_json(self) -> None:
        shown = read_json(run("show", "FBNetV3_A", "--json"))
        assert shown["name"] == "fbnetv3_a"
        assert {"definition", "cost", "reported", "weights", "deviations", "paper", "source"} <= shown.keys()
        assert shown["cost"].keys() == {
            "input_size", "params", "macs", "activations", "peak_activations", "peak_mb", "parts",
        }  # fmt: skip
        assert sum(part["macs"] for part in shown["cost"]["parts"]) == shown["cost"]["macs"] == 355514328
        assert shown["reported"][0].keys() == {"metric", "value", "precision", "device", "engine", "source"}

    def test_input_size_and_layers(self, tiny: Path) -> None:
        model = create(tiny)
        shown = read_json(run("show", tiny, "--input-size", "64", "--layers", "--json"))
        assert shown["cost"]["input_size"] == 64
        assert sum(layer["params"] for layer in shown["cost"]["layers"]) == sum(p.numel() for p in model.parameters())
        assert {layer["name"] for layer in shown["cost"]["layers"] if layer["type"] == "conv"} == {
            name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
        }
        assert "stages.4.0.depthwise.0.conv" in run("show", tiny, "--layers").stdout

    def test_layers_are_described(self, tiny: Path) -> None:
        shown = read_json(run("show", tiny, "--layers", "--json"))["cost"]
        by_name = {layer.pop("name"): layer for layer in shown["layers"]}
        assert by_name["stages.4.0.depthwise.0.conv"] == {
            "type": "conv", "function": None, "output": [16, 8, 8], "kernel_size": 3, "stride": 2, "groups": 16,
            "params": 9 * 16, "macs": 9 * 16 * 8 * 8, "activations": 16 * 8 * 8, "live": 16 * 16 * 16 + 16 * 8 * 8,
        }  # fmt: skip
        assert by_name["stages.4.0.se.gate"]["function"] == "hard_sigmoid"
        assert sum(layer["activations"] for layer in by_name.values()) == shown["activations"]

    def test_weights_are_told_whole(self) -> None:
        (entry,) = read_json(run("show", "fbnetc_100", "--json"))["weights"]
        assert entry.keys() == WeightsSpec.model_fields.keys()
        assert entry["bn_eps"] == 0.001
        assert "rmsp_in1k  batch-norm epsilon 0.001\n" in run("show", "fbnetc_100").stdout

    def test_preprocessing_is_that_of_the_weights(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        common = 'source: "hf://somebody/tiny", layout: timm, license: MIT'
        facts = f"size: 1234567, sha256: {'c0ffee42' * 8}"
        first = f"{{tag: one, {common}, {facts}, preprocess: {{resize: 40, crop: 36, interpolation: bicubic}}}}"
        second = f"{{tag: two, {common}, preprocess: {{resize: 50, crop: 48}}}}"
        tiny.write_text(f"{TINY}weights:\n  - {first}\n  - {second}\n")
        monkeypatch.setattr(registry, "_registered", {})
        register(tiny)
        for name, crop in {"tiny": 36, "tiny.one": 36, "tiny.two": 48}.items():
            assert read_json(run("show", name, "--json"))["preprocess"]["crop"] == crop
            assert transforms(name)(Image.new("RGB", (64, 64))).shape == (3, crop, crop)
            origin = run("show", name).stdout.partition("Origin\n")[2]
            assert f"center {crop} px" in origin
        text = run("show", "tiny").stdout
        assert "one  1,234,567 bytes" in text
        assert f"one  sha256 {'c0ffee42' * 8}\n" in text
        assert "one  images: shorter side to 40 px (bicubic), center 36 px" in text
        assert "two  images: shorter side to 50 px (bilinear), center 48 px" in text


class TestPredict:
    def test_classes_are_those_of_the_network(self, tiny: Path, tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("".join(f"kind {index}\n" for index in range(7)))
        model = create(tiny, num_classes=7).eval()
        randomize(model, 3)
        with torch.inference_mode():
            expected = model(load_batch(photographs(), model.spec.eval_preprocess())).softmax(1).sort(descending=True)

        options = ["--weights", "none", "--seed", "3", "--top", "2", "--labels", labels, "--json"]
        result = run("predict", tiny, *photographs(), *options)

        assert result.exit_code == 0
        answer = read_json(result)
        assert (answer["model"], answer["weights"], answer["license"]) == ("tiny", "random seed 3", None)
        for image, values, indices in zip(answer["images"], *expected, strict=True):
            assert [entry["index"] for entry in image["classes"]] == indices[:2].tolist()
            assert [entry["label"] for entry in image["classes"]] == [f"kind {index}" for index in indices[:2]]
            assert [entry["probability"] for entry in image["classes"]] == pytest.approx(values[:2].tolist(), rel=1e-5)
        assert "its answers mean nothing" in result.stderr

    def test_checkpoint_brings_its_classes_and_licence(self, tiny: Path, tmp_path: Path) -> None:
        model = create(tiny, num_classes=3)
        model.weights, model.license = "mine", "MIT"
        save(model, tmp_path / "tiny.safetensors")
        answer = read_json(run("predict", tiny, photographs()[0], "--weights", tmp_path / "tiny.safetensors", "--json"))
        assert (answer["weights"], answer["license"]) == ("mine, saved again", "MIT")
        assert {entry["label"] for entry in answer["images"][0]["classes"]} == {"class 0", "class 1", "class 2"}

    def test_published_weights_are_the_default(self, tiny: Path, tmp_path: Path, hub: HubServer) -> None:
        entry = '{tag: mine_in1k, source: "hf://somebody/tiny", layout: fbnet_zoo, license: MIT}'
        tiny.write_text(f"{TINY}weights:\n  - {entry}\n")
        save(create(tiny), tmp_path / "model.safetensors")
        hub.add_repo("somebody/tiny", {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()})
        done = command("predict", tiny, photographs()[0], "--json")
        assert done.returncode == 0
        answer = json.loads(done.stdout)
        assert (answer["weights"], answer["license"]) == ("mine_in1k", "MIT")
        assert done.stderr == "warning: weights mine_in1k of tiny are under the license MIT\n"

    def test_table(self, tiny: Path) -> None:
        lines = run("predict", tiny, photographs()[1], "--weights", "none", "--top", "4").stdout.splitlines()
        assert lines[0].endswith("rocket.jpg")
        assert len(lines) == 5
        assert all("%" in line for line in lines[1:])

    def test_bad_image_leaves_the_others(self, tiny: Path) -> None:
        result = run("predict", tiny, tiny, photographs()[0], "--weights", "none", "--json")
        assert result.exit_code == 1
        bad, good = read_json(result)["images"]
        assert "not an image" in bad["error"]
        assert len(good["classes"]) == 5
        assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 1


SPELLINGS = [
    "a b --to onnx coreml executorch --out d",
    "--to onnx coreml executorch a b --out d",
    "a --to onnx coreml --out d b --to executorch",
    "--out d a b --to onnx,coreml --to=executorch",
    "a --to=onnx coreml,executorch b --out d",
    "--out d --to onnx, coreml, executorch -- a b",
]


class TestTargets:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_spellings(self, spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[convert.ConvertRequest] = []

        def run_nothing(request: convert.ConvertRequest, values: Mapping[str, Any]) -> list[dict[str, Any]]:
            asked.append(request)
            return []

        monkeypatch.setattr(convert, "run", run_nothing)
        assert run("convert", *spelling.split()).exit_code == 0
        assert (asked[0].names, asked[0].to, asked[0].out) == (["a", "b"], ["onnx", "coreml", "executorch"], Path("d"))

    def test_no_network_is_taken_for_a_target(self) -> None:
        for name in list_models():
            for word in (name, *get_spec(name).aliases):
                assert spread(["--to", "onnx", word], {"--to": TARGETS}) == ["--to", "onnx", word]

    def test_every_option_of_a_conversion_is_offered(self) -> None:
        offered = {field.name for field in fields(convert.Options)}
        assert offered == {field.name for field in fields(ConvertOptions)} - {"labels", "verbose"}

    def test_misspelled_second_target(self, tiny: Path, tmp_path: Path) -> None:
        result = run("convert", tiny, "--to", "onnx", "exectorch", "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert result.stderr == "error: there is no target 'exectorch'; did you mean 'executorch'?\n"


@pytest.mark.onnx
class TestConvert:
    def test_files_and_record(self, tiny: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = command("convert", tiny, "--to", "onnx", "--out", out, "--weights", "none", "--seed", "5", "--json")
        assert done.returncode == 0
        (record,) = json.loads(done.stdout)["files"]
        assert record.keys() == {
            "model", "target", "path", "manifest", "precision", "weights", "license", "size", "sha256", "checked",
            "snr_db", "max_abs_error", "top1_agreement", "quantization", "seconds",
        }  # fmt: skip
        assert record["quantization"] is None
        assert (record["path"], record["manifest"]) == (f"{out}/tiny.onnx", f"{out}/tiny.onnx.json")
        assert sorted(path.name for path in out.iterdir()) == ["tiny.onnx", "tiny.onnx.json"]
        manifest = Manifest.load(out / "tiny.onnx.json")
        assert (record["weights"], record["sha256"]) == (manifest.weights, manifest.file.sha256)
        assert record["weights"] == "random seed 5"
        assert record["snr_db"] >= 100
        assert done.stderr.splitlines() == [
            "tiny: fp32: export", "tiny: onnx: write", "tiny: onnx: check", "tiny: onnx: done",
        ]  # fmt: skip

    @pytest.mark.slow
    def test_table(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # a short path stays on one line
        result = run("convert", tiny, "--to", "onnx", "--out", "files", "--weights", "none", "--input-size", "64")
        assert result.exit_code == 0
        path, _, snr_db, _, agreement, _ = result.stdout.splitlines()[-1].split()
        assert path == "files/tiny.onnx"
        assert float(snr_db) >= 100
        assert agreement == "100%"
        assert Manifest.load(tmp_path / "files" / "tiny.onnx.json").inputs[0].shape == (1, 3, 64, 64)

    @pytest.mark.slow
    def test_quantized_file_tells_what_it_lost(self, tiny: Path, tmp_path: Path) -> None:
        words = ["convert", tiny, "--to", "onnx", "--out", tmp_path, "--weights", "none", "--precision", "mixed"]
        words += ["--keep", "stem", "--keep", "hea?", "--calibration", "digits", "--min-top1", "0.125", "--json"]
        result = run(*words)
        assert result.exit_code == 0
        (record,) = read_json(result)["files"]
        manifest = Manifest.load(tmp_path / "tiny.onnx.json").quantization
        assert manifest is not None
        assert record["quantization"] == manifest.model_dump(mode="json", exclude={"layers"})
        assert (manifest.threshold, manifest.evaluated, manifest.images) == (0.125, 360, 128)
        assert manifest.kept == ("head", "stem")

    @pytest.mark.slow
    def test_table_shows_the_agreement_of_a_quantized_file(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "4000")  # no path is wrapped
        words = ["convert", tiny, "--to", "onnx", "--out", tmp_path, "--weights", "none", "--precision", "int8"]
        result = run(*words)
        assert result.exit_code == 0
        manifest = Manifest.load(tmp_path / "tiny.onnx.json").quantization
        assert manifest is not None
        figures = result.stdout.splitlines()[-1].split()
        assert f"{manifest.sqnr_db:.1f}" in figures
        assert f"{manifest.top1_agreement:.0%}" in figures

    @pytest.mark.slow
    def test_options_reach_the_file(self, tiny: Path, tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("cat\ndog\n")
        options = ["--dynamic-batch", "--precision", "fp16", "--labels", labels, "--min-snr", "30"]
        assert run("convert", tiny, "--to", "onnx", "--out", tmp_path, "--weights", "none", *options).exit_code == 0
        manifest = Manifest.load(tmp_path / "tiny.onnx.json")
        assert (manifest.precision, manifest.outputs[0].shape) == ("fp16", ("batch", 2))
        assert manifest.parity.tolerances is not None
        assert manifest.parity.tolerances.min_snr_db == 30

    def test_file_that_fails_is_not_left(self, tiny: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        words = ["convert", tiny, "--to", "onnx", "--out", out, "--weights", "none", "--min-snr", "500", "--json"]
        result = run(*words)
        assert result.exit_code == 1
        (record,) = read_json(result)["files"]
        assert record["error"]["type"] == "ParityError"
        assert "the first diverging layer is " in record["error"]["message"]
        assert list(out.iterdir()) == []
        assert result.stderr.splitlines()[-1] == f"error: {record['error']['message']}"

    @pytest.mark.slow
    def test_one_bad_network_leaves_the_others(self, tiny: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.yaml"
        other.write_text(TINY.replace("name: tiny", "name: other").replace("k: 1, c: 16", "k: 1, c: 24"))
        model = create(tiny)
        randomize(model, 0)
        save(model, tmp_path / "tiny.safetensors")
        words = ["--to", "onnx", "--out", tmp_path, "--weights", tmp_path / "tiny.safetensors", "--json"]
        result = run("convert", other, tiny, *words)
        assert result.exit_code == 1
        bad, good = read_json(result)["files"]
        assert (bad["model"], bad["error"]["type"]) == (str(other), "WeightsError")
        assert good["path"] == f"{tmp_path}/tiny.onnx"

    @pytest.mark.executorch
    @pytest.mark.slow
    def test_one_bad_target_leaves_the_others(self, tiny: Path, tmp_path: Path) -> None:
        options = ["--out", tmp_path, "--weights", "none", "--opset", "3", "--json"]
        result = run("convert", tiny, "--to", "onnx", "executorch", *options)
        assert result.exit_code == 2
        bad, good = read_json(result)["files"]
        assert (bad["target"], bad["error"]["message"][:16]) == ("onnx", "opset cannot be ")
        assert (good["target"], good["path"]) == ("executorch", f"{tmp_path}/tiny.pte")
        assert sorted(path.name for path in tmp_path.glob("tiny.*")) == ["tiny.pte", "tiny.pte.json", "tiny.yaml"]

    def test_what_concerns_all_targets_is_said_once(self, tiny: Path, tmp_path: Path) -> None:
        labels = tmp_path / "labels.txt"
        labels.write_text("cat\ndog\n")
        model = create(tiny)
        save(model, tmp_path / "tiny.safetensors")
        words = ["--to", "onnx", "coreml", "--out", tmp_path, "--weights", tmp_path / "tiny.safetensors"]
        result = run("convert", tiny, *words, "--labels", labels, "--json")
        assert result.exit_code == 2
        assert [record["target"] for record in read_json(result)["files"]] == ["onnx", "coreml"]
        assert result.stderr.count("error: ") == 1


MISTAKES = [
    pytest.param(["convert", "fbnet_b", "--out", "d"], "Missing option '--to'", id="no-target"),
    pytest.param(["convert", "--to", "onnx", "--out", "d"], "Missing argument 'NAME'", id="no-name"),
    pytest.param(["convert", "fbnet_b", "--to", "tflite", "--out", "d"], "there is no target 'tflite'", id="target"),
    pytest.param(
        ["convert", "fbnet_b", "--to", "onnx", "--out", "d", "--image-input"],
        "image_input requires coreml, not onnx",
        id="not-taken",
    ),
    pytest.param(
        ["convert", "fbnet_b", "FBNetV3_A", "fbnetv3_a", "--to", "onnx", "--out", "d"],
        "FBNetV3_A and fbnetv3_a would be written to the same files",
        id="twins",
    ),
    pytest.param(["show", "fbnet_bb"], "no entry of the zoo is named 'fbnet_bb'; did you mean 'fbnet_b'?", id="name"),
    pytest.param(
        ["show", "fbnet_b", "--input-size", "0"], "input_size cannot be 0; expected a whole number", id="range"
    ),
    pytest.param(["show", "nowhere.yaml"], "cannot read nowhere.yaml", id="file"),
    pytest.param(["list", "--family", "resnet"], "'resnet' is not one of 'fbnet', 'chamnet'", id="choice"),
    pytest.param(["list", "--jsn"], "No such option: --jsn", id="option"),
    pytest.param(["lst"], "No such command 'lst'", id="command"),
    pytest.param(["predict", "fbnet_b"], "Missing argument 'IMAGE'; see 'fbnet-zoo predict --help'", id="missing"),
    pytest.param(["predict", "fbnet_b", PHOTOGRAPH, "--seed", "1"], "--seed is the seed of random weights", id="seed"),
    pytest.param(
        ["predict", "fbnet_dse", PHOTOGRAPH], "or use random weights: --weights none --seed 0", id="unpublished"
    ),
    pytest.param(["predict", "fbnet_b.fb_in1k", PHOTOGRAPH, "--weights", "b"], "give one of the two", id="two-tags"),
    pytest.param(
        ["predict", "fbnet_b", "--weights", "b.pth", PHOTOGRAPH, "a.jpg", "."],
        "a.jpg, .: no such file; expected paths of image files",  # said before b.pth is looked for
        id="images",
    ),
    pytest.param(
        ["predict", "fbnet_b", PHOTOGRAPH, "--weights", ""], "--weights is empty; give a tag", id="no-weights"
    ),
    pytest.param(["predict", "fbnet_b", PHOTOGRAPH, "--weights", "no.pth"], "no.pth is not a file", id="checkpoint"),
    pytest.param(["predict", "fbnet_b", "a.jpg", "--labels", "none.txt"], "none.txt: cannot be read", id="labels"),
]


class TestErrors:
    @pytest.mark.parametrize(("words", "sentence"), MISTAKES)
    def test_mistake_is_one_line_and_exit_code_2(self, words: list[str], sentence: str) -> None:
        result = CliRunner().invoke(app, words, prog_name="fbnet-zoo")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert sentence in result.stderr

    @pytest.mark.parametrize("words", [["show", "fbnet_bb", "--json"], ["list", "--family", "resnet", "--json"]])
    def test_json_of_a_mistake(self, words: list[str]) -> None:
        result = run(*words)
        error = read_json(result)["error"]
        assert error.keys() == {"type", "message", "exit_code"}
        assert error["exit_code"] == result.exit_code == 2
        assert result.stderr == f"error: {error['message']}\n"

    def test_broken_definition_names_the_line(self, tiny: Path) -> None:
        tiny.write_text(TINY.replace("e: 2", "expnsion: 2"))
        done = command("show", tiny)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {tiny}:11: unknown key 'expnsion'; did you mean 'expansion'?")
        assert done.stderr.count("\n") == 1

    def test_verbose_shows_where(self) -> None:
        done = command("show", "fbnet_bb", "--verbose")
        assert done.returncode == 2
        assert "Traceback (most recent call last)" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: no entry")

    def test_unreachable_weights_name_the_way_out(self, tmp_path: Path) -> None:
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
        done = command("predict", "fbnetv3_b_timm", photographs()[0], **offline)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: hf://timm/fbnetv3_b.ra2_in1k ")
        assert done.stderr.endswith("or use random weights: --weights none --seed 0\n")

    def test_defect_is_one_line_too(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("out of\norder")

        monkeypatch.setattr("fbnet_zoo.cli.app.cost", broken)
        result = run("show", tiny)
        assert result.exit_code == 1
        assert result.stderr == ("error: unexpected RuntimeError: out of order; this is a bug; --verbose shows where\n")

    def test_interrupt(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("fbnet_zoo.cli.app.cost", interrupted)
        result = run("show", tiny)
        assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


class TestProcess:
    @pytest.mark.parametrize(
        "words", first_is_quick([["show", "fbnetv3_a"], ["list"], ["--help"], ["convert", "--help"]])
    )
    def test_needs_no_torch(self, words: list[str]) -> None:
        code = (
            "import sys\nfrom fbnet_zoo.cli import main\n"
            "try:\n    main()\nfinally:\n    print(sorted({'torch', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert (done.returncode, done.stderr) == (0, "[]\n")

    def test_version(self) -> None:
        done = command("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, "fbnet-zoo 0.1.0\n", "")

    def test_nothing_said_is_a_question_for_help(self) -> None:
        done = command()
        assert done.returncode == 0
        assert "Usage" in done.stdout

    @pytest.mark.slow
    @pytest.mark.parametrize("columns", first_is_quick([80, 120]))
    def test_lines_fit_the_terminal(self, columns: int) -> None:
        listed = command("list", COLUMNS=str(columns))
        shown = command("show", "fbnetv3_b", COLUMNS=str(columns))
        lines = [*listed.stdout.splitlines(), *shown.stdout.splitlines()]
        assert max(len(line) for line in lines if "https://" not in line) <= columns
        assert "…" not in listed.stdout + shown.stdout

    @pytest.mark.slow
    def test_lines_of_a_pipe_have_120_columns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("COLUMNS")
        lines = command("show", "fbnetv3_b").stdout.splitlines()
        assert 80 < max(len(line) for line in lines if "https://" not in line) <= 120

    def test_no_colour_in_a_pipe(self) -> None:
        assert "\x1b" not in command("show", "fbnet_b").stdout

    @pytest.mark.slow
    def test_reader_that_leaves(self) -> None:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m fbnet_zoo list | head -1 >/dev/null"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stderr == ""

    @pytest.mark.slow
    def test_random_weights_are_quiet_on_stdout(self, tiny: Path) -> None:
        done = command("predict", tiny, photographs()[0], "--weights", "none", "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["model"] == "tiny"
        assert done.stderr == "warning: tiny has weights from random seed 0: its answers mean nothing\n"

    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("fbnet-zoo show fbnetv2_f", [f"fbnetv2_f{number}" for number in range(5)]),
            ("fbnet-zoo convert fbnet_b --to onnx --to corem", ["coreml"]),
        ],
    )
    def test_completion(self, line: str, offered: list[str]) -> None:
        position = str(len(line.split()) - 1)
        question = {"_FBNET_ZOO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": position}
        script = Path(sys.executable).with_name("fbnet-zoo")
        done = subprocess.run(
            [script], env=os.environ | question, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.stdout.split() == offered
