"""The supernet of DMaskingNAS: one-hot masks make the narrower networks, soft ones the paper's sums."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.benchmarks.suites.live_memory import peak_bytes
from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import InvertedResidualPlan
from fbnet_zoo.search.dmasking.layer import LayerMasks
from fbnet_zoo.search.dmasking.supernet import MaskedSupernet
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.config import Form
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import parse
from tests.helpers.masked_spaces import NANO, PLAIN, SMALL, every_position, masked_images, masked_space, masked_supernet
from tests.helpers.search_spaces import nano_space, one_hot, random_masks

TRAINING = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def subsampled(images: Tensor, size: int) -> Tensor:
    """Pixel i is that at floor(i N / n), written out."""
    at = [index * images.shape[-1] // size for index in range(size)]
    return images[:, :, at][..., at]


def assert_is_the_network(
    supernet: MaskedSupernet, positions: tuple[int, ...], form: Form = "soft", images: Tensor | None = None
) -> None:
    network, images = supernet.extract(positions), masked_images(supernet) if images is None else images
    expected = network(subsampled(images, network.spec.input_size))
    masks = [mask.to(images.dtype) for mask in one_hot(supernet.encoding, positions)]
    found = supernet.logits(images, masks, form)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max()))


def random_positions(encoding: Encoding, seed: int) -> tuple[int, ...]:
    return encoding.positions(encoding.space.sample(seed))


class TestOneHot:
    @TRAINING
    @pytest.mark.parametrize(
        "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))]
    )
    @pytest.mark.parametrize("name", ["nano", "plain", "digits_masking"])
    def test_is_the_narrower_network(self, name: str, seed: int, training: bool) -> None:
        supernet = masked_supernet(name).train(training)
        with torch.no_grad():
            assert_is_the_network(supernet, random_positions(supernet.encoding, seed))

    @TRAINING
    def test_is_the_narrower_network_at_every_other_point(self, training: bool) -> None:
        supernet = masked_supernet("small").train(training)
        with torch.no_grad():
            for positions in every_position(supernet.encoding)[training::2]:
                assert_is_the_network(supernet, positions)

    def test_small_spaces_have_middles_as_wide_as_the_input(self) -> None:
        """The networks above are with and without the first convolution, in one layer."""
        space = masked_space("nano")
        layer = Encoding(space).layers[0]
        plans = [space.plan(layer.branches["k3"].having(8, expansion, 8)) for expansion in layer.expansions]
        assert [isinstance(plan, InvertedResidualPlan) and plan.expand is None for plan in plans] == [True, False]

    @pytest.mark.slow
    @TRAINING
    def test_is_the_narrower_network_of_fbnetv2_f(self, training: bool) -> None:
        """In double precision: over so many batch norms in training, single rounding errors grow beyond 1e-5."""
        supernet = masked_supernet("fbnetv2_f").double().train(training)
        images = masked_images(supernet, 3).double()
        with torch.no_grad():
            for seed in range(2):
                assert_is_the_network(supernet, random_positions(supernet.encoding, seed), "soft", images)

    def test_is_the_narrower_network_of_layers_of_fbnetv2_f(self) -> None:
        """The blocks with all their ranges, on a few pixels."""
        supernet = masked_supernet("fbnetv2_f")
        for seed in range(3):
            positions = random_positions(supernet.encoding, seed)
            network = supernet.extract(positions)
            full = supernet.encoding.full(one_hot(supernet.encoding, positions), torch.ones(1))
            for index in (0, 1, 2, 9):
                layer, encoded = supernet.masked[index], supernet.encoding.layers[index]
                before, branch, expansion, _, after = (full[axis] for axis in encoded.axes)
                masks = LayerMasks(before=before, branch=branch, expansion=expansion, after=after)
                _, stride, number = encoded.name.split(".")
                x = torch.randn(2, int(before @ torch.tensor(encoded.before).float()), 6, 6)
                wide = F.pad(x, (0, 0, 0, 0, 0, max(encoded.before) - x.shape[1]))
                with torch.no_grad():
                    found = layer(wide, layer.scales(masks), torch.ones(1))
                    expected = network.stages[stride][int(number)](x)
                torch.testing.assert_close(found[:, : expected.shape[1]], expected, rtol=1e-5, atol=1e-4)
                assert not found[:, expected.shape[1] :].any()

    def test_without_ranges_it_is_the_supernet_of_candidates(self) -> None:
        torch.manual_seed(0)
        ours, theirs = (kind(nano_space(), num_classes=4) for kind in (MaskedSupernet, Supernet))
        assert ours.encoding.decisions == theirs.encoding.decisions
        assert ours.encoding.skips == theirs.encoding.skips
        shared = {name: value for name, value in theirs.state_dict().items() if "theta" not in name}
        assert ours.load_state_dict(shared, strict=False).unexpected_keys == []
        images, masks = torch.randn(3, 3, 16, 16), random_masks(theirs)
        torch.testing.assert_close(ours(images, masks), theirs(images, masks), rtol=1e-5, atol=1e-5)


class TestSoft:
    @pytest.mark.parametrize("candidate", ["k3", "skip"])
    def test_output_channels_are_the_sum_of_padded_networks(self, candidate: str) -> None:
        """Y = sum_i g_i PAD(b_i(x)), of blocks whose last step is linear, and of skips."""
        text = SMALL.replace("e: [0.75, 2], c: [4, 8]", "e: 2, c: [4, 8, 12]").replace("[8, 12]\n", "12\n", 1)
        space = parse(text.replace("c: [4, 8], s: 2", "c: 8, s: 2"), "one.yaml")
        supernet = MaskedSupernet(space, num_classes=2).eval()
        layer, x, weights = supernet.masked[0], torch.randn(2, 8, 6, 6), torch.tensor([0.2, 0.5, 0.3])
        branch = F.one_hot(torch.tensor(["k3", "skip"].index(candidate)), 2).float()
        masks = LayerMasks(before=torch.ones(1), branch=branch, expansion=torch.ones(1), after=weights)
        expected, names = torch.zeros(2, 12, 6, 6), [decision.name for decision in supernet.encoding.decisions]
        with torch.no_grad():
            for index, (channels, weight) in enumerate(zip((4, 8, 12), weights, strict=True)):
                positions = list(random_positions(supernet.encoding, 0))
                positions[names.index("stages.2.0")] = ["k3", "skip"].index(candidate)
                positions[names.index("stages.2.0 c")] = index
                narrow = supernet.extract(positions).stages["2"][0](x)
                expected += weight * F.pad(narrow, (0, 0, 0, 0, 0, 12 - channels))
            torch.testing.assert_close(layer(x, layer.scales(masks), torch.ones(1)), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["soft", "saving"])
    def test_gradients_of_masks_are_the_finite_differences(self, form: Form) -> None:
        supernet = masked_supernet().double().eval()
        images = masked_images(supernet, 2).double()
        masks = [theta.detach().softmax(0).requires_grad_() for theta in supernet.theta]
        masks[0] = torch.tensor([0.3, 0.7], dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(lambda *own: supernet.logits(images, own, form), masks, atol=1e-5)

    @pytest.mark.parametrize("images", [None, 6], ids=["batch", "image"])
    def test_saving_equals_soft(self, images: int | None) -> None:
        """Logits, gradients of images, weights and masks, statistics of batch norm and how often they moved."""
        supernet = masked_supernet()
        masks = random_masks(supernet, images=images)
        assert_same(outcome(supernet, masks, "saving"), outcome(supernet, masks, "soft"))

    def test_channels_last_changes_nothing(self) -> None:
        supernet = masked_supernet()
        masks = random_masks(supernet)
        expected = outcome(supernet, masks, "soft")
        assert_same(outcome(supernet.to(memory_format=torch.channels_last), masks, "soft"), expected)

    def test_saving_form_keeps_less_than_half(self) -> None:
        supernet = masked_supernet("digits_masking")
        images, masks = masked_images(supernet), random_masks(supernet)

        def peak(form: Form) -> int:
            supernet.zero_grad()
            known = [*supernet.parameters(), *supernet.buffers(), images, *masks]
            return peak_bytes(lambda: supernet.logits(images, masks, form).sum().backward(), known=known)

        assert peak("saving") < 0.5 * peak("soft")

    def test_masks_of_images_make_each_its_own_network(self) -> None:
        supernet = masked_supernet().eval()
        images = masked_images(supernet)
        chosen = [random_positions(supernet.encoding, seed) for seed in range(len(images))]
        rows = [
            torch.stack(masks) for masks in zip(*(one_hot(supernet.encoding, each) for each in chosen), strict=True)
        ]
        networks = [supernet.extract(each) for each in chosen]
        pairs = zip(networks, images, strict=True)
        apart = torch.cat([network(subsampled(image[None], network.spec.input_size)) for network, image in pairs])
        torch.testing.assert_close(supernet(images, rows), apart, rtol=1e-5, atol=1e-5)


def outcome(supernet: MaskedSupernet, masks: list[Tensor], form: Form) -> dict[str, Tensor]:
    """What a step computes: logits, every gradient, and the statistics that it leaves."""
    net, images = copy.deepcopy(supernet).train(), masked_images(supernet).requires_grad_()
    own = [mask.detach().clone().requires_grad_() for mask in masks]
    logits = net.logits(images, own, form)
    logits.square().sum().backward()
    found = {"logits": logits, "images": images.grad}
    found |= {f"mask {i}": torch.zeros_like(mask) if mask.grad is None else mask.grad for i, mask in enumerate(own)}
    found |= {f"gradient of {name}": value.grad for name, value in net.named_parameters() if "theta" not in name}
    return found | {name: value for name, value in net.state_dict().items() if ".bn." in name}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To 1e-5, of the largest value of a tensor where that is above 1."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        reach = 1e-5 * max(1.0, float(value.detach().abs().max()))
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=reach, msg=lambda text, name=name: f"{name}: {text}"
        )


class TestParts:
    def test_decisions(self) -> None:
        supernet = masked_supernet()
        encoding = supernet.encoding
        assert tuple(decision.name for decision in encoding.decisions) == (
            *("input_size", "stem c", "stages.2.0", "stages.2.0 e", "stages.2.0 c"),
            *("stages.4.0", "stages.4.0 e", "stages.4.0 c", "stages.4.1", "stages.4.1 e", "stages.4.1 c", "head c"),
        )
        options = tuple(decision.options for decision in encoding.decisions)
        assert options[:4] == (("11", "16"), ("4", "8"), ("k3", "skip"), ("0.75", "1.5"))
        assert options[8] == ("k3", "k5")
        assert encoding.skips == (None, None, 1, None, None, 2, *[None] * 6)
        assert [len(theta) for theta in supernet.theta] == list(encoding.counts) == [len(each) for each in options]
        assert len(supernet.weight_parameters()) + len(supernet.theta) == len(list(supernet.parameters()))

    @pytest.mark.parametrize("name", ["nano", "plain", "digits_masking", "fbnetv2_f", "digits_tiny"])
    def test_points_there_and_back(self, name: str) -> None:
        encoding = Encoding(masked_space(name))
        for seed in range(20):
            choices = encoding.space.sample(seed)
            assert encoding.choices(encoding.positions(choices)) == choices

    def test_extract_copies(self) -> None:
        supernet = masked_supernet()
        positions = random_positions(supernet.encoding, 3)
        network = supernet.extract(positions, name="mine")
        assert network.spec.name == "mine"
        assert network.spec == supernet.encoding.definition(positions, name="mine")
        before = supernet.stem.conv.weight.clone()
        with torch.no_grad():
            network.stem.conv.weight.zero_()
        assert torch.equal(supernet.stem.conv.weight, before)

    def test_residual_branches_start_silent_where_all_add_their_input(self) -> None:
        fixed = PLAIN.replace("input_size: 12\n", "input_size: 12\nzero_init_residual: true\n")
        supernet = MaskedSupernet(parse(fixed, "plain.yaml"))
        first, second = supernet.masked[:2]
        assert not first.candidates["k3_g2"].project.bn.weight.any()
        assert second.candidates["kept"].project.bn.weight.all()

    def test_frozen_weights_change_no_gradient_of_theta(self) -> None:
        supernet = masked_supernet()
        images = masked_images(supernet)

        def gradients() -> list[Tensor]:
            masks = [theta.softmax(0) for theta in supernet.theta]
            return list(torch.autograd.grad(supernet(images, masks).square().sum(), supernet.theta))

        expected = gradients()
        with supernet.frozen_weights():
            torch.testing.assert_close(gradients(), expected, rtol=1e-4, atol=1e-4)

    def test_one_image_size_takes_any(self) -> None:
        supernet = masked_supernet("plain").eval()
        positions = random_positions(supernet.encoding, 0)
        images = torch.randn(2, 3, 20, 14)
        found, expected = supernet(images, one_hot(supernet.encoding, positions)), supernet.extract(positions)(images)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


class TestRefusals:
    def test_open_depth(self) -> None:
        with pytest.raises(
            InputError, match=r"chamnet has several blocks \('r'\) in stages\.4\.0, which channel masks"
        ):
            MaskedSupernet(load_space("chamnet"))

    @pytest.mark.parametrize(
        ("right", "wrong", "told"),
        [
            ("k3: {k: 3}", "k3: {k: 3, g: 2}", r"stages\.2\.0 has grouped convolutions with open channels"),
            (
                "e: [0.75, 2], c: [8, 12]",
                "e: [1, 2], c: [8, 12]",
                r"stages\.4\.0 has fused blocks with and without a",
            ),
            (
                "fused: {op: fused_ir, k: 3}",
                "fused: {op: fused_ir, k: 3, se: 0.25}",
                r"stages\.4\.0 has a fused block without projection, with squeeze-excite and open channels",
            ),
            (
                "head: {op: ir_pool, e: 2, c: [12, 16], act: hard_swish, se: 0.25}",
                "head: {op: conv, k: 1, c: 12, g: 4}",
                r"head has grouped convolutions with open channels",
            ),
        ],
    )
    def test_what_cannot_share_weights(self, right: str, wrong: str, told: str) -> None:
        text = NANO.replace(right, wrong)
        assert text != NANO
        if "without" in told:
            text = text.replace("e: [0.75, 2]", "e: 1")
        with pytest.raises(InputError, match=told):
            MaskedSupernet(parse(text, "nano.yaml"))

    def test_other_images(self) -> None:
        supernet = masked_supernet()
        with pytest.raises(
            InputError, match=r"so images must have the largest size, 16 px wide and high; these are 12 x 16"
        ):
            supernet(torch.randn(1, 3, 16, 12), [theta.softmax(0) for theta in supernet.theta])

    @pytest.mark.parametrize(
        ("positions", "told"),
        [
            ((0, 0), "nano_masked has 12 decisions, but 2 positions"),
            ((2, *[0] * 11), "input_size has 2 options, but none at position 2"),
        ],
    )
    def test_wrong_positions(self, positions: tuple[int, ...], told: str) -> None:
        with pytest.raises(InputError, match=told):
            masked_supernet().extract(positions)
