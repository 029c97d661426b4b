"""ONNX files: what is in them, what is not, and what they compute."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fbnet_zoo._require import require
from fbnet_zoo.converters import to_onnx
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import deploy_form, export
from fbnet_zoo.errors import ConversionError, InputError
from fbnet_zoo.model import FBNet
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.onnx

LABELS = ("Käse", 'a "quoted" one', *"abcdefgh")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, 64, 64)).astype(np.float32)


@dataclass(frozen=True)
class File:
    """A file, its content, and what was returned about it."""

    path: Path
    content: Any
    facts: dict[str, Any]


@pytest.fixture(scope="module")
def plain(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> File:
    return write(shared_tiny_model, tmp_path_factory.mktemp("plain") / "tiny.onnx")


@pytest.fixture(scope="module")
def dynamic(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> File:
    return write(shared_tiny_model, tmp_path_factory.mktemp("dynamic") / "tiny.onnx", dynamic_batch=True)


def write(model: FBNet, path: Path, **options: Any) -> File:
    asked = ConvertOptions(**options)
    facts = to_onnx.write(export(model, asked), path, asked).facts
    return File(path, require("onnx", extra="onnx").load(path), facts)


def reference(model: FBNet, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


@pytest.mark.slow
def test_two_independent_runtimes_agree_with_the_model(shared_tiny_model: FBNet, plain: File) -> None:
    evaluator = require("onnx.reference", extra="onnx").ReferenceEvaluator(plain.content)
    batch = images(1)
    expected = reference(shared_tiny_model, batch)
    assert snr_db(expected, to_onnx.load(plain.path)(batch)) > 100
    assert snr_db(expected, evaluator.run(None, {"image": batch})[0]) > 100


def test_input_and_output(plain: File) -> None:
    graph = plain.content.graph
    assert [shape(value) for value in graph.input] == [("image", [1, 3, 64, 64], 1)]
    assert [shape(value) for value in graph.output] == [("logits", [1, 10], 1)]


@pytest.mark.slow
def test_input_and_output_of_a_batch(tiny_model: FBNet, tmp_path: Path) -> None:
    graph = write(tiny_model, tmp_path / "tiny.onnx", batch=2).content.graph
    assert [shape(value) for value in (*graph.input, *graph.output)] == [
        ("image", [2, 3, 64, 64], 1),
        ("logits", [2, 10], 1),
    ]


def shape(value: Any) -> tuple[str, list[int | str], int]:
    tensor = value.type.tensor_type
    return value.name, [size.dim_param or size.dim_value for size in tensor.shape.dim], tensor.elem_type


def test_dynamic_batch_has_a_name_and_works(shared_tiny_model: FBNet, dynamic: File) -> None:
    graph = dynamic.content.graph
    assert shape(graph.input[0])[1] == ["batch", 3, 64, 64]
    assert shape(graph.output[0])[1] == ["batch", 10]
    runner = to_onnx.load(dynamic.path)
    for count in (1, 3, 64):
        assert snr_db(reference(shared_tiny_model, images(count)), runner(images(count))) > 100


@pytest.mark.slow
def test_half_precision_takes_and_gives_float32(tiny_model: FBNet, tmp_path: Path) -> None:
    graph = write(tiny_model, tmp_path / "tiny.onnx", precision="fp16").content.graph
    assert shape(graph.input[0])[2] == shape(graph.output[0])[2] == 1
    weights = [tensor for tensor in graph.initializer if tensor.name.endswith(("weight", "bias"))]
    assert {tensor.data_type for tensor in weights} == {10}  # float16
    got = to_onnx.load(tmp_path / "tiny.onnx")(images(1))
    assert got.dtype == np.float32
    assert 40 < snr_db(reference(tiny_model, images(1)), got) < 100


def test_names_are_those_of_modules_and_parameters(shared_tiny_model: FBNet, plain: File) -> None:
    graph = plain.content.graph
    network, onnx = deploy_form(shared_tiny_model), require("onnx", extra="onnx")
    modules = {name for name, _ in network.named_modules()}
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    assert convolutions == [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert {name for name in names if name not in modules and name.rpartition(".")[0] not in modules} == set()
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(stored[name], value.numpy())


def test_nothing_of_the_exporting_machine_remains(dynamic: File) -> None:
    folder = dynamic.path.parent
    raw = dynamic.path.read_bytes()
    for path in (Path.cwd(), Path.home(), Path(torch.__file__).parent, ROOT, folder):
        assert str(path).encode() not in raw
    for word in (b"site-packages", b".py", b"stack_trace", b"forward"):
        assert word not in raw
    assert [file.name for file in folder.iterdir()] == ["tiny.onnx"]  # no external data
    graph = dynamic.content.graph
    assert not any(
        part.metadata_props or part.doc_string for part in (graph, *graph.node, *graph.input, *graph.value_info)
    )


def test_same_network_gives_the_same_bytes_in_silence(
    tiny_model: FBNet, plain: File, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    again = write(tiny_model, tmp_path / "tiny.onnx")
    assert again.path.read_bytes() == plain.path.read_bytes()
    to_onnx.load(again.path)(images(1))
    assert capfd.readouterr() == ("", "")


def test_metadata(tiny_model: FBNet, tmp_path: Path) -> None:
    tiny_model.license = "CC-BY-4.0"
    content = write(tiny_model, tmp_path / "tiny.onnx", labels=LABELS, input_size=96).content
    said = {entry.key: entry.value for entry in content.metadata_props}
    assert tuple(json.loads(said.pop("labels"))) == LABELS
    assert json.loads(said.pop("mean")) == [0.485, 0.456, 0.406]
    assert json.loads(said.pop("std")) == [0.229, 0.224, 0.225]
    assert said == {
        "name": "tiny",
        "weights": "random seed 0",
        "license": "CC-BY-4.0",
        "input_size": "96",
        "resize": "120",
        "interpolation": "bilinear",
        "channel_order": "rgb",
    }


@pytest.mark.slow
def test_what_is_not_known_is_not_said(tiny_model: FBNet, tmp_path: Path) -> None:
    tiny_model.weights = None
    content = write(tiny_model, tmp_path / "tiny.onnx").content
    assert not {entry.key for entry in content.metadata_props} & {"weights", "license", "labels"}


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 21])
def test_opset_is_the_one_that_was_asked_for(tiny_model: FBNet, tmp_path: Path, opset: int) -> None:
    file = write(tiny_model, tmp_path / "tiny.onnx", opset=opset)
    assert [(entry.domain, entry.version) for entry in file.content.opset_import] == [("", opset)]
    assert snr_db(reference(tiny_model, images(1)), to_onnx.load(file.path)(images(1))) > 100


@pytest.mark.slow
def test_opset_that_the_exporter_would_change_silently_is_refused(tiny_model: FBNet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^opset cannot be 17; expected at least 18 \(default: 20\)$"):
        write(tiny_model, tmp_path / "tiny.onnx", opset=17)
    with pytest.raises(
        ConversionError, match=r"(cannot be exported to ONNX|the exporter wrote ONNX opset|ONNX file of tiny)"
    ):
        write(tiny_model, tmp_path / "tiny.onnx", opset=90)
    assert not list(tmp_path.iterdir())


def test_facts(shared_tiny_model: FBNet, plain: File) -> None:
    facts, content = plain.facts, plain.content
    assert [(entry.domain, entry.version) for entry in content.opset_import] == [("", 20)]
    assert (facts["opset"], facts["ir_version"]) == (20, content.ir_version)
    assert sum(facts["operators"].values()) == len(content.graph.node)
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in shared_tiny_model.modules())
    assert facts["operators"]["Conv"] == convolutions + 1


def test_trace_ends_with_the_logits(plain: File) -> None:
    runner = to_onnx.load(plain.path)
    traced = dict(runner.trace(images(1)))
    assert list(traced)[-1] == "logits"
    np.testing.assert_allclose(traced["logits"], runner(images(1)), rtol=1e-4, atol=1e-6)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(ConversionError, match=r"^onnxruntime cannot load bad\.onnx: "):
        to_onnx.load(tmp_path / "bad.onnx")
