"""The supernet: the networks that it holds, and the forms of mixing against the plain sum."""

import copy

import pytest
import torch
from torch import Tensor

from fbnet_zoo.benchmarks.suites.live_memory import peak_bytes
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.search.dnas import mixing
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.space import load_space
from fbnet_zoo.space.files import parse
from tests.helpers.search_spaces import NANO, POINTS, nano_space, nano_supernet, one_hot, random_masks, twins_supernet

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def outcome(supernet: Supernet, masks: list[Tensor], mix: mixing.Mix, images: Tensor = IMAGES) -> dict[str, Tensor]:
    """What a step computes, in double precision: logits, every gradient, and the statistics that it leaves."""
    net, images = copy.deepcopy(supernet).double().train(), images.double().detach().requires_grad_()
    own = [mask.detach().double().requires_grad_() for mask in masks]
    logits = net(images, own, mix)
    logits.square().sum().backward()
    found = {"logits": logits, "images": images.grad}
    found |= {f"mask {index}": mask.grad for index, mask in enumerate(own)}
    found |= {f"gradient of {name}": value.grad for name, value in net.named_parameters() if "theta" not in name}
    return found | dict(net.named_buffers())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To 1e-9, of the largest value of a tensor where that is above 1."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        reach = 1e-9 * max(1.0, float(value.detach().abs().max()))
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=reach, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("positions", POINTS, ids=str)
def test_one_hot_is_the_network(positions: tuple[int, ...], training: bool) -> None:
    supernet = nano_supernet().train(training)
    network = supernet.extract(positions)
    assert network.training == training
    masks = one_hot(supernet.encoding, positions)
    torch.testing.assert_close(supernet(IMAGES, masks), network(IMAGES), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["digits_tiny", "fbnet_96_035"])
def test_one_hot_is_the_network_of_shipped_spaces(name: str) -> None:
    space = load_space(name)
    supernet = Supernet(space, input_size=32, num_classes=5, in_channels=1).eval()
    positions = supernet.encoding.positions(space.sample(1))
    images = torch.randn(2, 1, 32, 32)
    network = supernet.extract(positions, name="mine")
    assert (network.spec.name, network.spec.input_size) == ("mine", 32)
    masks = one_hot(supernet.encoding, positions)
    torch.testing.assert_close(supernet(images, masks), network(images), rtol=0, atol=1e-6)


def test_extract_copies() -> None:
    supernet = nano_supernet()
    network = supernet.extract((0, 1, 0))
    assert isinstance(network, FBNet)
    before = supernet.stem.conv.weight.clone()
    with torch.no_grad():
        network.stem.conv.weight.zero_()
    assert torch.equal(supernet.stem.conv.weight, before)
    own = supernet.stages["4"][1].candidates["k5_e2_se"].state_dict()
    theirs = network.stages["4"][1].state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


@pytest.mark.parametrize("images", [None, len(IMAGES)], ids=["batch", "image"])
@pytest.mark.parametrize("mix", [mixing.fused, mixing.fused_saving])
def test_forms_equal_the_plain_sum(mix: mixing.Mix, images: int | None) -> None:
    """Logits, gradients of images, weights and masks, statistics of batch norm and how often they moved."""
    supernet = nano_supernet()
    masks = random_masks(supernet, images=images)
    assert_same(outcome(supernet, masks, mix), outcome(supernet, masks, mixing.plain))


@pytest.mark.parametrize("pixels", [16, 4, *(pytest.param(pixels, marks=pytest.mark.slow) for pixels in (64, 8))])
@pytest.mark.parametrize("images", [None, 16], ids=["batch", "image"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_wide_blocks_equal_the_plain_sum(layout: torch.memory_format, images: int | None, pixels: int) -> None:
    """Maps of 32 to 1 pixels: several blocks or one; kernels that are cut to one size or not; groups and shuffles."""
    supernet = twins_supernet().to(memory_format=layout)
    masks = random_masks(supernet, images=images)
    inputs = torch.randn(16, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    expected = outcome(supernet, masks, mixing.plain, inputs)
    assert_same(outcome(supernet, masks, mixing.fused, inputs.contiguous(memory_format=layout)), expected)


def test_wide_blocks_equal_the_plain_sum_in_evaluation() -> None:
    supernet = twins_supernet().eval()
    masks, before = random_masks(supernet), copy.deepcopy(dict(supernet.named_buffers()))
    torch.testing.assert_close(supernet(IMAGES, masks), supernet(IMAGES, masks, mixing.plain), rtol=1e-5, atol=1e-5)
    assert_same(dict(supernet.named_buffers()), before)


def test_wide_blocks_leave_alone_what_does_not_fit() -> None:
    """A candidate whose batch norm has another momentum than those of the others."""
    supernet = twins_supernet()
    supernet.mixed[0].candidates["k3_e1"].expand.bn.momentum = 0.5
    masks = random_masks(supernet)
    assert_same(outcome(supernet, masks, mixing.fused), outcome(supernet, masks, mixing.plain))


def test_saving_form_keeps_less_than_half() -> None:
    """The memory of a step, beyond the parameters and their gradients."""
    supernet, images = Supernet(load_space("digits_tiny"), num_classes=10), torch.randn(8, 3, 32, 32)
    masks = random_masks(supernet)

    def step(mix: mixing.Mix) -> None:
        supernet(images, masks, mix).sum().backward()

    def peak(mix: mixing.Mix) -> int:
        supernet.zero_grad()
        known = [*supernet.parameters(), *supernet.buffers(), images, *masks]
        return peak_bytes(lambda: step(mix), known=known)

    assert peak(mixing.fused_saving) < 0.5 * peak(mixing.plain)


@pytest.mark.parametrize("mix", [mixing.fused, mixing.fused_saving])
def test_forms_equal_the_plain_sum_where_images_have_one_pixel(mix: mixing.Mix) -> None:
    supernet, images = nano_supernet(), IMAGES[..., :4, :4]
    masks = random_masks(supernet)
    assert_same(outcome(supernet, masks, mix, images), outcome(supernet, masks, mixing.plain, images))


def test_channels_last_equals_the_plain_sum() -> None:
    supernet = nano_supernet()
    masks = random_masks(supernet)
    expected = outcome(supernet, masks, mixing.plain)
    supernet.to(memory_format=torch.channels_last)
    assert_same(outcome(supernet, masks, mixing.fused), expected)


def test_fused_leaves_cumulative_statistics_to_batch_norm() -> None:
    supernet = nano_supernet()
    for module in supernet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    masks = random_masks(supernet)
    assert_same(outcome(supernet, masks, mixing.fused), outcome(supernet, masks, mixing.plain))


def test_per_image_masks_mix_each_image_apart() -> None:
    supernet = nano_supernet().eval()
    chosen = POINTS[: len(IMAGES)]
    rows = [
        torch.stack(masks)
        for masks in zip(*(one_hot(supernet.encoding, positions) for positions in chosen), strict=True)
    ]
    apart = [supernet.extract(positions)(image[None]) for positions, image in zip(chosen, IMAGES, strict=True)]
    torch.testing.assert_close(supernet(IMAGES, rows), torch.cat(apart), rtol=0, atol=1e-6)


def test_frozen_weights_change_no_gradient_of_theta() -> None:
    supernet = nano_supernet()

    def gradients() -> list[Tensor]:
        masks = [theta.softmax(0) for theta in supernet.theta]
        return list(torch.autograd.grad(supernet(IMAGES, masks).square().sum(), supernet.theta))

    expected = gradients()
    with supernet.frozen_weights():
        assert not any(weight.requires_grad for weight in supernet.weight_parameters())
        torch.testing.assert_close(gradients(), expected, rtol=1e-5, atol=1e-5)
    assert all(weight.requires_grad for weight in supernet.parameters())


def test_weights_and_theta_are_all_parameters() -> None:
    supernet = nano_supernet()
    assert len(supernet.weight_parameters()) + len(supernet.theta) == len(list(supernet.parameters()))
    assert [len(theta) for theta in supernet.theta] == [3, 3, 2]


def test_encoding() -> None:
    encoding = nano_supernet().encoding
    assert all(encoding.positions(encoding.choices(positions)) == positions for positions in POINTS)
    assert len({encoding.definition(positions).name for positions in POINTS}) == len(POINTS)
    assert CandidateEncoding(nano_space(), 24).definition(POINTS[0]).input_size == 24


def test_layers_of_one_block_are_decisions_too() -> None:
    """Each takes part in every draw, so that a seed gives the same masks as ever."""
    encoding = CandidateEncoding(load_space("fbnet"))
    assert len(encoding.decisions) == len(encoding.space.layers)
    single = CandidateEncoding(parse(NANO.replace("[k5_e2_se, skip]", "[k5_e2_se]"), "nano.yaml"))
    assert single.counts == (3, 3, 1)
    assert single.decisions[2].options == ("k5_e2_se",)
    assert single.skips == (2, 2, None)
    assert single.positions(single.choices((1, 2, 0))) == (1, 2, 0)


@pytest.mark.parametrize(
    ("positions", "told"),
    [((0, 0), "has 3 decisions, but 2 positions"), ((0, 3, 0), "stages.4.0 has 3 options, but none at position 3")],
)
def test_wrong_positions(positions: tuple[int, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        nano_supernet().extract(positions)


@pytest.mark.parametrize(
    ("name", "told"),
    [("fbnetv3", "fbnetv3 leaves the channels of its stem open"), ("fbnetv2_f", "fbnetv2_f leaves .* open")],
)
def test_spaces_of_ranges_are_refused(name: str, told: str) -> None:
    with pytest.raises(InputError, match=f"{told}; dnas requires .* such as fbnet or digits_tiny"):
        Supernet(load_space(name))
