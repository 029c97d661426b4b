"""The operations of a Core ML ML Program, implemented in PyTorch.

`OPS` maps the name of an operation to a function whose parameters have the MIL names of its inputs. Numbers are passed
as tensors, including parameters such as `strides`; strings as `str`; lists as `list`. Values of type fp16 are passed as
fp32, and the caller stores each result in the type that the program declares, so no function here deals with precision,
and sums over many terms are accumulated in fp32. An unsupported variant raises `NotImplementedError`.

The semantics are those of Apple's MIL operation reference (coremltools 9, operation sets iOS 15 to iOS 18).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def _spatial_padding(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int], *, pad_type: str, pad: Tensor
) -> list[int]:
    """Return the padding before and after each spatial axis, first axis first."""
    if pad_type == "valid":
        return [0] * (2 * len(size))
    if pad_type == "custom":
        return [int(n) for n in pad.tolist()]
    padding = []
    for length, extent, stride in zip(size, window, strides, strict=True):
        total = max(0, (math.ceil(length / stride) - 1) * stride + extent - length)
        small, large = total // 2, total - total // 2
        padding += [small, large] if pad_type == "same" else [large, small]
    return padding


def _pad_axes(x: Tensor, padding: Sequence[int], *, mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad the last axes of `x`; `padding` lists (before, after) with the first of these axes first."""
    pairs = [padding[i : i + 2] for i in range(0, len(padding), 2)]
    last_axis_first = [n for pair in reversed(pairs) for n in pair]
    if mode == "constant":
        return functional.pad(x, last_axis_first, value=value)
    while last_axis_first[-2:] == [0, 0]:  # torch reflects only spatial axes
        del last_axis_first[-2:]
    return functional.pad(x, last_axis_first, mode=mode)


def _pad(x: Tensor, pad: Tensor, mode: str, constant_val: Tensor) -> Tensor:
    return _pad_axes(x, pad.tolist(), mode=mode, value=float(constant_val))


def _conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    dilations: Tensor,
    groups: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    steps, rates = strides.tolist(), dilations.tolist()
    window = [(k - 1) * rate + 1 for k, rate in zip(weight.shape[2:], rates, strict=True)]
    padded = _pad_axes(x, _spatial_padding(x.shape[2:], window, steps, pad_type=pad_type, pad=pad))
    convolve = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[x.ndim]
    return convolve(padded, weight, bias, stride=steps, dilation=rates, groups=int(groups))


def _max_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor, ceil_mode: Tensor
) -> Tensor:
    pool: Callable[..., Tensor] = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}[x.ndim]
    window, steps = kernel_sizes.tolist(), strides.tolist()
    padding = _spatial_padding(x.shape[2:], window, steps, pad_type=pad_type, pad=pad)
    if ceil_mode:  # MIL allows it with symmetric padding only
        return pool(x, window, steps, padding[::2], ceil_mode=True)
    return pool(_pad_axes(x, padding, value=-math.inf), window, steps)


def _avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor,
    pad_type: str,
    pad: Tensor,
    ceil_mode: Tensor,
    exclude_padding_from_average: Tensor,
) -> Tensor:
    pool: Callable[..., Tensor] = {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}[x.ndim]
    window, steps = kernel_sizes.tolist(), strides.tolist()
    padding = _spatial_padding(x.shape[2:], window, steps, pad_type=pad_type, pad=pad)
    if ceil_mode:  # MIL allows it with symmetric padding only
        count_padding = not exclude_padding_from_average
        return pool(x, window, steps, padding[::2], ceil_mode=True, count_include_pad=count_padding)
    mean = pool(_pad_axes(x, padding), window, steps)
    if exclude_padding_from_average:
        return mean / pool(_pad_axes(torch.ones_like(x), padding), window, steps)
    return mean


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


def _gelu(x: Tensor, mode: str) -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor, transpose_y: Tensor) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _axes(x: Tensor, axes: Tensor | None) -> list[int]:
    return list(range(x.ndim)) if axes is None else axes.tolist()


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _concat(values: list[Tensor], axis: Tensor, interleave: Tensor) -> Tensor:
    if interleave:
        raise NotImplementedError("interleaved concatenation")
    return torch.cat([torch.atleast_1d(value) for value in values], dim=int(axis))


def _gather(
    x: Tensor, indices: Tensor, axis: Tensor, batch_dims: Tensor | None = None, validate_indices: Tensor | None = None
) -> Tensor:
    del validate_indices  # an index out of range is always an error here
    if batch_dims is not None and batch_dims != 0:
        raise NotImplementedError("batch_dims other than 0")
    along = int(axis) % x.ndim
    index = torch.where(indices < 0, indices + x.shape[along], indices).to(torch.int64)
    return x.index_select(along, index.flatten()).reshape(x.shape[:along] + index.shape + x.shape[along + 1 :])


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    def per_axis(values: Tensor | None, default: int) -> list[int]:
        return [default] * x.ndim if values is None else [int(value) for value in values]

    starts, stops, steps = per_axis(begin, 0), per_axis(end, 0), per_axis(stride, 1)
    from_start, to_end, drop = (per_axis(mask, 0) for mask in (begin_mask, end_mask, squeeze_mask))
    index = tuple(
        starts[i] if drop[i] else slice(None if from_start[i] else starts[i], None if to_end[i] else stops[i], steps[i])
        for i in range(x.ndim)
    )
    return torch.from_numpy(x.numpy()[index].copy())  # numpy, because torch has no negative steps


def _upsample_nearest_neighbor(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    return functional.interpolate(x, _scaled_size(x, scale_factor_height, scale_factor_width), mode="nearest")


def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor,
    scale_factor_width: Tensor,
    align_corners: Tensor,
    half_pixel_centers: Tensor | None = None,
) -> Tensor:
    if half_pixel_centers is not None and bool(half_pixel_centers) == bool(align_corners):
        raise NotImplementedError("half_pixel_centers equal to align_corners")
    size = _scaled_size(x, scale_factor_height, scale_factor_width)
    return functional.interpolate(x, size, mode="bilinear", align_corners=bool(align_corners))


def _scaled_size(x: Tensor, height: Tensor, width: Tensor) -> list[int]:
    return [math.floor(x.shape[-2] * float(height)), math.floor(x.shape[-1] * float(width))]


def _quantize(
    input: Tensor,  # noqa: A002 (MIL's name)
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    limits = np.iinfo(output_dtype)
    levels = torch.round(input / _along(axis, scale, input.ndim))
    offset = 0 if zero_point is None else _along(axis, zero_point, input.ndim)
    return (levels + offset).clamp(limits.min, limits.max)


def _dequantize(
    input: Tensor,  # noqa: A002 (MIL's name)
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    offset = 0 if zero_point is None else _along(axis, zero_point, input.ndim).float()
    return (input.float() - offset) * _along(axis, scale, input.ndim)


def _along(axis: Tensor | None, values: Tensor, rank: int) -> Tensor:
    """Reshape a vector to broadcast along `axis` of a tensor of the given rank; a scalar is returned unchanged."""
    if axis is None or values.ndim == 0:
        return values
    return values.reshape([-1 if i == int(axis) % rank else 1 for i in range(rank)])


def _classify(probabilities: Tensor, classes: list[str] | list[int]) -> tuple[Any, Tensor]:
    flat = probabilities.flatten()
    return np.asarray(classes[int(flat.argmax())]), flat


OPS: Mapping[str, Callable[..., Any]] = {
    # layers
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "conv": _conv,
    "linear": lambda x, weight, bias=None: functional.linear(x, weight, bias),
    "matmul": _matmul,
    "max_pool": _max_pool,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
    # activations
    "clip": lambda x, alpha, beta: x.clamp(alpha, beta),
    "elu": lambda x, alpha: functional.elu(x, float(alpha)),
    "gelu": _gelu,
    "leaky_relu": lambda x, alpha: functional.leaky_relu(x, float(alpha)),
    "prelu": lambda x, alpha: x.prelu(alpha),
    "relu": lambda x: x.relu(),
    "relu6": lambda x: x.clamp(0, 6),
    "sigmoid": lambda x: x.sigmoid(),
    "sigmoid_hard": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "silu": lambda x: x * x.sigmoid(),
    "softmax": lambda x, axis: x.softmax(int(axis)),
    "tanh": lambda x: x.tanh(),
    "thresholded_relu": lambda x, alpha: torch.where(x >= alpha, x, 0),
    # arithmetic
    "abs": lambda x: x.abs(),
    "add": lambda x, y: x + y,
    "exp": lambda x: x.exp(),
    "floor_div": lambda x, y: x.floor_divide(y),
    "maximum": lambda x, y: x.maximum(y),
    "minimum": lambda x, y: x.minimum(y),
    "mul": lambda x, y: x * y,
    "pow": lambda x, y: x**y,
    "real_div": lambda x, y: x / y,
    "rsqrt": lambda x, epsilon: (x + epsilon).rsqrt(),
    "sqrt": lambda x: x.sqrt(),
    "sub": lambda x, y: x - y,
    # reductions
    "reduce_max": lambda x, keep_dims, axes=None: x.amax(_axes(x, axes), keepdim=bool(keep_dims)),
    "reduce_mean": lambda x, keep_dims, axes=None: x.mean(_axes(x, axes), keepdim=bool(keep_dims)),
    "reduce_sum": lambda x, keep_dims, axes=None: x.sum(_axes(x, axes), keepdim=bool(keep_dims)),
    # shapes and types; the caller applies the declared output type of `cast`
    "cast": lambda x, dtype: x,
    "concat": _concat,
    "expand_dims": _expand_dims,
    "gather": _gather,
    "identity": lambda x: x,
    "pad": _pad,
    "reshape": _reshape,
    "shape": lambda x: torch.tensor(x.shape, dtype=torch.int32),
    "slice_by_index": _slice_by_index,
    "split": lambda x, axis, num_splits=None, split_sizes=None: (
        x.split(split_sizes.tolist(), dim=int(axis)) if num_splits is None else x.chunk(int(num_splits), dim=int(axis))
    ),
    "squeeze": lambda x, axes=None: x.squeeze(_axes(x, axes)),
    "stack": lambda values, axis: torch.stack(values, dim=int(axis)),
    "transpose": lambda x, perm: x.permute(perm.tolist()),
    # quantization and classes
    "classify": _classify,
    "dequantize": _dequantize,
    "quantize": _quantize,
}
