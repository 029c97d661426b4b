"""Networks in the hands of PyTorch's, torchvision's and timm's tools, which know PyTorch's classes and timm's names."""

import copy
import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, fx, nn
from torch.ao.quantization import fuse_modules, quantize_dynamic

import fbnet_zoo
from fbnet_zoo import planner, weights
from fbnet_zoo._require import torchvision
from fbnet_zoo.errors import InputError
from fbnet_zoo.layers import walk
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.registry import get_spec, list_models
from fbnet_zoo.spec import ArchSpec
from tests.helpers.checkpoint_files import relative_error, timm
from tests.helpers.families import smallest_of_each

SIZE = 64
ODD = ["fbnetv3_a", "fbnetv3_b", "fbnetv3_c", "fbnetv3_e", "fbnetv3_f"]
ODD += [f"{name}_gpu" for name in ODD]

deprecated = pytest.mark.filterwarnings(
    "ignore:`torch.jit.(script|load|save)` is (deprecated|not supported)",
    "ignore:torch.ao.quantization is deprecated:DeprecationWarning",
    "ignore:torch.quantize_per_tensor:UserWarning",
)


def images(count: int = 1) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=smallest_of_each())
def network(request: pytest.FixtureRequest) -> FBNet:
    """A network of each family; leave it as it is."""
    built = FBNet(get_spec(request.param), num_classes=10)
    weights.randomize(built, 0)
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def logits(network: FBNet) -> Tensor:
    return network(images())


@pytest.fixture(scope="module")
def features(network: FBNet) -> list[Tensor]:
    return FeatureExtractor(network)(images())


# PyTorch


def test_layers_are_those_of_pytorch(network: FBNet) -> None:
    layers = [type(each) for each in network.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    assert set(layers) <= {nn.Conv2d, nn.BatchNorm2d, nn.Linear}


def test_symbolic_trace(network: FBNet, logits: Tensor, features: list[Tensor]) -> None:
    traced = fx.symbolic_trace(network)
    assert torch.equal(traced(images()), logits)
    assert all(map(torch.equal, fx.symbolic_trace(FeatureExtractor(network))(images()), features))


@deprecated
def test_script(network: FBNet, logits: Tensor, tmp_path: Path) -> None:
    torch.jit.script(network).save(str(tmp_path / "network.pt"))
    assert relative_error(torch.jit.load(str(tmp_path / "network.pt"))(images()), logits) < 1e-5


@deprecated
@pytest.mark.slow
def test_script_of_features(network: FBNet, features: list[Tensor]) -> None:
    scripted = torch.jit.script(FeatureExtractor(network, (0, -1)))
    assert [
        relative_error(*pair) < 1e-5 for pair in zip(scripted(images()), features[:: len(features) - 1], strict=True)
    ]


@deprecated
def test_script_in_training(tiny_spec: ArchSpec) -> None:
    scripted = torch.jit.script(FBNet(tiny_spec, drop_path_rate=0.5, drop_rate=0.1).train())
    assert scripted(images(2)).shape == (2, 1000)


@deprecated
def test_fuse_modules(network: FBNet, logits: Tensor) -> None:
    pairs = [
        [f"{name}.conv", f"{name}.bn"]
        for name, module in network.named_modules()
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d)
    ]
    fused = fuse_modules(network, pairs)
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    assert relative_error(fused(images()), logits) < 1e-4


@deprecated
def test_quantize_dynamic(network: FBNet, logits: Tensor) -> None:
    quantized = quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    assert isinstance(
        quantized.classifier, nn.Conv2d if network.plan.classifier == "conv" else torch.ao.nn.quantized.dynamic.Linear
    )
    assert relative_error(quantized(images()), logits) < 0.1


# torchvision


def test_create_feature_extractor(network: FBNet, features: list[Tensor]) -> None:
    extraction = torchvision("torchvision.models.feature_extraction")
    names = network.feature_info.module_name()
    taken = extraction.create_feature_extractor(network, names[1:])(images())
    assert all(torch.equal(taken[name], feature) for name, feature in zip(names[1:], features[1:], strict=True))


def test_backbone_with_pyramid(network: FBNet, features: list[Tensor]) -> None:
    utils = torchvision("torchvision.models.detection.backbone_utils")
    body = nn.Sequential(OrderedDict(stem=network.stem, **network.stages))
    names = list(network.stages)[-3:]
    levels = dict(zip(names, "abc", strict=True))
    backbone = utils.BackboneWithFPN(body, levels, network.feature_info.channels()[-3:], 16)
    assert all(map(torch.equal, backbone.body(images()).values(), features[-3:]))
    pyramid = backbone(images())
    assert [level.shape[1:] for level in pyramid.values()][:3] == [(16, *level.shape[2:]) for level in features[-3:]]
    whole = utils.BackboneWithFPN(network, {"stages": "c"}, [network.num_features], 16)
    assert torch.equal(whole.body(images())["c"], features[-1])


# timm


def test_number_of_classes(tiny_spec: ArchSpec) -> None:
    network = FBNet(tiny_spec, num_classes=7)
    assert network.num_classes == 7
    network.reset_classifier(3)
    assert network.num_classes == 3 == len(network.get_classifier().weight)


def test_feature_info(network: FBNet, features: list[Tensor]) -> None:
    info = network.feature_info
    assert info.channels() == [feature.shape[1] for feature in features]
    assert info.reduction() == [level.output_stride for level in info]
    assert (info.channels(-1), info.reduction([0, -1])) == (
        network.num_features,
        [info[0].output_stride, info[-1].output_stride],
    )
    assert [network.get_submodule(name) for name in info.module_name()][-1] is list(network.stages.values())[-1]
    assert FeatureExtractor(network, 2).feature_info.reduction() == info.reduction()[-2:]


def test_forward_intermediates(network: FBNet, features: list[Tensor]) -> None:
    last, found = network.forward_intermediates(images())
    assert torch.equal(last, features[-1])
    assert all(map(torch.equal, found, features))
    found = network.forward_intermediates(images(), [-1, 1], norm=True, output_fmt="NCHW", intermediates_only=True)
    assert all(map(torch.equal, found, (features[1], features[-1])))
    assert all(map(torch.equal, network.forward_intermediates(images(), 2)[1], features[-2:]))
    stopped, found = network.forward_intermediates(images(), [0], stop_early=True)
    assert torch.equal(stopped, features[0])
    assert torch.equal(found[0], features[0])


@pytest.mark.parametrize("indices", [7, 0, True, [7], [], "1"])
def test_levels_that_are_none(network: FBNet, indices: object) -> None:
    with pytest.raises(InputError, match=r"^indices cannot be .* levels; expected a list of at least one index from 0"):
        network.forward_intermediates(images(), indices)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^output_fmt cannot be 'NLC'; expected 'NCHW'$"):
        network.forward_intermediates(images(), output_fmt="NLC")


def test_checkpointed_training_is_the_same(tiny_spec: ArchSpec) -> None:
    """Gradients and statistics; the forward of each block runs twice, so its activations were not kept."""
    torch.manual_seed(0)
    plain = FBNet(tiny_spec, drop_path_rate=0.3, num_classes=10)
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    runs: dict[FBNet, int] = {}
    batch = torch.rand(4, plain.plan.stem.in_channels, SIZE, SIZE)
    for network in (plain, saving):
        runs[network] = 0
        counted = network.stages["16"][0].expand

        def count(*_: object, network: FBNet = network) -> None:
            runs[network] += 1

        counted.register_forward_pre_hook(count)
        torch.manual_seed(1)
        network(batch).square().sum().backward()
    assert runs == {plain: 1, saving: 2}
    for ours, theirs in zip(saving.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for name, value in saving.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    with torch.no_grad():
        saving.eval()(batch)
    assert runs[saving] == 3
    saving.set_grad_checkpointing(False)
    saving(batch)
    assert runs[saving] == 4


def test_learning_rates_by_depth(network: FBNet) -> None:
    network = copy.deepcopy(network).requires_grad_(True)
    timm()
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(network, layer_decay=0.5)
    scales = {id(value): group["lr_scale"] for group in groups for value in group["params"]}
    blocks = [block for stage in network.stages.values() for block in stage if list(block.parameters())]
    parts = [network.stem, *blocks, nn.ModuleList([network.head, network.classifier])]
    for depth, part in enumerate(reversed(parts)):
        assert {scales[id(value)] for value in part.parameters()} == {0.5**depth}


@pytest.mark.parametrize("name", list_models())
def test_pretrained_cfg(name: str) -> None:
    spec = get_spec(name)
    with torch.device("meta"):
        network = FBNet(spec, num_classes=3, init=False)
    timm()
    from timm.data import resolve_data_config

    images = spec.eval_preprocess(None)
    for model in (network, FeatureExtractor(network)):
        found = resolve_data_config(model=model)
        assert found["input_size"] == (3, images.crop, images.crop)
        assert math.floor(images.crop / found["crop_pct"]) == images.resize
        assert (found["interpolation"], found["crop_mode"]) == (images.interpolation, "center")
        assert sorted(found["mean"]) == sorted(images.mean)
    assert network.pretrained_cfg["num_classes"] == 3


def test_transforms_of_timm(network: FBNet) -> None:
    timm()
    from timm.data import create_transform, resolve_data_config

    photograph = Image.effect_noise((500, 400), 90).convert("RGB")
    found = create_transform(**resolve_data_config(model=network))(photograph)
    if network.spec.eval_preprocess(None).order == "bgr":
        found = found.flip(-3)
    assert torch.allclose(found, fbnet_zoo.transforms(network)(photograph), atol=1e-5)


# Building


def test_values_are_drawn_in_the_order_of_the_layers_and_no_others(tiny_spec: ArchSpec) -> None:
    torch.manual_seed(3)
    network = FBNet(tiny_spec)
    after = torch.rand(1)
    torch.manual_seed(3)
    for name, module in network.named_modules():
        if name == "classifier":
            bound = module.weight.shape[1] ** -0.5
            expected = torch.empty(module.weight.shape).uniform_(-bound, bound)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
            expected = torch.empty(module.weight.shape).normal_(0, math.sqrt(2 / fan_out))
        else:
            continue
        assert torch.equal(module.weight, expected), name
    assert torch.equal(torch.rand(1), after)


def test_building_without_values_draws_none(tiny_spec: ArchSpec) -> None:
    torch.manual_seed(0)
    FBNet(tiny_spec, init=False)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_weights_of_a_seed_do_not_depend_on_dropping(tiny_spec: ArchSpec) -> None:
    states = []
    for rate in (0.0, 0.5, 0.5):
        network = FBNet(tiny_spec, drop_path_rate=rate, drop_rate=rate)
        state = torch.get_rng_state()
        weights.randomize(network, 4)
        assert torch.equal(torch.get_rng_state(), state)
        assert network.training
        states.append(network.state_dict())
    assert all(torch.equal(value, other[name]) for other in states[1:] for name, value in states[0].items())


# Sizes


def is_aligned(name: str) -> bool:
    layers = walk(planner.plan(get_spec(name)), 224)
    return all(layer.size_out == math.ceil(layer.size_in / layer.stride) for layer in layers if layer.type == "conv")


def test_entries_with_smaller_maps_say_so_and_name_one_without() -> None:
    assert {name for name in list_models() if not is_aligned(name)} == set(ODD)
    for name in ODD:
        (sentence,) = [text for text in get_spec(name).deviations if "feature maps are smaller than" in text]
        (other,) = [word for word in sentence.split() if word in list_models()]
        assert is_aligned(other)
    assert "deviations" in (FBNet.forward_features.__doc__ or "")


@pytest.mark.parametrize("name", ["fbnetv3_a", "fbnetv3_f"])
def test_image_that_is_too_small(name: str) -> None:
    with torch.device("meta"):
        network = FBNet(get_spec(name), init=False).eval()
        smallest = next(size for size in range(1, 99) if fits(name, size))
        assert network(torch.empty(1, 3, smallest, smallest + 5)).shape == (1, 1000)
        extractor = FeatureExtractor(network)
        for call in (network, network.forward_features, network.forward_intermediates, extractor):
            with pytest.raises(InputError) as caught:
                call(torch.empty(1, 3, smallest + 9, smallest - 1))
            size = f"{smallest - 1} x {smallest + 9}"
            expected = f"expected at least {smallest} px on each side"
            assert str(caught.value) == f"an image of {size} px is too small for {name}; {expected}"
        first = FeatureExtractor(network, (0, 1))
        assert len(first(torch.empty(1, 3, 1, 1))) == 2


def fits(name: str, size: int) -> bool:
    try:
        return bool(list(walk(planner.plan(get_spec(name)), size)))
    except InputError:
        return False
