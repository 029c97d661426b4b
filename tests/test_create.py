"""`create` and `transforms`: names, options, features and dilation as in timm."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import fbnet_zoo
from fbnet_zoo import weights
from fbnet_zoo.errors import InputError, UnknownNameError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.checkpoint_files import TimmCheckpoint, image, relative_error, timm_with
from tests.helpers.paths import TINY


def test_names_aliases_and_paths() -> None:
    assert fbnet_zoo.create("fbnet_a").spec == fbnet_zoo.get_spec("fbnet_a")
    assert fbnet_zoo.create("FBNetV2_F0").spec.name == "fbnetv2_f0"
    for path in (TINY, str(TINY)):
        network = fbnet_zoo.create(path)
        assert (type(network), network.spec.name, network.weights, network.license) == (FBNet, "tiny", None, None)
    with pytest.raises(UnknownNameError, match="did you mean 'fbnet_a'"):
        fbnet_zoo.create("fbnet_aa")


def test_options_reach_the_network() -> None:
    network = fbnet_zoo.create(TINY, num_classes=7, in_chans=1, drop_rate=0.3, drop_path_rate=0.2, output_stride=8)
    assert network.eval()(image(64, channels=1)).shape == (2, 7)
    assert network.dropout.p == 0.3
    assert network.forward_features(image(64, channels=1)).shape[2:] == (8, 8)
    rates = [module.rate for module in network.modules() if type(module).__name__ == "DropPath"]
    assert rates == sorted(rates)
    assert 0 < rates[-1] <= 0.2


def test_random_networks_follow_the_seed_of_torch() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(fbnet_zoo.create(TINY).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["stem.conv.weight"], states[2]["stem.conv.weight"])


def test_network_with_weights_can_be_trained(tiny_model: FBNet, tmp_path: Path) -> None:
    weights.save(tiny_model, tmp_path / "a.safetensors")
    network = fbnet_zoo.create(TINY, tmp_path / "a.safetensors", num_classes=10)
    assert network.training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(image(64)).square().sum().backward()
    optimizer.step()
    same = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
    assert not [name for name in same if name.endswith("weight")]  # a bias before another batch norm has no gradient
    counters = {int(value) for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert len(counters) == 1


def test_the_classes_are_those_of_the_weights(tiny_model: FBNet, tmp_path: Path, caplog: Any) -> None:
    weights.save(tiny_model, tmp_path / "ten.safetensors")
    tiny_model.reset_classifier(0)
    weights.save(tiny_model, tmp_path / "none.safetensors")
    for name, classes in (("ten", 10), ("none", 0)):
        network = fbnet_zoo.create(TINY, tmp_path / f"{name}.safetensors").eval()
        assert network.plan.num_classes == classes
        assert network(image(64)).shape == (2, classes or network.head_hidden_size)
    assert not caplog.records
    assert fbnet_zoo.create(TINY, tmp_path / "ten.safetensors", num_classes=0).plan.num_classes == 0
    assert fbnet_zoo.create(TINY, tmp_path / "ten.safetensors", num_classes=1000).plan.num_classes == 1000
    assert "has 10 classes: the classifier of 1000 is initialized" in caplog.text
    assert fbnet_zoo.create(TINY).plan.num_classes == 1000


def test_two_networks_of_one_file_share_nothing(tiny_model: FBNet, tmp_path: Path) -> None:
    torch.save(tiny_model.state_dict(), tmp_path / "a.pth")
    one, two = (fbnet_zoo.create(TINY, tmp_path / "a.pth", num_classes=10) for _ in range(2))
    with torch.no_grad():
        for value in one.state_dict().values():
            value.zero_()
    assert all(torch.equal(value, tiny_model.state_dict()[name]) for name, value in two.state_dict().items())


def test_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"fbnet_c\.fb_in1k already names weights, but pretrained is 'a.pth'; give only one"
    ):
        fbnet_zoo.create("fbnet_c.fb_in1k", "a.pth")
    with pytest.raises(InputError, match="out_indices requires features_only=True"):
        fbnet_zoo.create(TINY, out_indices=(0,))
    with pytest.raises(InputError, match="output_stride cannot be 4"):
        fbnet_zoo.create(TINY, output_stride=4)
    with pytest.raises(InputError, match="is not a file"):
        fbnet_zoo.create(TINY, tmp_path / "missing.pth")
    for nothing in ("", None):
        with pytest.raises(InputError, match=f"^weights cannot be {nothing!r}; expected a tag"):
            fbnet_zoo.create(TINY, nothing)  # type: ignore[call-overload]
    for wrong in (3, fbnet_zoo.get_spec(TINY)):
        with pytest.raises(
            InputError, match=f"^expected the name or path of a definition; got {type(wrong).__name__}$"
        ):
            fbnet_zoo.create(wrong)


def test_features_do_without_the_classifier_of_a_checkpoint(tiny_model: FBNet, tmp_path: Path, caplog: Any) -> None:
    torch.save(tiny_model.state_dict(), tmp_path / "a.pth")
    network = fbnet_zoo.create(TINY, tmp_path / "a.pth", features_only=True).eval()
    compare(network(image(64)), FeatureExtractor(tiny_model)(image(64)))
    assert network.weights == "a.pth"
    assert not caplog.records


# As timm


@pytest.mark.parametrize("output_stride", [16, 8])
@torch.no_grad()
def test_dilated_network_equals_that_of_timm(output_stride: int, timm_checkpoint: TimmCheckpoint) -> None:
    path = timm_checkpoint("fbnetc_100")[1]
    reference = timm_with(path, "fbnetc_100", bn_eps=1e-5, output_stride=output_stride)
    network = fbnet_zoo.create("fbnetc_100", path, output_stride=output_stride).eval()
    assert network.forward_features(image(96)).shape[-1] == 96 // output_stride
    assert relative_error(network(image(96)), reference(image(96))) <= 1e-5


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@torch.no_grad()
def test_features_equal_those_of_timm(output_stride: int, timm_checkpoint: TimmCheckpoint) -> None:
    path = timm_checkpoint("fbnetc_100")[1]
    reference = timm_with(path, "fbnetc_100", bn_eps=1e-5, output_stride=output_stride, features_only=True)
    network = fbnet_zoo.create("fbnetc_100", path, output_stride=output_stride, features_only=True).eval()
    assert type(network) is FeatureExtractor
    assert network.weights == path.name
    assert [level.channels for level in network.feature_info] == reference.feature_info.channels()
    assert [level.output_stride for level in network.feature_info] == reference.feature_info.reduction()
    compare(network(image(96)), reference(image(96)))


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@torch.no_grad()
def test_features_of_a_pooled_network_equal_those_of_timm(output_stride: int, timm_checkpoint: TimmCheckpoint) -> None:
    """Timm counts the expansion of the head as the last level of features."""
    path = timm_checkpoint("fbnetv3_b")[1]
    reference = timm_with(path, "fbnetv3_b", output_stride=output_stride, features_only=True)
    network = fbnet_zoo.create("fbnetv3_b_timm", path, output_stride=output_stride).eval()
    features = FeatureExtractor(network).eval()(image(96))
    compare([*features[:-1], network.head.expand(features[-1])], reference(image(96)))


@torch.no_grad()
def test_chosen_levels(timm_checkpoint: TimmCheckpoint) -> None:
    path = timm_checkpoint("fbnetc_100")[1]
    reference = timm_with(path, "fbnetc_100", bn_eps=1e-5, features_only=True, out_indices=(1, 3))
    network = fbnet_zoo.create("fbnetc_100", path, features_only=True, out_indices=(1, 3)).eval()
    compare(network(image(96)), reference(image(96)))


def compare(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) <= 1e-5


# Transforms


def test_transform_is_that_of_the_weights(tmp_path: Path) -> None:
    own, published = PreprocessSpec(resize=40, crop=32), PreprocessSpec(resize=64, crop=64, mean=(0, 0, 0))
    path = tmp_path / "tiny.yaml"
    entry = '{tag: a, source: "hf://a/b", layout: fbnet_zoo, license: MIT'
    path.write_text(
        TINY.read_text(encoding="utf-8")
        + f"preprocess: {{resize: 40, crop: 32}}\nweights:\n  - {entry}, preprocess: {{resize: 64, crop: 64, "
        f"mean: [0.0, 0.0, 0.0]}}}}\n  - {entry.replace('tag: a', 'tag: b')}}}\n",
        encoding="utf-8",
    )
    spec = fbnet_zoo.get_spec(path)
    network = FBNet(spec)
    photograph = Image.effect_noise((80, 60), 90).convert("RGB")
    assert_transforms_as(fbnet_zoo.transforms(network), own, photograph)
    for default in (path, str(path), spec):
        assert_transforms_as(fbnet_zoo.transforms(default), published, photograph)
    for tag, expected in [
        ("a", published),
        ("a, adapted stem, new classifier", published),
        ("b", own),
        ("ab, new classifier", own),
        ("random seed 1", own),
    ]:
        network.weights = tag
        assert_transforms_as(fbnet_zoo.transforms(network), expected, photograph)
        assert_transforms_as(fbnet_zoo.transforms(FeatureExtractor(network)), expected, photograph)


def test_transform_of_a_name_with_a_tag() -> None:
    photograph = Image.new("RGB", (400, 300))
    assert fbnet_zoo.transforms("fbnetv3_b_timm.ra2_in1k")(photograph).shape == (3, 224, 224)
    assert fbnet_zoo.transforms("FBNetV3_G")(photograph).shape == (3, 320, 320)
    with pytest.raises(UnknownNameError, match="has no weights 'ra_in1k'; did you mean 'ra2_in1k'"):
        fbnet_zoo.transforms("fbnetv3_b_timm.ra_in1k")


def assert_transforms_as(transform: Any, preprocess: PreprocessSpec, photograph: Image.Image) -> None:
    assert torch.equal(transform(photograph), eval_transform(preprocess)(photograph))
