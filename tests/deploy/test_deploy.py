"""Bundles: what is in them, that their code computes what PyTorch computes, and that damage is found."""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from fbnet_zoo import arch_file, get_spec
from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.cli.app import app
from fbnet_zoo.complexity import cost
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.data import load_image, photographs
from fbnet_zoo.deploy import card
from fbnet_zoo.deploy.build import deploy
from fbnet_zoo.deploy.labels import choose
from fbnet_zoo.deploy.options import DeployOptions
from fbnet_zoo.deploy.record import Bundle
from fbnet_zoo.deploy.reference import ReferenceImages, check_again, normalize
from fbnet_zoo.deploy.verification import verify
from fbnet_zoo.errors import DeviceLostError, InputError, ParityError
from fbnet_zoo.model import FBNet
from fbnet_zoo.zoo import transforms
from tests.helpers.paths import ROOT
from tests.helpers.surroundings import PATIENCE_S

DEFINITION = ROOT / "tests" / "data" / "tiny.yaml"
MODULES = ROOT / ".web"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LABELS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")

SNIPPETS = {
    "ios/Classifier.swift",
    "android/Classifier.kt",
    "onnx/classify.py",
    "onnx/classify.mjs",
    "onnx/classify.html",
}
TEXTS = {"labels.txt", "preprocessing.json", "definition.yaml", "MODEL_CARD.md", "LICENSE-weights.txt", "report.html"}
PACKAGE = "ios/Model.mlpackage/"
MODELS = {"android/model.pte", "onnx/model.onnx"}

pytestmark = [pytest.mark.onnx, pytest.mark.coreml, pytest.mark.executorch]


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle of the small network for every platform, and what the command printed."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    out = folder / "new" / "bundle"
    result = run(
        *("deploy", DEFINITION, "--weights", "none", "--labels", folder / "labels.txt", "--device", "host"),
        *("--target", "iphone", "android,onnx", "--out", out, "--json"),
    )
    assert result.exit_code == 0, result.stderr
    assert list(out.parent.iterdir()) == [out]  # nothing of the making is left
    return out, json.loads(result.stdout)


@pytest.fixture(scope="module")
def bundle(made: tuple[Path, dict[str, Any]]) -> Path:
    return made[0]


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(bundle, tmp_path / "bundle")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@torch.no_grad()
def scores_of(model: FBNet, picture: Path) -> np.ndarray:
    """Return what PyTorch says of a picture, prepared by torchvision."""
    return model(transforms(model)(load_image(picture))[None])[0].numpy()


class TestContents:
    def test_every_file_is_there(self, bundle: Path) -> None:
        found = files(bundle)
        package = {path for path in found if path.startswith(PACKAGE)}
        assert len(package) >= 3
        assert found - package == SNIPPETS | TEXTS | MODELS | {
            "manifest.json",
            "reference.safetensors",
            "measurements.jsonl",
        }

    def test_manifest_has_the_digest_of_every_other_file(self, bundle: Path) -> None:
        listed = json.loads((bundle / "manifest.json").read_text())["files"]
        assert listed == {
            path: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path in sorted(files(bundle) - {"manifest.json"})
            for content in [(bundle / path).read_bytes()]
        }

    def test_files_may_be_read_by_everyone_who_may_read_one(self, bundle: Path) -> None:
        assert len({(bundle / path).stat().st_mode for path in files(bundle)}) == 1

    def test_command_says_what_the_manifest_says(self, made: tuple[Path, dict[str, Any]]) -> None:
        out, said = made
        record = Bundle.load(out)
        assert said["bundle"] == str(out)
        assert [file["platform"] for file in said["files"]] == ["iphone", "android", "onnx"]
        for file, deployed in zip(said["files"], record.deployed, strict=True):
            assert Path(file["path"]) == out / deployed.path
            assert file["sha256"] == deployed.manifest.file.sha256
            assert deployed.manifest.file.file == Path(deployed.path).name
            assert file["snr_db"] > 100

    def test_what_the_device_runs_was_measured(self, made: tuple[Path, dict[str, Any]]) -> None:
        out, said = made
        assert [one.file for one in store.read(out / "measurements.jsonl")] == ["model.pte", "model.onnx"]
        assert [file["p50_ms"] is not None for file in said["files"]] == [False, True, True]
        assert "Not measured, because the device cannot run it: ios/Model.mlpackage." in said["notes"]

    def test_labels_definition_and_preprocessing(self, bundle: Path, shared_tiny_model: FBNet) -> None:
        assert (bundle / "labels.txt").read_text().splitlines() == list(LABELS)
        assert arch_file.load(bundle / "definition.yaml") == shared_tiny_model.spec
        said = json.loads((bundle / "preprocessing.json").read_text())
        assert {key: said[key] for key in ("resize", "crop", "order", "interpolation")} == {
            "resize": 80,
            "crop": 64,
            "order": "rgb",
            "interpolation": "bilinear",
        }
        assert said["files"]["ios/Model.mlpackage"]["inputs"][0]["layout"] == "image"
        assert said["files"]["onnx/model.onnx"]["inputs"][0]["shape"] == [1, 3, 64, 64]

    def test_reference_is_what_pytorch_says_of_the_photographs(self, bundle: Path, shared_tiny_model: FBNet) -> None:
        reference = ReferenceImages.load(bundle)
        preprocess = shared_tiny_model.spec.eval_preprocess()
        for picture, pixels, logits in zip(photographs(), reference.pixels, reference.logits, strict=True):
            prepared = transforms(shared_tiny_model)(load_image(picture)).numpy()
            assert np.abs(normalize(pixels[None], preprocess)[0] - prepared).max() < 1e-5
            assert snr_db(scores_of(shared_tiny_model, picture), logits) > 100

    def test_report_needs_nothing_from_outside(self, bundle: Path) -> None:
        page = (bundle / "report.html").read_text()
        assert "<svg" in page
        assert re.findall(r"""(?:src|href)=["']?(https?:[^"'\s>]+)""", page) == []


def test_python_snippet_scores_like_pytorch(bundle: Path, shared_tiny_model: FBNet, tmp_path: Path) -> None:
    """In a process of its own, from another folder, without this package."""
    blocked = tmp_path / "fbnet_zoo.py"
    blocked.write_text("raise ImportError('the snippet must not need fbnet_zoo')")
    pictures = [str(path) for path in photographs()]
    done = subprocess.run(
        [sys.executable, str(bundle / "onnx" / "classify.py"), *pictures, "--json", "--top", "3"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for picture, line in zip(photographs(), done.stdout.splitlines(), strict=True):
        said, scores = json.loads(line), scores_of(shared_tiny_model, picture)
        assert snr_db(scores, np.array(said["scores"])) > 100
        best = np.argsort(-scores)[:3]
        assert [guess["label"] for guess in said["classes"]] == [LABELS[index] for index in best]
        shares = np.exp(scores) / np.exp(scores).sum()
        assert [guess["probability"] for guess in said["classes"]] == pytest.approx(shares[best], rel=1e-5)


@pytest.mark.slow
def test_quantized_bundle_says_what_quantization_did(trained_digits_model: FBNet, tmp_path: Path) -> None:
    options = DeployOptions(to=("android", "onnx"), precision="int8", calibration="digits")
    record = deploy(trained_digits_model, options, out=tmp_path / "bundle")
    text = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    for deployed in record.deployed:
        quantized = deployed.manifest.quantization
        assert quantized is not None
        assert f"accuracy {quantized.fp32_top1:.1f} % before and {quantized.top1:.1f} % after" in text
        assert (deployed.snr_db, deployed.top1_agreement) == (quantized.sqnr_db, quantized.top1_agreement)
    _, findings = verify(tmp_path / "bundle")
    assert [finding.problem for finding in findings] == [None] * len(findings)
    reference = ReferenceImages.load(tmp_path / "bundle")
    ReferenceImages(pixels=reference.pixels, logits=reference.logits + 0.1 * reference.logits.std()).save(tmp_path)
    drifted = ReferenceImages.load(tmp_path)
    for deployed in record.deployed:
        with pytest.raises(ParityError, match="no longer computes what the model computes"):
            check_again(tmp_path / "bundle" / deployed.path, deployed.manifest, drifted, deployed.on_reference)


class _Handler(SimpleHTTPRequestHandler):
    """Serves a bundle as if what npm installed lay beside the page."""

    def translate_path(self, path: str) -> str:
        inside = path.partition("?")[0].removeprefix("/onnx/node_modules/")
        return super().translate_path(path) if inside == path else str(MODULES / "node_modules" / inside)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(bundle: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(bundle))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.web
@pytest.mark.skipif(BROWSER is None, reason="there is no browser; install the Debian package chromium")
@pytest.mark.skipif(not (MODULES / ".ready").exists(), reason="onnxruntime-web is not installed; run: make web")
def test_web_snippet_scores_like_pytorch(address: str, shared_tiny_model: FBNet, tmp_path: Path) -> None:
    picture = tmp_path / "rocket.png"  # which every decoder gives the same pixels for
    load_image(photographs()[1]).save(picture)
    page = f"{address}/onnx/classify.html"
    drive = ROOT / "tests" / "web" / "drive.mjs"
    command = ["node", str(drive), str(MODULES), str(BROWSER), page, str(picture), str(tmp_path / "page.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    said, scores = json.loads(done.stdout), scores_of(shared_tiny_model, picture)
    assert said["problems"] == []
    assert np.abs(scores - said["scores"]).max() < 1e-3 * np.abs(scores).max()
    shares = np.exp(scores) / np.exp(scores).sum()
    best = np.argsort(-scores)[:5]
    assert [[share, label] for share, label, _ in said["guesses"]] == [
        [f"{shares[index]:.1%}".replace("%", " %"), LABELS[index]] for index in best
    ]
    assert all(url.startswith(address) for url in said["requested"])
    with Image.open(tmp_path / "page.png") as screenshot:
        assert screenshot.size == (760, 720)


class TestVerify:
    def test_untouched(self, bundle: Path) -> None:
        result = run("verify", bundle, "--json")
        assert result.exit_code == 0, result.stderr
        said = json.loads(result.stdout)
        assert said["ok"] is True
        digests = {finding["path"] for finding in said["findings"] if finding["check"] == "digest"}
        assert digests == files(bundle) - {"manifest.json"}
        assert [finding["path"] for finding in said["findings"] if finding["snr_db"] and finding["snr_db"] > 100] == [
            "ios/Model.mlpackage",
            "android/model.pte",
            "onnx/model.onnx",
        ]

    def test_damage_in_any_file_is_found(self, copied: Path) -> None:
        """One bit, in the middle of each file in turn."""
        for path in sorted(files(copied)):
            content = (copied / path).read_bytes()
            middle = len(content) // 2
            (copied / path).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            result = run("verify", copied)
            (copied / path).write_bytes(content)
            (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
            assert (result.exit_code, path in line) == (2 if path == "manifest.json" else 1, True), line

    def test_missing_and_extra_files_are_named(self, copied: Path) -> None:
        (copied / "labels.txt").rename(copied / "onnx" / "labels.txt")
        (copied / "ios" / "link").symlink_to("nowhere")
        result = run("verify", copied)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-3:] == [
            "error: ios/link is not part of the bundle",
            "error: labels.txt is missing",
            "error: onnx/labels.txt is not part of the bundle",
        ]

    def test_network_that_computes_something_else(self, copied: Path, tiny_model: FBNet) -> None:
        """A bundle that is whole, but whose reference is another network's."""
        with torch.no_grad():
            tiny_model.classifier.weight.mul_(1.001)
        record = Bundle.load(copied)
        ReferenceImages.of(tiny_model, record.deployed[0].manifest.preprocess).save(copied)
        content = (copied / "reference.safetensors").read_bytes()
        entry = record.files["reference.safetensors"].model_copy(
            update={"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        )
        record.model_copy(update={"files": record.files | {"reference.safetensors": entry}}).save(copied)
        result = run("verify", copied)
        assert result.exit_code == 1
        errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 3
        for path, line in zip(("ios/Model.mlpackage", "android/model.pte", "onnx/model.onnx"), errors, strict=True):
            assert re.search(
                rf"^error: {path} no longer computes .* 6\d\.\d dB on the photographs, expected at least 100\.0 dB",
                line,
            )

    def test_folder_that_is_no_bundle(self, tmp_path: Path) -> None:
        result = run("verify", tmp_path)
        assert result.exit_code == 2
        assert (
            "manifest.json: cannot be read: No such file or directory; expected the folder of a bundle" in result.stderr
        )


class TestPlace:
    """Where a bundle may be put, and what is there when its making fails."""

    @pytest.mark.slow
    def test_existing_bundle_is_kept_unless_forced(self, copied: Path, shared_tiny_model: FBNet) -> None:
        before = (copied / "manifest.json").read_bytes()
        options = DeployOptions(to=("onnx",), labels=LABELS)
        with pytest.raises(InputError, match="a bundle already exists; replace it with --force"):
            deploy(shared_tiny_model, options, out=copied)
        assert (copied / "manifest.json").read_bytes() == before
        deploy(shared_tiny_model, options, out=copied, force=True)
        assert {path.split("/")[0] for path in files(copied)} == {
            "onnx",
            "manifest.json",
            "reference.safetensors",
            *TEXTS,
        }
        assert list(copied.parent.iterdir()) == [copied]

    @pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
    def test_folder_with_something_else_is_never_replaced(
        self, name: str, shared_tiny_model: FBNet, tmp_path: Path
    ) -> None:
        (tmp_path / name).write_text("{}")
        with pytest.raises(InputError, match=r"exists and is not a bundle|not a bundle's manifest"):
            deploy(shared_tiny_model, DeployOptions(to=("onnx",)), out=tmp_path, force=True)
        assert files(tmp_path) == {name}

    @pytest.mark.slow
    def test_failure_at_the_very_end_leaves_nothing(self, shared_tiny_model: FBNet, tmp_path: Path) -> None:
        class Unplugged(HostDevice):
            def run(self, *_: Any, **__: Any) -> Measurement:
                raise DeviceLostError("the cable is out")

        with pytest.raises(DeviceLostError, match="the cable is out"):
            deploy(shared_tiny_model, DeployOptions(to=("onnx",)), out=tmp_path / "bundle", device=Unplugged())
        assert list(tmp_path.iterdir()) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (("--target", "andriod"), "there is no target 'andriod'; did you mean 'android'?"),
            (("--target", "onnx", "--precision", "int9"), "Invalid value for '--precision': 'int9' is not one of"),
            (("--target", "onnx", "--precision", "palette4"), "onnx does not support palette4; expected fp32 or fp16"),
            (
                ("--target", "iphone", "--device", "host"),
                "the device host runs no file for iphone; expected ios or mac",
            ),
            (("--target", "onnx", "--device", "hots"), "there is no device 'hots'; did you mean 'host'?"),
            (("--target", "onnx", "--labels", "no.txt"), "no.txt: cannot be read: No such file or directory"),
            (("--target", "onnx", "--labels", "imagenet", "--input-size", "4"), "input_size cannot be 4"),
        ],
    )
    def test_one_line_before_anything_is_done(
        self, words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = run("deploy", DEFINITION, "--weights", "none", "--out", "bundle", *words)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(f"error: {sentence}")
        assert list(tmp_path.iterdir()) == []

    def test_networks_that_are_no_classifiers_of_color_images(self, tmp_path: Path) -> None:
        spec = arch_file.load(DEFINITION)
        for model, problem in (
            (FBNet(spec, num_classes=0), "has no classes"),
            (FBNet(spec, in_chans=1), "has 1 input channels; a bundle requires 3"),
        ):
            with pytest.raises(InputError, match=problem):
                deploy(model, DeployOptions(to=("onnx",)), out=tmp_path / "bundle")


class TestLabels:
    def test_imagenet_for_1000_classes(self) -> None:
        chosen = choose(None, 1000)
        assert len(set(chosen.names)) == 1000
        assert chosen.names[967] == "espresso"
        assert "no names were given" in chosen.source
        assert choose("imagenet", 1000).names == chosen.names

    def test_numbers_for_others(self) -> None:
        assert choose(None, 3).names == ("class 0", "class 1", "class 2")

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            (("a", "b"), "2 labels for 3 classes"),
            ("imagenet", "1000 labels for 3 classes"),
            (("a", "b", "a"), "the label 'a' is repeated"),
            (("a", "b\nc", "d"), "is not a single line"),
        ],
    )
    def test_refused(self, given: Any, problem: str) -> None:
        with pytest.raises(InputError, match=problem):
            choose(given, 3)


@pytest.fixture(scope="module")
def facts(bundle: Path) -> card.Facts:
    spec, record = get_spec("fbnet_b"), Bundle.load(bundle)
    return card.Facts(
        spec=spec,
        cost=cost(spec),
        weights="fb_in1k",
        license="CC-BY-NC-4.0",
        preprocess=spec.eval_preprocess(),
        classes=1000,
        labels="ImageNet-1k",
        deployed=record.deployed,
        measurements=store.read(bundle / "measurements.jsonl"),
        created=record.created,
    )


class TestCard:
    """What a bundle says to people, also of networks whose weights are not at hand here."""

    def test_published_weights(self, facts: card.Facts) -> None:
        text = card.model_card(facts)
        assert "| Parameters | 4,818,216 |" in text
        assert "arXiv:1812.03443" in text
        assert "reports a top-1 accuracy of 74.5441 % on ImageNet-1k" in text
        assert "Not for commercial use." in text
        assert "The license of the weights does not allow commercial use." in text
        assert f"from {facts.spec.weights[0].source}." in text
        assert all(sentence in text for sentence in facts.spec.deviations)

    def test_random_weights(self, facts: card.Facts) -> None:
        text = card.model_card(replace(facts, weights="random seed 0", license=None))
        assert "the predictions of this network are meaningless" in text
        assert "commercial" not in text
        assert "Random numbers" in text

    def test_parity_and_latency_are_those_of_the_records(self, facts: card.Facts) -> None:
        text = card.model_card(facts)
        for deployed in facts.deployed:
            worst = deployed.manifest.parity.worst
            (line,) = (line for line in text.splitlines() if f"| `{deployed.path}` |" in line)
            assert f"| {worst.snr_db:.1f} |" in line
        for measured in facts.measurements:
            (line,) = (line for line in text.splitlines() if f"| `{measured.file}` |" in line)
            assert f"| {np.median(measured.samples_ms):.2f} |" in line
            assert str(measured.date.date()) in line
        assert "Not measured" in card.model_card(replace(facts, measurements=()))

    def test_tables_are_whole(self, facts: card.Facts) -> None:
        tables = re.findall(r"(?:^\|.*\n)+", card.model_card(facts), re.MULTILINE)
        assert len(tables) == 3
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1
            assert len(table.splitlines()) > 2

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("CC-BY-NC-4.0", "- Not for commercial use."),
            ("apache-2.0", "- Include the license text with the weights"),
            ("Custom 1.0", "Read it at the source of the weights before you use or share them."),
            (None, "The license of these weights is not stated."),
        ],
    )
    def test_license(self, name: str | None, sentence: str, facts: card.Facts) -> None:
        text = card.license_text(replace(facts, license=name))
        assert sentence in text
        assert f"Weights of fbnet_b: fb_in1k\nSource: {facts.spec.weights[0].source}\n" in text
        assert "\n\n\n" not in text
