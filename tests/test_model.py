"""Networks: every entry of the zoo once through its paces, each option on a few."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo import arch_file, weights
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.registry import get_spec
from fbnet_zoo.spec import ArchSpec
from tests.helpers import layer_rows
from tests.helpers.families import FEW, all_or_few

SIZE = 96
"""One or two of each family: relu and hard-swish, shuffles, squeeze-excite, bare depthwise, fused blocks."""

ZERO_GAMMAS = {
    facts["entry"]: ["bn0" in row.split() for row in facts["layers"] if {"bn", "bn0"} & set(row.split())]
    for facts in layer_rows.load("mobile_cv.json").values()
}


def images(size: int = SIZE, count: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def random_network(entry: str | ArchSpec) -> FBNet:
    network = FBNet(entry if isinstance(entry, ArchSpec) else get_spec(entry))
    weights.randomize(network, seed=0)
    return network.eval()


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@dataclass
class Entry:
    """A network of the zoo with random values, and which of its gammas were 0 when it was new."""

    network: FBNet
    zero_gammas: list[bool]
    logits: Tensor


@pytest.fixture(scope="module", params=all_or_few())
def entry(request: pytest.FixtureRequest) -> Entry:
    network = FBNet(get_spec(request.param))
    gammas = [module.weight for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    zero_gammas = [not gamma.any() for gamma in gammas]
    weights.randomize(network, seed=0)
    network.eval().requires_grad_(False)
    return Entry(network, zero_gammas, network(images()))


class TestEveryEntry:
    def test_zero_init(self, entry: Entry) -> None:
        expected = ZERO_GAMMAS.get(entry.network.spec.name, [False] * len(entry.zero_gammas))
        assert entry.zero_gammas == expected

    def test_logits(self, entry: Entry) -> None:
        assert entry.logits.shape == (2, 1000)
        assert entry.logits.isfinite().all()
        assert entry.logits.std(0).mean() > 0.01, "the image makes no difference"

    def test_forward_is_features_then_head(self, entry: Entry) -> None:
        features = entry.network.forward_features(images())
        assert features.shape[:2] == (2, entry.network.num_features)
        assert torch.equal(entry.network.forward_head(features), entry.logits)
        pooled = entry.network.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, entry.network.head_hidden_size)
        classifier = entry.network.get_classifier()
        by_hand = pooled @ classifier.weight.flatten(1).T + classifier.bias
        assert relative_error(by_hand, entry.logits) < 1e-5

    def test_features(self, entry: Entry) -> None:
        extractor = FeatureExtractor(entry.network)
        features = extractor(images())
        info = extractor.feature_info
        assert [level.output_stride for level in info] == sorted({level.output_stride for level in info})
        stages = [stage.output_stride for stage in entry.network.spec.stages]
        assert [level.output_stride for level in info][-3:] == stages[-3:]
        for level, feature in zip(info, features, strict=True):
            assert feature.shape[:2] == (2, level.channels)
            assert 0 <= SIZE / level.output_stride - feature.shape[-1] <= 1  # as released, V3 loses a row or two
        assert torch.equal(features[-1], entry.network.forward_features(images()))

    def test_fuse(self, entry: Entry) -> None:
        fused = entry.network.fuse()
        calm = images() / 4  # random deep networks amplify the rounding of stronger noise
        assert relative_error(fused(calm), entry.network(calm)) < 1e-5
        assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
        assert torch.equal(entry.network(images()), entry.logits), "the network itself has changed"


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", FEW)
def test_dilated_features(name: str, output_stride: int) -> None:
    """They are as large as those of the level that has the output stride, and their parameters are the same."""
    plain = layer_rows.on_meta(get_spec(name))
    network = layer_rows.on_meta(get_spec(name), output_stride=output_stride)
    levels = FeatureExtractor(network)(torch.zeros(1, 3, SIZE, SIZE, device="meta"))
    strides = [level.output_stride for level in network.feature_info]
    assert max(strides) == output_stride
    assert levels[-1].shape[-1] == levels[strides.index(output_stride)].shape[-1]
    assert levels[-1].shape[1] == plain.num_features
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in plain.state_dict().items()}


CORNERS = """\
name: corners
family: fbnet
summary: "What a stride that is left out must not change: no residual, no identity, the place of the second kernel."
input_size: 128
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  4:
    - {k: 3, e: 2, c: 8, s: 2}
  8:
    - {op: fused_ir, k: 3, e: 2, c: 8, s: 2}
  16:
    - {k: 5, e: 2, c: 8, s: 2, dw: 2}
    - {k: 3, e: 1, c: 8, r: 2}
  32:
    - {op: skip, c: 8, s: 2}
    - {k: 3, e: 2, c: 16, pad: 0}
    - {op: conv, k: 3, c: 16}
head: {op: conv, k: 1, c: 32}
"""


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize(
    "spec", [get_spec("fbnet_96"), get_spec("fbnet_a_2019"), arch_file.parse(CORNERS)], ids=lambda spec: spec.name
)
def test_dilation_computes_the_same_at_more_places(spec: ArchSpec, output_stride: int) -> None:
    """Without squeeze-excite, whose means differ, every so-many-th pixel is a pixel of the strided network."""
    strided, dense = random_network(spec), FBNet(spec, output_stride=output_stride).eval()
    dense.load_state_dict(strided.state_dict())
    step = 32 // output_stride
    with torch.no_grad():
        found = dense.forward_features(images(128))[:, :, ::step, ::step]
        assert relative_error(found, strided.forward_features(images(128))) < 1e-5


def test_fuse_is_exact_in_double_precision() -> None:
    network = random_network("fbnetv3_a0").double()
    fused = network.fuse()
    with torch.no_grad():
        assert relative_error(fused(images().double()), network(images().double())) < 1e-12
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


class TestOptions:
    @pytest.mark.parametrize("name", FEW)
    def test_reset_classifier(self, name: str) -> None:
        network = random_network(name)
        with torch.no_grad():
            features = network.forward_features(images())
            pooled = network.forward_head(features, pre_logits=True)
            network.reset_classifier(7)
            assert network(images()).shape == (2, 7)
            network.reset_classifier(0)
            assert torch.equal(network(images()), pooled)
            network.reset_classifier(3)
            assert network(images()).shape == (2, 3)

    def test_a_new_classifier_has_the_type_of_the_network(self) -> None:
        network = FBNet(get_spec("fbnet_96")).bfloat16()
        network.reset_classifier(5)
        assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}

    @pytest.mark.parametrize("name", FEW)
    def test_no_classes(self, name: str) -> None:
        network = FBNet(get_spec(name), num_classes=0).eval()
        with torch.no_grad():
            assert network(images()).shape == (2, network.head_hidden_size)

    @pytest.mark.parametrize("channels", [1, 4])
    def test_image_channels(self, channels: int) -> None:
        network = FBNet(get_spec("fbnetv3_a0"), in_chans=channels, num_classes=10).eval()
        with torch.no_grad():
            assert network(images(channels=channels)).shape == (2, 10)

    def test_dropout(self) -> None:
        network = FBNet(get_spec("fbnet_96"), drop_rate=0.5).train()
        ones = torch.ones(2, network.num_features, 3, 3)
        dropped = network.forward_head(ones, pre_logits=True)
        assert 0.3 < (dropped == 0).float().mean() < 0.9
        network.eval()
        assert torch.equal(network.forward_head(ones), network.forward_head(ones))

    def test_drop_path(self) -> None:
        plain, network = random_network("fbnetv3_a0"), FBNet(get_spec("fbnetv3_a0"), drop_path_rate=0.5)
        network.load_state_dict(plain.state_dict())
        with torch.no_grad():
            assert torch.equal(network.eval()(images()), plain(images()))
            for module in network.train().modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            assert not torch.equal(network(images()), network(images()))

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"output_stride": 4}, "output_stride cannot be 4; expected 8, 16 or 32"),
            ({"num_classes": -1}, "num_classes cannot be -1; expected a whole number from 0 to 1048576"),
            ({"in_chans": 0}, "in_chans cannot be 0; expected a whole number from 1 to 65536"),
            ({"drop_rate": 1.5}, "drop_rate cannot be 1.5; expected a number from 0 to less than 1"),
            ({"drop_path_rate": 1}, "drop_path_rate cannot be 1; expected a number from 0 to less than 1"),
        ],
    )
    def test_nonsense(self, options: dict[str, int], error: str) -> None:
        with pytest.raises(InputError) as caught:
            FBNet(get_spec("fbnet_96"), **options)
        assert str(caught.value) == error

    def test_nonsense_classes(self) -> None:
        with pytest.raises(InputError, match="num_classes cannot be -2; expected a whole number from 0"):
            layer_rows.on_meta(get_spec("fbnet_96")).reset_classifier(-2)


class TestFeatureExtractor:
    @pytest.mark.parametrize(
        ("indices", "strides"),
        [(None, [2, 4, 8, 16, 32]), ((2, 4), [8, 32]), ((-1, 0), [2, 32]), ((1, 1), [4]), ((0,), [2])],
    )
    def test_indices(self, indices: tuple[int, ...] | None, strides: list[int]) -> None:
        network = random_network("fbnetv3_a0")
        extractor = FeatureExtractor(network, indices)
        assert [level.output_stride for level in extractor.feature_info] == strides
        every = dict(zip((2, 4, 8, 16, 32), FeatureExtractor(network)(images()), strict=True))
        for stride, feature in zip(strides, extractor(images()), strict=True):
            assert torch.equal(feature, every[stride])

    def test_later_stages_are_left_out(self) -> None:
        extractor = FeatureExtractor(random_network("fbnet_96"), (0, 2))
        assert list(extractor.stages) == ["2", "4", "8"]

    def test_the_stem_is_a_level_where_no_stage_has_its_stride(self) -> None:
        network = random_network("fbnet_a_2019")
        assert [level.module for level in network.feature_info][:2] == ["stem", "stages.4"]
        extractor = FeatureExtractor(network, (0,))
        (feature,) = extractor(images())
        assert (feature.shape, len(extractor.stages)) == ((2, 16, SIZE // 2, SIZE // 2), 0)

    @pytest.mark.parametrize("indices", [(5,), (-6,), ()])
    def test_no_such_level(self, indices: tuple[int, ...]) -> None:
        with pytest.raises(InputError) as caught:
            FeatureExtractor(layer_rows.on_meta(get_spec("fbnet_96")), indices)
        expected = (
            "expected a list of at least one index from 0 to 4, or negative ones that count from the end, or the "
        )
        expected += "number of last levels"
        assert str(caught.value) == f"out_indices cannot be {indices}: fbnet_96 has 5 levels; {expected}"
