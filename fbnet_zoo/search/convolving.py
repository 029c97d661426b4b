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
    if not x.is_cpu or torch.is_autocast_enabled("cpu") or not x.is_contiguous(memory_format=torch.channels_last):
        return conv(x)
    if conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1 and not any(conv.padding):
        return _pointwise(conv, x)
    if conv.groups == conv.in_channels == conv.out_channels and conv.bias is None and _is_centred(conv):
        return _depthwise(conv, x)
    return conv(x)


def _is_centred(conv: nn.Conv2d) -> bool:
    """Whether a kernel has a middle, which the first pixel is below."""
    return conv.dilation == (1, 1) and all(
        size % 2 == 1 and around == size // 2 for size, around in zip(conv.kernel_size, conv.padding, strict=True)
    )


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = F.linear(x.permute(0, 2, 3, 1).reshape(-1, c), conv.weight.flatten(1), conv.bias)  # (N*H*W, C')
    return y.view(n, h, w, -1).permute(0, 3, 1, 2)


def _depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    if x.shape[2:] == (1, 1):  # of the kernel, only the middle is ever above the image
        middle = conv.weight[:, 0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2]  # (C,)
        return x * middle.view(1, -1, 1, 1)
    return _Depthwise.apply(x, conv.weight, conv.stride)  # type: ignore[no-untyped-call]


class _Depthwise(torch.autograd.Function):
    """Uses the part of the kernel that can be above the image, and finds its gradient in narrow parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        kernel = _within_reach(weight, x)
        return F.conv2d(x, kernel, None, stride, _middle(kernel), groups=len(kernel))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        kernel = _within_reach(weight, x)
        of_x, of_weight = None, None
        if ctx.needs_input_grad[0]:
            of_x = _gradients(gradient, x, kernel, ctx.stride, _middle(kernel), of_weight=False)
        if ctx.needs_input_grad[1]:
            of_weight = torch.zeros_like(weight)
            _within_reach(of_weight, x).copy_(_gradient_of_kernel(gradient, x, kernel, ctx.stride))
        return of_x, of_weight, None


def _middle(kernel: Tensor) -> tuple[int, int]:
    return kernel.shape[2] // 2, kernel.shape[3] // 2


def _within_reach(weight: Tensor, x: Tensor) -> Tensor:
    """Return the part of a kernel (C, 1, K, L) that is above the image (N, C, H, W) at some pixel."""
    rows, columns = (max(0, middle - size + 1) for middle, size in zip(_middle(weight), x.shape[2:], strict=True))
    return weight[:, :, rows : weight.shape[2] - rows, columns : weight.shape[3] - columns]


def _gradient_of_kernel(gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, int]) -> Tensor:
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
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, int], padding: tuple[int, int], *, of_weight: bool
) -> Tensor:
    """Return the gradient of the input of a depthwise convolution, or that of its weight."""
    needed = [not of_weight, of_weight, False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, stride, padding, (1, 1), False, (0, 0), len(kernel), needed
    )
    return found[1] if of_weight else found[0]
