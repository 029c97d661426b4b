"""Convolutions of the search against PyTorch's modules."""

import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo.search.gradient.convolving import convolved

KINDS = [(1, 1, 1), (1, 1, 4), (1, 2, 1), (3, 1, 1), (3, 1, 16), (3, 2, 16), (5, 1, 16), (5, 2, 16), (7, 1, 16)]
SIZES = [(9, 9), (4, 4), (3, 5), (2, 2), (1, 3), (1, 1)]


def gradients(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
    return list(torch.autograd.grad((y * weights).sum(), inputs))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("kernel", "stride", "groups"), KINDS)
def test_equals_the_module(kernel: int, stride: int, groups: int, size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=groups, bias=bias)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(3, 16, *size).contiguous(memory_format=layout).requires_grad_()
        found, expected, inputs = convolved(conv, x), conv(x), [x, *conv.parameters()]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients(found, inputs), gradients(expected, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_only_wanted_gradients_are_computed(size: tuple[int, int]) -> None:
    conv = nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False)
    x = torch.randn(3, 16, *size).contiguous(memory_format=torch.channels_last)
    for wanted in ([conv.weight], [x]):
        for value in (conv.weight, x):
            value.requires_grad_(value is wanted[0])
        expected = gradients(conv(x), wanted)
        torch.testing.assert_close(gradients(convolved(conv, x), wanted), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 16, 3, groups=16, bias=False),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16, bias=False),
        nn.Conv2d(16, 32, 3, padding=1, groups=16, bias=False),
        nn.Conv2d(16, 16, 1, padding=1),
    ],
    ids=["no padding", "dilated", "two for each channel", "padded"],
)
def test_others_are_left_to_pytorch(conv: nn.Conv2d) -> None:
    x = torch.randn(2, 16, 6, 6).contiguous(memory_format=torch.channels_last)
    assert torch.equal(convolved(conv, x), conv(x))


@pytest.mark.parametrize("kernel", [1, 3])
def test_autocast_is_kept(kernel: int) -> None:
    conv = nn.Conv2d(16, 16, kernel, padding=kernel // 2, groups=1 if kernel == 1 else 16, bias=False)
    x = torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolved(conv, x).dtype == torch.bfloat16
