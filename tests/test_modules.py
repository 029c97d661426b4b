"""The module is believed, not its plan: every public entrance with networks as their users change and wrap them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations, prune

import fbnet_zoo
from fbnet_zoo import weights
from fbnet_zoo.converters import convert
from fbnet_zoo.converters.conversion import convert_each
from fbnet_zoo.deploy import DeployOptions, deploy
from fbnet_zoo.errors import FbnetZooError, InputError, ParityError, WeightsError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.modules import in_channels, num_outputs, plain_copy
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize

CLASSES = 5


def images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))


def compiled(network: FBNet) -> nn.Module:
    return torch.compile(network, backend="eager")


def averaged(network: FBNet) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(network)


def twice(network: FBNet) -> nn.Module:
    return torch.compile(nn.DataParallel(network), backend="eager")


def compiled_inside(network: FBNet) -> nn.Module:
    network.stages["4"] = torch.compile(network.stages["4"], backend="eager")
    return network


def pruned(network: FBNet) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.1)
    return network


def parametrized(network: FBNet) -> nn.Module:
    parametrizations.weight_norm(network.stem.get_submodule("conv"))
    return network


def synchronized(network: FBNet) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def own_head(network: FBNet) -> nn.Module:
    linear = nn.Linear(network.head_hidden_size, CLASSES)
    network.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), linear)
    return network


def deep_head(network: FBNet) -> nn.Module:
    features = network.head_hidden_size
    network.classifier = nn.Sequential(nn.Flatten(), nn.Linear(features, 7), nn.ReLU(), nn.Linear(7, CLASSES))
    return network


def gray(network: FBNet) -> nn.Module:
    stem: Any = network.stem
    old = stem.conv
    stem.conv = nn.Conv2d(1, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)
    return network


@dataclass(frozen=True)
class Change:
    """Something that is done to a network of ten classes, and what is left of it."""

    make: Callable[[FBNet], nn.Module]
    classes: int = 10
    channels: int = 3
    unlike: str | None = None  # what no file of weights and no bundle can hold

    def __str__(self) -> str:
        return self.make.__name__


CHANGES = [
    *(Change(make) for make in (compiled, nn.DataParallel, averaged, twice, compiled_inside)),
    *(Change(make) for make in (pruned, parametrized, synchronized)),
    Change(own_head, classes=CLASSES),
    Change(deep_head, classes=CLASSES, unlike="there is classifier.1.weight"),
    Change(gray, channels=1),
]


@pytest.fixture
def network(tiny_spec: ArchSpec) -> FBNet:
    network = FBNet(tiny_spec, num_classes=10)
    randomize(network, 0)
    return network.eval()


@pytest.fixture(params=CHANGES, ids=str)
def change(request: pytest.FixtureRequest) -> Change:
    return request.param


@torch.no_grad()
def logits(module: nn.Module, change: Change) -> torch.Tensor:
    return plain_copy(module).eval()(images(change.channels))


class TestEntrances:
    """What each entrance does with each change."""

    def test_shapes_are_those_of_the_module(self, network: FBNet, change: Change) -> None:
        module = change.make(network)
        assert (in_channels(module), num_outputs(module, 64)) == (change.channels, change.classes)

    def test_transforms(self, network: FBNet, change: Change) -> None:
        prepared = fbnet_zoo.transforms(change.make(network))(Image.new("RGB", (80, 72), (10, 200, 30)))
        assert prepared.shape == (change.channels, 64, 64)

    @pytest.mark.onnx
    @pytest.mark.parametrize(
        "change",
        [pytest.param(each, marks=() if each.make is own_head else pytest.mark.slow) for each in CHANGES],
        indirect=True,
        ids=str,
    )
    def test_convert(self, network: FBNet, change: Change, tmp_path: Path) -> None:
        module = change.make(network)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        manifest = convert(module, to="onnx", out=tmp_path, batch=2).manifest
        assert manifest.inputs[0].shape == (2, change.channels, 64, 64)
        assert manifest.outputs[0].shape == (2, change.classes)
        assert manifest.parity.checked
        after = module.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())

    def test_save_and_load(self, network: FBNet, change: Change, tmp_path: Path) -> None:
        module, path = change.make(network), tmp_path / "saved.safetensors"
        if change.unlike:
            with pytest.raises(WeightsError, match=f"this tiny differs from its definition: .*{change.unlike}"):
                weights.save(module, path)
            assert not path.exists()
            return
        weights.save(module, path)
        again = FBNet(network.spec, num_classes=change.classes, in_chans=change.channels)
        weights.load(nn.DataParallel(again), path)
        torch.testing.assert_close(logits(again, change), logits(module, change), rtol=1e-4, atol=1e-4)

    def test_fuse(self, network: FBNet, change: Change) -> None:
        module = change.make(network)
        inner: Any = module
        while not isinstance(inner, FBNet):
            inner = next(inner.children())
        folded = inner.fuse()
        assert not [name for name, each in folded.named_modules() if "BatchNorm" in type(each).__name__]
        with torch.no_grad():
            got = folded(images(change.channels))
        torch.testing.assert_close(got, logits(module, change), rtol=1e-3, atol=1e-3)

    def test_a_bundle_takes_it_or_says_what_differs(self, network: FBNet, change: Change, tmp_path: Path) -> None:
        module, options = change.make(network), DeployOptions(to=("onnx",), labels=("one",))
        expected = (
            "1 input channels"
            if change.channels == 1
            else change.unlike or f"1 labels for {change.classes} classes; expected one per class"
        )
        with pytest.raises(InputError, match=expected):
            deploy(module, options, out=tmp_path / "bundle")

    def test_input_format_of_training(self, network: FBNet, change: Change) -> None:
        from fbnet_zoo.datasets import open_dataset
        from fbnet_zoo.train import inputs_of

        assert inputs_of(change.make(network), open_dataset("digits")).channels == change.channels


@pytest.mark.parametrize("entrance", ["transforms", "convert", "save", "load", "deploy"])
def test_what_is_no_network_of_ours_is_refused(entrance: str, tmp_path: Path) -> None:
    other = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 8, 3)))
    calls: dict[str, Callable[[], object]] = {
        "transforms": lambda: fbnet_zoo.transforms(other),
        "convert": lambda: list(convert_each(other, to=["onnx"], out=tmp_path)),
        "save": lambda: weights.save(other, tmp_path / "w.safetensors"),
        "load": lambda: weights.load(other, tmp_path / "w.safetensors"),
        "deploy": lambda: deploy(other, DeployOptions(to=("onnx",)), out=tmp_path / "b"),
    }
    with pytest.raises(InputError, match="expected a network that create returns; got Sequential"):
        calls[entrance]()
    assert not list(tmp_path.iterdir())


class TestChangesThatCannotBeUndone:
    def test_a_fused_network_is_not_saved(self, network: FBNet, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="this tiny is fused"):
            weights.save(network.fuse(), tmp_path / "w.safetensors")

    def test_other_shapes_are_named(self, network: FBNet, tmp_path: Path) -> None:
        stem: Any = network.stem
        stem.conv = nn.Conv2d(3, 99, 3, 2, 1, bias=False)
        with pytest.raises(WeightsError, match=r"stem\.conv\.weight is \(99, 3, 3, 3\), not \("):
            weights.save(network, tmp_path / "w.safetensors")

    def test_weights_are_not_loaded_into_a_pruned_network(self, network: FBNet, tmp_path: Path) -> None:
        weights.save(network, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"there is stem\.conv\.weight_orig"):
            weights.load(pruned(network), tmp_path / "w.safetensors")

    def test_a_head_that_does_not_run_is_explained(self, network: FBNet, tmp_path: Path) -> None:
        network.classifier = nn.Linear(network.head_hidden_size + 1, 3)
        with pytest.raises(FbnetZooError, match=r"does not run on an image of 3 x 64 x 64: .*nn\.Flatten\(\)"):
            convert(network, to="onnx", out=tmp_path)

    def test_a_head_of_the_other_kind_is_explained(self, network: FBNet, tmp_path: Path) -> None:
        network.classifier = nn.Conv2d(network.head_hidden_size, 3, 1)
        with pytest.raises(FbnetZooError, match=r"conv2d.* a classifier of your own gets \(N, features\), or"):
            convert(network, to="onnx", out=tmp_path)

    def test_features_are_no_classes(self, network: FBNet) -> None:
        with pytest.raises(InputError, match=r"outputs \(N, 16, 8, 8\) and \(N, 24, 4, 4\), expected one tensor"):
            num_outputs(FeatureExtractor(network, out_indices=2), 64)

    def test_a_batch_norm_without_statistics_is_not_folded(self, network: FBNet) -> None:
        stem: Any = network.stem
        stem.bn.running_mean = stem.bn.running_var = None
        with pytest.raises(InputError, match="without running statistics cannot be folded"):
            network.fuse()


def test_copying_leaves_the_module_as_it_is(network: FBNet) -> None:
    module = pruned(compiled_inside(network))
    expected = copy.deepcopy({name: value.detach() for name, value in module.state_dict().items()})
    plain = plain_copy(module)
    assert plain.state_dict().keys() == FBNet(network.spec, num_classes=10).state_dict().keys()
    assert module.state_dict().keys() == expected.keys()
    assert prune.is_pruned(module)


FEATURE_TARGETS = [
    pytest.param("onnx", marks=pytest.mark.onnx),
    pytest.param("executorch", marks=[pytest.mark.executorch, pytest.mark.slow]),
    pytest.param("coreml", marks=[pytest.mark.coreml, pytest.mark.slow]),
    pytest.param("coreai", marks=[pytest.mark.coreai, pytest.mark.slow]),
]


class TestFeatures:
    @pytest.mark.parametrize("target", FEATURE_TARGETS)
    def test_every_level_is_an_output(self, network: FBNet, target: str, tmp_path: Path) -> None:
        features = FeatureExtractor(network, out_indices=(1, -1))
        artifact = convert(nn.DataParallel(features), to=target, out=tmp_path)
        assert artifact.path.stem == "tiny_features"
        with torch.no_grad():
            expected = features.eval()(images()[:1])
        outputs = artifact.manifest.outputs
        assert [output.shape for output in outputs] == [tuple(each.shape) for each in expected]
        assert [output.name for output in outputs] == [
            level.module.replace(".", "_") for level in features.feature_info
        ]
        assert {output.layout for output in outputs} == {"NCHW"}
        assert artifact.manifest.parity.checked

    @pytest.mark.onnx
    @pytest.mark.slow
    def test_the_file_computes_the_features(self, network: FBNet, tmp_path: Path) -> None:
        import onnxruntime

        features = FeatureExtractor(network)
        artifact = convert(features, to="onnx", out=tmp_path, dynamic_batch=True, precision="fp16")
        session = onnxruntime.InferenceSession(artifact.path)
        with torch.no_grad():
            expected = features.eval()(images())
        for value, reference in zip(session.run(None, {"image": images().numpy()}), expected, strict=True):
            assert value.shape == tuple(reference.shape)
            assert np.abs(value - reference.numpy()).max() < 0.03 * reference.abs().max()

    @pytest.mark.onnx
    @pytest.mark.slow
    def test_an_error_names_the_layer(self, network: FBNet, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match=r"tiny_features\.onnx does not compute.*: output [12], expected"):
            convert(FeatureExtractor(network, out_indices=2), to="onnx", out=tmp_path, min_snr_db=250.0)

    @pytest.mark.parametrize(
        ("options", "named"),
        [({"precision": "int8"}, "precision int8"), ({"labels": ("a", "b")}, "labels")],
    )
    def test_what_only_a_classifier_has_is_refused(
        self, network: FBNet, tmp_path: Path, options: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(InputError, match=f"{named} requires a classifier"):
            convert(FeatureExtractor(network), to="onnx", out=tmp_path, **options)
