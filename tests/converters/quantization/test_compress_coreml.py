"""Core ML packages with fewer bits: what is compressed, by how much, and what that does to the answers."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from fbnet_zoo import registry
from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters import to_coreml
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.converters.mil import interpreter
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import Quantization, deploy_form, export
from fbnet_zoo.converters.quantization import compress_coreml
from fbnet_zoo.converters.quantization.calibration import CalibrationImages, PreparedImages
from fbnet_zoo.data import digits, load_batch, photographs
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import randomize
from tests.converters.mil.test_compressed import to_int8
from tests.helpers.marks import first_is_quick

pytestmark = pytest.mark.coreml

LABELS = tuple("abcdefghij")
KEPT = ("stages.4.1", "stages.8.0.se.reduce")


@dataclass(frozen=True)
class Package:
    """A package, and what was returned about it."""

    path: Path
    written: Written

    def operations(self) -> list[Any]:
        models = require("coremltools.models", extra="coreml")
        milproto = require("coremltools.converters.mil.frontend.milproto.load", extra="coreml")
        with quiet():
            package = models.MLModel(str(self.path), skip_model_load=True)
            spec = package.get_spec()
            main = milproto.load(spec, spec.specificationVersion, package.weights_dir).functions["main"]
        return list(main.operations)

    def convolutions(self) -> list[Any]:
        return [op for op in self.operations() if op.op_type == "conv"]


def calibration(images: Tensor) -> CalibrationImages:
    samples = PreparedImages(images=images.numpy(), source="the test's")
    return CalibrationImages(calibrate=samples, evaluate=samples)


def write(
    model: FBNet, path: Path, precision: str, images: Tensor, *, kept: tuple[str, ...] = (), **options: Any
) -> Package:
    quantization = Quantization(calibration=calibration(images), kept=frozenset(kept))
    program = replace(
        export(model, ConvertOptions(**options)),
        quantization=quantization if precision in {"int8", "mixed"} else None,
    )
    return Package(path, to_coreml.write(program, path, ConvertOptions(precision=precision, **options)))


@pytest.fixture(scope="module")
def train(trained_digits_model: FBNet) -> Tensor:
    return digits()[0].images(trained_digits_model.spec.eval_preprocess(), limit=40)


@pytest.fixture(scope="module")
def held_out(trained_digits_model: FBNet) -> tuple[Tensor, Tensor]:
    samples = digits()[1]
    return samples.images(trained_digits_model.spec.eval_preprocess()), samples.classes


@pytest.fixture(scope="module")
def files(
    trained_digits_model: FBNet, train: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Package]:
    """The network in a precision, written once."""
    folder, done = tmp_path_factory.mktemp("files"), dict[str, Package]()

    def file(precision: str) -> Package:
        if precision not in done:
            path, kept = folder / f"{precision}.mlpackage", KEPT if precision == "mixed" else ()
            done[precision] = write(trained_digits_model, path, precision, train, kept=kept, dynamic_batch=True)
        return done[precision]

    return file


def logits(model: nn.Module, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(images).numpy()


def answers(file: Package, images: Tensor) -> np.ndarray:
    runner = to_coreml.load(file.path)
    return np.concatenate([runner(batch.numpy()) for batch in images.split(64)])


class TestAnswers:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("precision", "minimum_db"),
        [
            pytest.param("w8a16", 30, marks=pytest.mark.slow),
            pytest.param("palette6", 30, marks=pytest.mark.slow),
            ("int8", 22),
            pytest.param("mixed", 22, marks=pytest.mark.slow),
        ],
    )
    def test_are_as_often_right(
        self,
        precision: str,
        minimum_db: float,
        files: Callable[[str], Package],
        held_out: tuple[Tensor, Tensor],
        trained_digits_model: FBNet,
    ) -> None:
        images, classes = held_out
        expected, got = logits(trained_digits_model, images), answers(files(precision), images)
        before, after = ((scores.argmax(1) == classes.numpy()).mean() for scores in (expected, got))
        assert before > 0.9
        assert after >= before - 0.02
        assert minimum_db <= snr_db(expected, got) < 60

    @pytest.mark.slow
    def test_of_a_package_for_photographs(self, trained_digits_model: FBNet, train: Tensor, tmp_path: Path) -> None:
        path = tmp_path / "net.mlpackage"
        file = write(trained_digits_model, path, "int8", train, image_input=True, labels=LABELS)
        assert [record.layout for record in file.written.inputs] == ["image"]
        expected = logits(trained_digits_model, train[:8])
        runner = to_coreml.load(path)
        got = np.concatenate([runner(image[None].numpy()) for image in train[:8]])
        assert 20 < snr_db(expected, got) < 60
        pixels = np.full((32, 32, 3), 128, np.uint8)
        outputs = interpreter.load(path).predict({"image": pixels})
        assert outputs["classLabel"].item() == LABELS[int(outputs["logits"].argmax())]
        np.testing.assert_allclose(outputs["classLabel_probs"].sum(), 1, rtol=1e-5)

    @pytest.mark.slow
    def test_hold_where_a_layer_is_silent(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with torch.no_grad():
            for parameter in tiny_model.stages["8"][0].se.reduce.parameters():
                parameter.zero_()
        images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        file = write(tiny_model, tmp_path / "net.mlpackage", "int8", images)
        got = to_coreml.load(file.path)(images[:1].numpy())
        assert snr_db(logits(tiny_model, images[:1]), got) > 10


class TestWeights:
    def test_of_8_bits_are_rounded_per_channel(
        self,
        files: Callable[[str], Package],
        held_out: tuple[Tensor, Tensor],
        trained_digits_model: FBNet,
    ) -> None:
        reference = copy.deepcopy(deploy_form(trained_digits_model))
        with torch.no_grad():
            for module in reference.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.copy_(to_int8(module.weight))
        images = held_out[0][:64]
        assert snr_db(logits(reference, images), answers(files("w8a16"), images)) > 45

    @pytest.mark.slow
    @pytest.mark.parametrize(("precision", "entries"), first_is_quick([("palette4", 16), ("palette6", 64)]))
    def test_of_a_palette_are_those_of_the_least_error(
        self, precision: str, entries: int, files: Callable[[str], Package], trained_digits_model: FBNet
    ) -> None:
        originals = [conv.weight for conv in convolutions(trained_digits_model).values()]
        compressed = 0
        for op, original in zip(files(precision).convolutions(), originals, strict=True):
            if op.weight.op.op_type != "constexpr_lut_to_dense":
                assert original.numel() <= 2048
                continue
            compressed += 1
            values = original.detach().numpy().reshape(-1, 1)
            got = op.weight.op.materialized_val_inference().astype(np.float32).reshape(-1, 1)
            assert len(np.unique(got)) <= entries
            other = KMeans(entries, n_init=1, random_state=1).fit(values)
            assert np.square(values - got).sum() <= 1.01 * other.inertia_
        assert compressed > 0

    @pytest.mark.slow
    def test_are_the_same_again(
        self, files: Callable[[str], Package], trained_digits_model: FBNet, train: Tensor, tmp_path: Path
    ) -> None:
        again = write(trained_digits_model, tmp_path / "again.mlpackage", "palette4", train, dynamic_batch=True)
        first, second = (next(file.path.rglob("weight.bin")).read_bytes() for file in (files("palette4"), again))
        assert first == second


def convolutions(model: FBNet) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in deploy_form(model).named_modules() if isinstance(module, nn.Conv2d)}


def input_ranges(model: FBNet, images: Tensor) -> list[tuple[float, float]]:
    """Smallest and largest input of every convolution, computed by PyTorch."""
    network, ranges = deploy_form(model), dict[str, tuple[float, float]]()

    def note(name: str, inputs: tuple[Tensor, ...]) -> None:
        ranges[name] = min(0.0, float(inputs[0].min())), float(inputs[0].max())

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _module, inputs, name=name: note(name, inputs))
    logits(network, images)
    return list(ranges.values())


def representable(file: Package) -> list[tuple[float, float]]:
    """Smallest and largest value that the 8 bits before every convolution stand for."""
    assert {op.x.op.op_type for op in file.convolutions()} == {"dequantize"}
    levels = [op.x.op for op in file.convolutions()]
    offsets = [0 if op.zero_point is None else int(op.zero_point.val) for op in levels]
    scales = [float(op.scale.val) for op in levels]
    return [((-128 - zero) * scale, (127 - zero) * scale) for zero, scale in zip(offsets, scales, strict=True)]


class TestActivations:
    @pytest.mark.slow
    def test_have_the_ranges_that_pytorch_sees(
        self, files: Callable[[str], Package], trained_digits_model: FBNet, train: Tensor
    ) -> None:
        # Behind the first layers the inputs themselves are of 8 bits in neither: ranges are those of the fp16 network.
        expected = input_ranges(trained_digits_model, train)
        for (low, high), (smallest, largest) in zip(expected, representable(files("int8")), strict=True):
            step = (largest - smallest) / 255
            assert largest - smallest == pytest.approx(max(high - low, 2**-6), rel=0.02)
            assert smallest == pytest.approx(low, abs=1.01 * step)

    @pytest.mark.slow
    def test_have_room_for_values_that_fp16_has_few_of(self, tiny_model: FBNet, tmp_path: Path) -> None:
        """In fp16, 128 times more than 512 is infinite: so would be the zero points that coremltools finds."""
        first, second = tiny_model.stages["8"]
        with torch.no_grad():
            first.project.bn.weight *= 60
            first.project.bn.bias.mul_(60).add_(300)
            second.expand.conv.weight /= 60
        images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        expected = input_ranges(tiny_model, images)
        assert any(low < -200 and high > 600 for low, high in expected)
        file = write(tiny_model, tmp_path / "net.mlpackage", "int8", images)
        for (low, high), (smallest, largest) in zip(expected, representable(file), strict=True):
            room = 0.02 * (largest - smallest)
            assert smallest - room <= low <= high <= largest + room

    def test_are_quantized_at_additions_too(self, files: Callable[[str], Package]) -> None:
        additions = [op for op in files("int8").operations() if op.op_type == "add"]
        assert len(additions) == 2
        for op in additions:
            assert [op.x.op.op_type, op.y.op.op_type] == ["dequantize", "dequantize"]

    @pytest.mark.slow
    def test_and_weights_of_kept_layers_stay(
        self, files: Callable[[str], Package], trained_digits_model: FBNet
    ) -> None:
        names = list(convolutions(trained_digits_model))
        mixed = files("mixed")
        weights = {name: op.weight.op.op_type for name, op in zip(names, mixed.convolutions(), strict=True)}
        inputs = {name: op.x.op.op_type for name, op in zip(names, mixed.convolutions(), strict=True)}
        kept = {name for name, kind in weights.items() if kind == "const"}
        assert kept == {f"stages.4.1.{part}.conv" for part in ("expand", "depthwise.0", "project")} | {KEPT[1]}
        assert {inputs[name] for name in names if name not in kept} == {"dequantize"}
        assert "dequantize" not in {inputs["stages.4.1.depthwise.0.conv"], inputs["stages.4.1.project.conv"]}
        first, second = (op for op in mixed.operations() if op.op_type == "add")
        assert (first.x.op.op_type, first.y.op.op_type) != ("dequantize", "dequantize")
        assert (second.x.op.op_type, second.y.op.op_type) == ("dequantize", "dequantize")

    @pytest.mark.slow
    def test_come_from_all_images_of_batches_that_are_not_full(
        self, trained_digits_model: FBNet, train: Tensor, tmp_path: Path
    ) -> None:
        images = torch.cat([train[:6], 2 * train[6:7]])
        file = write(trained_digits_model, tmp_path / "net.mlpackage", "int8", images, batch=3)
        (low, high), *_ = input_ranges(trained_digits_model, images)
        assert representable(file)[0] == pytest.approx((low, high), rel=0.02)


class TestDeploymentTarget:
    @pytest.mark.parametrize(
        ("precision", "expected"),
        first_is_quick([("int8", "iOS17"), ("w8a16", "iOS16"), ("palette4", "iOS16"), ("mixed", "iOS17")]),
    )
    def test_is_the_oldest_that_runs_it(self, precision: str, expected: str, files: Callable[[str], Package]) -> None:
        version = {"iOS16": 7, "iOS17": 8}[expected]
        facts = files(precision).written.facts
        assert (facts["deployment_target"], facts["specification_version"]) == (expected, version)

    @pytest.mark.parametrize(
        ("precision", "asked", "needed"),
        [
            ("int8", "iOS16", "int8 needs 8-bit activations, which iOS16 lacks; expected deployment_target iOS17 or"),
            ("mixed", "macOS13", "mixed needs 8-bit activations, which macOS13 lacks; "),
            (
                "palette6",
                "iOS15",
                "palette6 needs compressed weights, which iOS15 lacks; expected deployment_target iOS16",
            ),
        ],
    )
    def test_too_old_is_refused(
        self, precision: str, asked: str, needed: str, tiny_model: FBNet, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=rf"^{needed}"):
            write(tiny_model, tmp_path / "net.mlpackage", precision, torch.zeros(1), deployment_target=asked)

    @pytest.mark.slow
    def test_newer_has_newer_operations(
        self, trained_digits_model: FBNet, train: Tensor, held_out: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "net.mlpackage"
        file = write(trained_digits_model, path, "int8", train, deployment_target="iOS18", dynamic_batch=True)
        assert file.written.facts["operators"]["constexpr_blockwise_shift_scale"] == len(file.convolutions())
        images = held_out[0][:64]
        assert snr_db(logits(trained_digits_model, images), answers(file, images)) > 20


def test_facts_count_what_is_in_the_file(files: Callable[[str], Package]) -> None:
    file = files("int8")
    counted = Counter(op.op_type for op in file.operations() if op.op_type != "const")
    assert file.written.facts["operators"] == counted
    assert counted["quantize"] > len(file.convolutions())


@pytest.mark.slow
def test_manifest_tells_how_it_was_quantized(trained_digits_model: FBNet, tmp_path: Path) -> None:
    options = {"precision": "mixed", "calibration": "digits", "keep": ("stages.8.0.se",)}
    record = convert(trained_digits_model, to="coreml", out=tmp_path, **options).manifest.quantization
    assert record is not None
    assert record.scheme == compress_coreml.SCHEME
    assert record.kept == ("stages.8.0.se",)
    assert record.top1 >= record.fp32_top1 - 2
    kept = next(layer for layer in record.layers if layer.name == "stages.8.0.se")
    assert kept.sqnr_db > min(layer.sqnr_db for layer in record.layers)


@pytest.mark.slow
def test_nothing_is_printed(tiny_model: FBNet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    write(tiny_model, tmp_path / "int8.mlpackage", "int8", images)
    assert capfd.readouterr() == ("", "")


SMALLER: Mapping[str, float] = {"w8a16": 0.27, "palette6": 0.2, "palette4": 0.14, "int8": 0.3}


@pytest.mark.slow
def test_a_whole_network_shrinks(tmp_path: Path) -> None:
    model = FBNet(registry.get_spec("fbnet_b"))
    randomize(model, 0)
    images = load_batch(photographs(), model.spec.eval_preprocess())
    whole = FileRecord.of(write(model, tmp_path / "fp32.mlpackage", "fp32", images).path).size
    for precision, share in SMALLER.items():
        file = write(model, tmp_path / f"{precision}.mlpackage", precision, images)
        assert FileRecord.of(file.path).size <= share * whole
