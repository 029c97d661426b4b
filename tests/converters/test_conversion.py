"""From a model to checked files with manifests, through the one function that does it all."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fbnet_zoo
from fbnet_zoo import arch_file
from fbnet_zoo.converters import to_onnx
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.conversion import convert, convert_each
from fbnet_zoo.converters.manifest import FileRecord, Manifest
from fbnet_zoo.converters.targets import TARGETS, find, make_options, require_libraries
from fbnet_zoo.errors import ConversionError, InputError, MissingExtraError, ParityError, UnknownNameError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import TINY

IMPOSSIBLE_DB = 290
NAME_FORM = "expected letters, digits, '_', '-' and '.', without a folder"


SMALLER = """\
name: tiny
family: fbnetv3
summary: "Smaller than the network of other tests, which show what the files compute."
input_size: 64
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  4:
    - {op: ir, k: 3, e: 2, c: 12, s: 2, se: 0.25}
    - {op: ir, k: 3, e: 2, c: 12, act: swish}
head: {op: conv, k: 1, c: 16}
classifier: linear
"""


@pytest.fixture
def tiny_model() -> FBNet:
    model = FBNet(arch_file.parse(SMALLER), num_classes=10)
    randomize(model, 0)
    return model.eval()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.onnx
class TestFiles:
    def test_file_and_manifest_lie_side_by_side(self, tiny_model: FBNet, tmp_path: Path) -> None:
        artifact = fbnet_zoo.convert(tiny_model, to="onnx", out=tmp_path / "new" / "folder")
        assert (artifact.target, artifact.path.name, artifact.manifest_path.name) == (
            "onnx",
            "tiny.onnx",
            "tiny.onnx.json",
        )
        assert names_in(tmp_path / "new" / "folder") == ["tiny.onnx", "tiny.onnx.json"]
        assert Manifest.load(artifact.manifest_path) == artifact.manifest

    def test_full_disk_is_refused_before_any_work(
        self, tiny_model: FBNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
        with pytest.raises(InputError, match=r"has 0\.0 MB left, but about 0\.\d MB are needed; free some space"):
            convert(tiny_model, to="onnx", out=tmp_path)
        assert names_in(tmp_path) == []

    def test_manifest_tells_what_can_be_verified(self, tiny_model: FBNet, tmp_path: Path) -> None:
        tiny_model.license = "CC0-1.0"
        artifact = convert(tiny_model, to="onnx", out=tmp_path, dynamic_batch=True)
        raw, record = artifact.path.read_bytes(), json.loads(artifact.manifest_path.read_text())
        assert record["file"] == {"file": "tiny.onnx", "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        assert (record["model"], record["target"], record["precision"]) == ("tiny", "onnx", "fp32")
        assert (record["weights"], record["license"], record["companions"]) == ("random seed 0", "CC0-1.0", [])
        image = {"name": "image", "shape": ["batch", 3, 64, 64], "dtype": "float32"}
        assert record["inputs"] == [image | {"layout": "NCHW", "channel_order": "rgb"}]
        logits = {"name": "logits", "shape": ["batch", 10], "dtype": "float32"}
        assert record["outputs"] == [logits | {"layout": "NC", "channel_order": None}]
        assert (record["preprocess"]["crop"], record["preprocess"]["mean"]) == (64, [0.485, 0.456, 0.406])
        assert record["versions"] == {
            "python": ".".join(map(str, sys.version_info[:3])),
            "fbnet_zoo": fbnet_zoo.__version__,
            **{library: version(library) for library in ("torch", "onnx", "onnxscript", "onnxruntime")},
        }
        age = datetime.now(UTC) - datetime.fromisoformat(record["created"])
        assert 0 <= age.total_seconds() < 600
        assert str(tmp_path) not in artifact.manifest_path.read_text()

    @pytest.mark.slow
    def test_manifest_holds_the_parity_of_every_case(self, tiny_model: FBNet, tmp_path: Path) -> None:
        parity = convert(tiny_model, to="onnx", out=tmp_path, dynamic_batch=True).manifest.parity
        assert parity.checked
        assert parity.runtime == f"onnxruntime {version('onnxruntime')}"
        assert [case.name for case in parity.cases][-1] == "coffee.jpg, rocket.jpg, zeros"
        assert parity.worst
        assert 100 < parity.worst.snr_db == min(case.snr_db for case in parity.cases)
        assert parity.worst.top1_agreement == 1

    @pytest.mark.slow
    def test_half_precision(self, tiny_model: FBNet, tmp_path: Path) -> None:
        manifest = convert(tiny_model, to="onnx", out=tmp_path, precision="fp16", name="tiny_fp16").manifest
        assert names_in(tmp_path) == ["tiny_fp16.onnx", "tiny_fp16.onnx.json"]
        assert manifest.precision == "fp16"
        assert manifest.inputs[0].dtype == manifest.outputs[0].dtype == "float32"
        assert manifest.parity.worst
        assert 40 < manifest.parity.worst.snr_db < 100

    @pytest.mark.parametrize(
        ("arguments", "options"),
        first_is_quick(
            [
                ({"in_chans": 1}, {}),
                ({"in_chans": 4}, {"batch": 2}),
                ({"num_classes": 0}, {}),
                ({}, {"batch": 4, "input_size": 96}),
            ]
        ),
    )
    def test_other_shapes(
        self, tiny_spec: ArchSpec, tmp_path: Path, arguments: dict[str, int], options: dict[str, Any]
    ) -> None:
        model = FBNet(tiny_spec, **{"num_classes": 5} | arguments)
        randomize(model, 1)
        artifact = convert(model, to="onnx", out=tmp_path, **options)
        batch, size = options.get("batch", 1), options.get("input_size", 64)
        assert artifact.manifest.inputs[0].shape == (batch, arguments.get("in_chans", 3), size, size)
        assert artifact.manifest.outputs[0].shape == (batch, arguments.get("num_classes", 5) or model.head_hidden_size)

    def test_model_stays_as_it_was_and_half_a_model_is_taken(self, tiny_model: FBNet, tmp_path: Path) -> None:
        convert(tiny_model.half().train(), to="onnx", out=tmp_path)
        assert tiny_model.training
        assert {value.dtype for value in tiny_model.parameters()} == {torch.float16}

    def test_progress(self, tiny_model: FBNet, tmp_path: Path) -> None:
        said: list[str] = []
        convert(tiny_model, to=["onnx"], out=tmp_path, progress=said.append)
        assert said == ["fp32: export", "onnx: write", "onnx: check", "onnx: done"]

    def test_file_computes_what_the_model_computes(self, tiny_model: FBNet, tmp_path: Path) -> None:
        artifact = convert(tiny_model, to="onnx", out=tmp_path)
        images = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
        with torch.no_grad():
            expected = tiny_model(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(to_onnx.load(artifact.path)(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.coreml
@pytest.mark.executorch
@pytest.mark.coreai
def test_all_formats_from_one_export(tiny_model: FBNet, tmp_path: Path) -> None:
    said: list[str] = []
    artifacts = convert(tiny_model, to=list(TARGETS), out=tmp_path, progress=said.append)
    assert [artifact.target for artifact in artifacts] == ["onnx", "coreml", "executorch", "coreai"]
    assert said.count("fp32: export") == 1
    files = ["tiny.aimodel", "tiny.mlpackage", "tiny.onnx", "tiny.pte"]
    assert names_in(tmp_path) == sorted([*files, *(f"{file}.json" for file in files)])
    for artifact in artifacts:
        assert artifact.manifest.parity.checked
        assert artifact.manifest.file == FileRecord.of(artifact.path)


def test_digest_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    def record(**files: str) -> FileRecord:
        folder = tmp_path / "-".join(f"{name}.{text}" for name, text in files.items()) / "package"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return FileRecord.of(folder)

    digests = [hashlib.sha256(text.encode()).hexdigest() for text in ("x", "yy")]
    expected = hashlib.sha256("".join(sorted(f"{d}  {n}\n" for d, n in zip(digests, "ab", strict=True))).encode())
    assert record(b="yy", a="x") == FileRecord(file="package", size=3, sha256=expected.hexdigest())
    assert record(a="x", c="yy").sha256 != expected.hexdigest()


class TestFailures:
    @pytest.mark.slow
    @pytest.mark.onnx
    def test_file_that_fails_is_not_left_and_an_older_one_stays(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with pytest.raises(
            ParityError, match=r"^tiny\.onnx does not compute what the model computes: .* expected at least 290"
        ):
            convert(tiny_model, to="onnx", out=tmp_path, min_snr_db=IMPOSSIBLE_DB)
        assert names_in(tmp_path) == []
        before = convert(tiny_model, to="onnx", out=tmp_path)
        with pytest.raises(ParityError, match="expected at least 290"):
            convert(tiny_model, to="onnx", out=tmp_path, min_snr_db=IMPOSSIBLE_DB)
        assert Manifest.load(before.manifest_path) == before.manifest
        assert FileRecord.of(before.path) == before.manifest.file
        assert len(names_in(tmp_path)) == 2

    @pytest.mark.onnx
    @pytest.mark.slow
    def test_files_before_the_one_that_fails_stay_and_those_after_are_tried(
        self, tiny_model: FBNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = replace(TARGETS["onnx"], name="broken", suffix="broken", module="tests.helpers.broken_target")
        other = replace(TARGETS["onnx"], name="other", suffix="other")
        monkeypatch.setitem(TARGETS, "broken", broken)
        monkeypatch.setitem(TARGETS, "other", other)
        first, second, third = convert_each(tiny_model, to=["onnx", "broken", "other"], out=tmp_path)
        assert isinstance(second, ParityError)
        assert [names_in(tmp_path)] == [["tiny.onnx", "tiny.onnx.json", "tiny.other", "tiny.other.json"]]
        assert not isinstance(first, Exception)
        assert not isinstance(third, Exception)

    @pytest.mark.onnx
    @pytest.mark.slow
    def test_layer_is_found_though_the_runtime_shows_nothing(
        self, tiny_model: FBNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = replace(TARGETS["onnx"], name="broken", suffix="broken", module="tests.helpers.broken_target")
        monkeypatch.setitem(TARGETS, "broken", broken)
        # the block with swish
        with pytest.raises(ParityError, match=r"; the first diverging layer is stages\.4\.1$"):
            convert(tiny_model, to="broken", out=tmp_path)

    def test_missing_library_is_told_before_any_work(self) -> None:
        target = replace(TARGETS["onnx"], libraries=("onnx_of_the_future",))
        with pytest.raises(
            MissingExtraError, match=r"^ONNX export needs onnx_of_the_future: pip install 'fbnet-zoo\[onnx\]'$"
        ):
            require_libraries(target)

    def test_weights_that_are_not_finite(self, tiny_model: FBNet, tmp_path: Path) -> None:
        tiny_model.stem.conv.weight.data.fill_(torch.inf)
        with pytest.raises(ConversionError, match="are all weights finite"):
            convert(tiny_model, to="onnx", out=tmp_path)
        assert names_in(tmp_path) == []


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from fbnet_zoo import arch_file
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import randomize

def progress(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

model = FBNet(arch_file.load(Path(sys.argv[1])), num_classes=10)
randomize(model, 0)
convert(model, to="onnx", out=sys.argv[2], progress=progress)
"""


@pytest.mark.onnx
@pytest.mark.parametrize(
    ("step", "left"),
    [("onnx: check", []), pytest.param("onnx: done", ["tiny.onnx", "tiny.onnx.json"], marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_killed_conversion_leaves_nothing_or_the_finished_file(
    tmp_path: Path, tiny_model: FBNet, step: str, left: list[str]
) -> None:
    definition = TINY
    done = subprocess.run([sys.executable, "-c", KILLED_AT, str(definition), str(tmp_path), step], check=False)
    assert done.returncode == -signal.SIGKILL
    remains = names_in(tmp_path)
    assert [name for name in remains if not name.startswith(".fbnet_zoo-")] == left
    assert len(remains) == len(left) + 1
    convert(tiny_model, to="onnx", out=tmp_path)
    assert names_in(tmp_path) == ["tiny.onnx", "tiny.onnx.json"]


class TestOptions:
    @pytest.mark.parametrize(
        ("to", "options", "sentence"),
        [
            ("onxx", {}, "there is no target 'onxx'; did you mean 'onnx'?"),
            ("tensorrt", {}, "there is no target 'tensorrt'; expected onnx, coreml, executorch, coreai"),
            ([], {}, "no target given; expected one or more of onnx, coreml, executorch, coreai"),
            ("onnx", {"optset": 20}, "there is no option 'optset'; did you mean 'opset'?"),
            ("onnx", {"image_input": True}, "image_input requires coreml, not onnx; leave it out"),
            (["coreml"], {"opset": 20}, "opset requires onnx, not coreml; leave it out"),
            ("onnx", {"precision": "fp61"}, "precision cannot be 'fp61'; did you mean 'fp16'?"),
            ("onnx", {"precision": "w8a16"}, "onnx does not support w8a16; expected fp32 or fp16 or int8 or mixed"),
            ("onnx", {"calibration": "digits"}, "calibration requires a quantized precision, not fp32; leave it out"),
            ("onnx", {"precision": "int8", "keep": ["stem"]}, "keep requires precision mixed, not int8; leave it out"),
            ("onnx", {"precision": "mixed", "keep": "stem"}, "keep cannot be the text 'stem'; expected a sequence"),
            ("onnx", {"precision": "mixed", "keep": ["stm"]}, "the network has no layer 'stm'; did you mean 'stem'?"),
            ("onnx", {"batch": 0}, "batch cannot be 0; expected a whole number from 1 to 64"),
            ("onnx", {"batch": "2"}, "batch cannot be '2'; expected a whole number from 1 to 64"),
            ("onnx", {"batch": 2, "dynamic_batch": True}, "batch 2 and dynamic_batch are mutually exclusive"),
            ("onnx", {"input_size": 4}, "input_size cannot be 4; expected a whole number from 8 to 4096"),
            ("onnx", {"labels": "labels.txt"}, "labels cannot be the text 'labels.txt'; expected a sequence of names"),
            ("onnx", {"labels": ["a"]}, "1 labels for 10 classes; expected one per class"),
            ("onnx", {"name": "a/b"}, f"name cannot be 'a/b'; {NAME_FORM}"),
            ("executorch", {"backend": "qnn"}, "backend cannot be 'qnn'; expected xnnpack or coreml or vulkan"),
        ],
    )  # fmt: skip
    def test_mistakes_are_told_in_one_sentence(
        self, tiny_model: FBNet, tmp_path: Path, to: Any, options: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(InputError) as caught:
            convert(tiny_model, to=to, out=tmp_path, **options)
        assert str(caught.value) == sentence
        assert names_in(tmp_path) == []

    def test_unknown_target_is_an_unknown_name(self) -> None:
        with pytest.raises(UnknownNameError, match="there is no target 'tflite'"):
            find(["onnx", "tflite"])

    @pytest.mark.parametrize("backend", ["coreml", "vulkan"])
    def test_files_that_nothing_here_can_run_need_a_word(self, backend: str) -> None:
        target = TARGETS["executorch"]
        with pytest.raises(InputError, match=r"cannot be checked .*--allow-unchecked"):
            make_options([target], {"backend": backend})
        assert make_options([target], {"backend": backend, "allow_unchecked": True}).backend == backend

    def test_an_option_of_one_target_passes_beside_others(self) -> None:
        options = make_options(find(["onnx", "coreml"]), {"opset": 21, "image_input": True})
        assert (options.opset, options.image_input) == (21, True)

    def test_table_names_options_and_modules_that_exist(self) -> None:
        for name, target in TARGETS.items():
            assert target.name == name
            assert target.options <= set(ConvertOptions.__dataclass_fields__)
            assert Path(fbnet_zoo.__file__).with_name("converters").joinpath(f"to_{name}.py").is_file()

    def test_target_that_occurs_twice_is_converted_once(self) -> None:
        assert find(["onnx", "onnx"]) == (TARGETS["onnx"],)


def test_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match=r"a\.json: not a manifest of this version of fbnet_zoo"):
        Manifest.load(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json"):
        Manifest.load(tmp_path / "b.json")
