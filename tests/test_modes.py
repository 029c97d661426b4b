"""Networks that are not as fixtures are: in training, in other precisions, at sizes that do not divide evenly."""

import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo.complexity import cost
from fbnet_zoo.converters.cases import Case
from fbnet_zoo.converters.parity import Tolerances, check
from fbnet_zoo.converters.program import deploy_form
from fbnet_zoo.layers import conv_output_size
from fbnet_zoo.model import FBNet
from fbnet_zoo.plans import same_padding
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize
from tests.helpers.checkpoint_files import relative_error


@pytest.fixture
def busy(tiny_spec: ArchSpec) -> FBNet:
    """A network in training, with everything that acts only there."""
    network = FBNet(tiny_spec, num_classes=10, drop_rate=0.5, drop_path_rate=0.5)
    randomize(network, 0)
    return network.train()


def images(size: int = 64, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)


def kept(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


@torch.no_grad()
def expected(network: FBNet, x: Tensor) -> Tensor:
    return copy.deepcopy(network).eval()(x)


class TestFuse:
    @torch.no_grad()
    def test_of_a_network_in_training(self, busy: FBNet) -> None:
        """The copy is for inference: no dropout, no drop path, the running statistics; the network goes on training."""
        before, wanted = kept(busy), expected(busy, images())
        fused = busy.fuse()
        assert not fused.training
        assert not any(module.training for module in fused.modules() if not isinstance(module, nn.Identity))
        assert relative_error(fused(images()), wanted) < 1e-5
        assert torch.equal(fused(images()), fused(images()))
        assert all(module.training for module in busy.modules())
        assert all(torch.equal(value, before[name]) for name, value in busy.state_dict().items())

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_in_half_precision_is_folded_in_double(self, busy: FBNet, dtype: torch.dtype) -> None:
        """Every value is the nearest one in half precision to the exact product."""
        network = busy.to(dtype)
        exact, fused = copy.deepcopy(network).double().fuse().state_dict(), network.fuse().state_dict()
        assert {value.dtype for value in fused.values()} == {dtype}
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
        for name, value in fused.items():
            assert torch.equal(value, exact[name].to(dtype)), name

    @torch.no_grad()
    def test_at_sizes_that_do_not_divide(self, busy: FBNet) -> None:
        for size in (33, 50, 95):
            assert relative_error(busy.fuse()(images(size)), expected(busy, images(size))) < 1e-5


class TestDeployForm:
    @torch.no_grad()
    def test_of_a_network_in_training(self, busy: FBNet) -> None:
        before, wanted = kept(busy), expected(busy, images(50))
        form = deploy_form(busy)
        assert relative_error(form(images(50)), wanted) < 1e-5
        assert all(module.training for module in busy.modules())
        assert all(torch.equal(value, before[name]) for name, value in busy.state_dict().items())

    @torch.no_grad()
    def test_of_half_a_network(self, busy: FBNet) -> None:
        """The values of a half network, computed in single precision."""
        network = busy.half()
        wanted = expected(copy.deepcopy(network).float(), images())
        assert relative_error(deploy_form(copy.deepcopy(network).float())(images()), wanted) < 1e-5


def test_a_parity_check_restores_training(busy: FBNet) -> None:
    before = kept(busy)

    class Same:
        runtime = "the network itself"

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            return expected(busy, torch.from_numpy(batch)).numpy()

        def trace(self, batch: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
            return iter(())

    report = check(busy, Same(), [Case(name="noise", images=images(50).numpy())], Tolerances.of("fp32"))
    assert report.passed
    assert all(module.training for module in busy.modules())
    assert all(torch.equal(value, before[name]) for name, value in busy.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("size", [33, 50, 64, 67, 97])
def test_costs_are_those_at_the_size_that_is_asked(busy: FBNet, size: int) -> None:
    """Multiply-accumulates as PyTorch's own outputs tell; 64 px is the size of the definition."""
    found = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        weight = module.weight
        found.append(weight[0].numel() * output[0].numel())

    network = busy.eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(images(size))
    assert cost(network.spec, size, num_classes=10).macs == sum(found)
    assert cost(network.spec, size).input_size == size


@torch.no_grad()
def test_outputs_of_convolutions_are_as_large_as_pytorch_makes_them() -> None:
    """At every size, kernel, stride and dilation, also where they leave a rest; with the usual padding it is ceil."""
    for kernel in (1, 2, 3, 5, 7):
        for stride in (1, 2, 3):
            for dilation in (1, 2):
                padding = same_padding(kernel)
                conv = nn.Conv2d(1, 1, kernel, stride, padding=padding, dilation=dilation, device="meta")
                for size in range(dilation * (kernel - 1) + 1, 24):
                    side = conv_output_size(size, kernel, stride, padding, dilation)
                    assert side == conv(torch.empty(1, 1, size, size, device="meta")).shape[-1]
                    if kernel % 2 and dilation == 1:
                        assert side == math.ceil(size / stride)


def test_images_are_resized_to_the_next_multiple_of_8(tiny_spec: ArchSpec) -> None:
    """Of torchvision's ratio of 256 to 224, for every image size: never less, and less than 8 px more."""
    for size in range(32, 400):
        spec = tiny_spec.model_copy(update={"input_size": size, "preprocess": None, "weights": ()})
        preprocess = spec.eval_preprocess()
        assert preprocess.crop == size
        assert preprocess.resize % 8 == 0
        assert 0 <= preprocess.resize - size * 256 / 224 < 8
