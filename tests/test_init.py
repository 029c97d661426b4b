"""What training starts from: the values of a new network, and stochastic depth."""

import math

import pytest
import torch
from torch import nn

from fbnet_zoo.blocks import DropPath
from fbnet_zoo.model import FBNet
from fbnet_zoo.registry import get_spec
from tests.helpers import layer_rows


class TestDropPath:
    def test_whole_images_are_dropped_or_scaled(self) -> None:
        torch.manual_seed(0)
        images = torch.ones(4000, 2, 1, 1)
        ratio = DropPath(0.25)(images) / images
        assert torch.equal(ratio[:, 0], ratio[:, 1])
        assert set(ratio.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
        assert ratio.mean().item() == pytest.approx(1, abs=0.03)

    def test_nothing_is_dropped_in_eval(self) -> None:
        images = torch.rand(4, 2, 1, 1)
        assert torch.equal(DropPath(0.9).eval()(images), images)

    def test_the_rate_rises_with_depth(self) -> None:
        network = layer_rows.on_meta(get_spec("fbnetv3_a"), drop_path_rate=0.3)
        built_blocks = [block for stage in network.stages.values() for block in stage]
        planned = [block for stage in network.plan.stages for block in stage.blocks]
        rates = [getattr(block.drop_path, "rate", 0) for block in built_blocks]
        last = len(planned) - 1
        assert rates == pytest.approx([0.3 * depth / last * block.residual for depth, block in enumerate(planned)])
        assert rates[-2] == pytest.approx(0.3 * (last - 1) / last)


class TestInit:
    def test_distributions(self) -> None:
        torch.manual_seed(0)
        network = FBNet(get_spec("fbnetv3_a"))
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000 and name != "classifier":
                fan_out = module.kernel_size[0] ** 2 * module.out_channels / module.groups
                assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name
                assert abs(module.weight.mean().item()) < 0.05 * math.sqrt(2 / fan_out), name
        bound = 1 / math.sqrt(network.classifier.weight.shape[1])
        assert bound * 0.99 < network.classifier.weight.abs().max().item() <= bound
        biases = [value for name, value in network.named_parameters() if name.endswith("bias")]
        assert all(not bias.any() for bias in biases)

    def test_the_same_seed_gives_the_same_network(self) -> None:
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(FBNet(get_spec("fbnet_96")).state_dict())
        assert all(torch.equal(first, second) for first, second in zip(*(s.values() for s in states), strict=True))
