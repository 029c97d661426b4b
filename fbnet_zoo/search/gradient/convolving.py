"""Convolutions that are fast on a CPU with small feature maps; elsewhere, PyTorch's own.

A search on small images spends most of its time in pointwise and depthwise convolutions of a few pixels, for which
oneDNN is not optimized: matrix products are faster than its pointwise convolutions, and its depthwise gradient is fast
only for kernels at most 3 wide and not higher than the image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fbnet_zoo.blocks import ConvBNAct
from fbnet_zoo.plans import same_padding

FEW = 2048  # pixels of all images, up to which a matrix product is faster
WIDEST = 3  # width of the widest depthwise kernel with a fast gradient


def computed(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the output of a layer for images (N, C, H, W), with the fastest convolution in a `ConvBNAct`."""
    return layer.act(layer.bn(convolved(layer.conv, x))) if isinstance(layer, ConvBNAct) else layer(x)


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return the convolution of images (N, C, H, W)."""
    if is_pointwise(conv) and conv.groups == 1:
        return pointwise(x, conv.weight, conv.bias)
    return depthwise(x, conv.weight, conv.stride) if is_depthwise(conv) else conv(x)


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution is pointwise."""
    return conv.kernel_size == conv.stride == (1, 1) and not any(conv.padding)


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution is depthwise, without bias, and keeps the image size at stride 1."""
    sides = zip(conv.kernel_size, conv.padding, strict=True)
    kept = all(size % 2 == 1 and padding == same_padding(size) for size, padding in sides)
    alone = conv.groups == conv.in_channels == conv.out_channels
    return kept and alone and conv.bias is None and conv.dilation == (1, 1)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return images (N, C, H, W) convolved with a weight (C', C, 1, 1)."""
    n, c, h, w = x.shape
    if not _is_ours(x) or n * h * w > FEW:
        return F.conv2d(x, weight, bias)
    y = F.linear(x.permute(0, 2, 3, 1).reshape(-1, c), weight.flatten(1), bias)  # (N*H*W, C')
    return y.view(n, h, w, -1).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return images (N, C, H, W) convolved with a weight (C, 1, K, L), padded by half the kernel."""
    kernel = within_reach(weight, x)
    if _is_ours(x) and kernel.shape[2:] == (1, 1):  # images of one pixel
        return x * kernel.view(1, -1, 1, 1)
    if _is_ours(x) and kernel.requires_grad and not _has_fast_gradient(kernel, x):
        return _Depthwise.apply(x, kernel, stride)  # type: ignore[no-untyped-call]
    return F.conv2d(x, kernel, None, stride, _middle(kernel), groups=len(kernel))


def within_reach(weight: Tensor, x: Tensor) -> Tensor:
    """Return the middle of a kernel (C, 1, K, L): the part that covers a pixel of images (N, C, H, W) anywhere."""
    rows, columns = (max(0, middle - size + 1) for middle, size in zip(_middle(weight), x.shape[2:], strict=True))
    return F.pad(weight, (-columns, -columns, -rows, -rows)) if rows or columns else weight


def _middle(kernel: Tensor) -> tuple[int, int]:
    return same_padding(kernel.shape[2]), same_padding(kernel.shape[3])


def _has_fast_gradient(kernel: Tensor, x: Tensor) -> bool:
    return kernel.shape[3] <= WIDEST and kernel.shape[2] <= x.shape[2]


def _is_ours(x: Tensor) -> bool:
    return x.is_cpu and x.is_contiguous(memory_format=torch.channels_last) and not torch.is_autocast_enabled("cpu")


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution that computes the gradient of a large kernel in parts that are fast in oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride = stride
        return F.conv2d(x, kernel, None, stride, _middle(kernel), groups=len(kernel))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _gradient(gradient, x, kernel, ctx.stride, _middle(kernel), which=0)
        return of_x, _gradient_of_kernel(gradient, x, kernel, ctx.stride), None


def _gradient_of_kernel(gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, ...]) -> Tensor:
    above, left = _middle(kernel)
    found = torch.empty_like(kernel)
    for start in range(0, max(1, kernel.shape[3] - 1), WIDEST - 1):  # neighbors share a column
        part = kernel[..., start : start + WIDEST]
        moved = F.pad(x, (left - start, start + part.shape[3] - 1 - left, above, above))
        found[..., start : start + WIDEST] = _gradient(gradient, moved, part, stride, (0, 0), which=1)
    return found


def _gradient(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, ...], padding: tuple[int, int], *, which: int
) -> Tensor:
    """Return the gradient of a depthwise convolution's input (0) or kernel (1)."""
    needed = [which == 0, which == 1, False]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, stride, padding, (1, 1), False, (0, 0), len(kernel), needed
    )
    return found[which]
