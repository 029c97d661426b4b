"""Convolutions as a CPU computes them fastest where maps are small; elsewhere, PyTorch's own.

A search spends its time in pointwise and depthwise convolutions of few pixels. oneDNN's kernels are made for others:
it has no fast gradient of depthwise weights wider than 3 or higher than the image, nor for pointwise ones of few pixels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WIDEST = 3  # of the depthwise kernels whose gradient is fast


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return a convolution of images (N, C, H, W), to rounding what the module itself returns."""
    if is_pointwise(conv) and conv.groups == 1:
        return pointwise(x, conv.weight, conv.bias)
    return depthwise(x, conv.weight, conv.stride) if is_depthwise(conv) else conv(x)


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution sees every pixel by itself."""
    return conv.kernel_size == conv.stride == (1, 1) and not any(conv.padding)


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution filters every channel by itself, without a bias, around each pixel."""
    centred = all(
        size % 2 == 1 and around == size // 2 for size, around in zip(conv.kernel_size, conv.padding, strict=True)
    )
    alone = conv.groups == conv.in_channels == conv.out_channels
    return alone and centred and conv.bias is None and conv.dilation == (1, 1)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return images (N, C, H, W) convolved with a weight (C', C, 1, 1)."""
    if not _is_ours(x):
        return F.conv2d(x, weight, bias)
    n, c, h, w = x.shape
    y = F.linear(x.permute(0, 2, 3, 1).reshape(-1, c), weight.flatten(1), bias)  # (N*H*W, C')
    return y.view(n, h, w, -1).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return images (N, C, H, W) convolved with a weight (C, 1, K, L), K and L odd, around each pixel."""
    if not _is_ours(x):
        return F.conv2d(x, weight, None, stride, _middle(weight), groups=len(weight))
    if x.shape[2:] == (1, 1):
        return x * within_reach(weight, x).view(1, -1, 1, 1)
    return _Depthwise.apply(x, weight, stride)  # type: ignore[no-untyped-call]


def within_reach(weight: Tensor, x: Tensor) -> Tensor:
    """Return the part of a kernel (C, 1, K, L) that is above the image (N, C, H, W) at some pixel."""
    rows, columns = (max(0, middle - size + 1) for middle, size in zip(_middle(weight), x.shape[2:], strict=True))
    return weight[:, :, rows : weight.shape[2] - rows, columns : weight.shape[3] - columns]


def _is_ours(x: Tensor) -> bool:
    return x.is_cpu and x.is_contiguous(memory_format=torch.channels_last) and not torch.is_autocast_enabled("cpu")


class _Depthwise(torch.autograd.Function):
    """Uses the part of the kernel that can be above the image, and finds its gradient in narrow parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        kernel = within_reach(weight, x)
        return F.conv2d(x, kernel, None, stride, _middle(kernel), groups=len(kernel))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        kernel = within_reach(weight, x)
        of_x, of_weight = None, None
        if ctx.needs_input_grad[0]:
            of_x = _gradients(gradient, x, kernel, ctx.stride, _middle(kernel), of_weight=False)
        if ctx.needs_input_grad[1]:
            of_weight = torch.zeros_like(weight)
            within_reach(of_weight, x).copy_(_gradient_of_kernel(gradient, x, kernel, ctx.stride))
        return of_x, of_weight, None


def _middle(kernel: Tensor) -> tuple[int, int]:
    return kernel.shape[2] // 2, kernel.shape[3] // 2


def _gradient_of_kernel(gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, ...]) -> Tensor:
    above, left = _middle(kernel)
    if kernel.shape[3] <= WIDEST and x.shape[2] >= kernel.shape[2]:
        return _gradients(gradient, x, kernel, stride, (above, left), of_weight=True)
    found = torch.empty_like(kernel)
    for start in range(0, max(1, kernel.shape[3] - WIDEST + 1), WIDEST - 1):
        part = kernel[..., start : start + WIDEST]
        padded = F.pad(x, (left - start, start + part.shape[3] - 1 - left, above, above))
        found[..., start : start + WIDEST] = _gradients(gradient, padded, part, stride, (0, 0), of_weight=True)
    return found


def _gradients(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, ...], padding: tuple[int, int], *, of_weight: bool
) -> Tensor:
    """Return the gradient of the input of a depthwise convolution, or that of its weight."""
    needed = [not of_weight, of_weight, False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, stride, padding, (1, 1), False, (0, 0), len(kernel), needed
    )
    return found[1] if of_weight else found[0]
