"""Independent float32 implementation of TensorFlow Lite graphs in PyTorch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.converters.tflite.graph import TfliteGraph, TfliteLayer, TfliteTensor


def compute(graph: TfliteGraph, image: Tensor) -> Tensor:
    """Return the output for an image (N, C, H, W); activations are not rounded, only clamped to their range."""
    values = {graph.inputs[0]: image.permute(0, 2, 3, 1)}
    for name, tensor in graph.tensors.items():
        if tensor.data is not None:
            values[name] = dequantized(tensor)
    for layer in graph.layers:
        computed = LAYERS[layer.op](layer, *(values[name] for name in layer.inputs))
        assert tuple(computed.shape) == graph.tensors[layer.output].shape
        values[layer.output] = clamped(computed, graph.tensors[layer.output])
    return values[graph.outputs[0]]


def dequantized(tensor: TfliteTensor) -> Tensor:
    """Return the values of a constant; plain integers such as shapes are returned unchanged."""
    integers = torch.from_numpy(tensor.data)
    if tensor.scale is None:
        return integers
    shape = [1] * integers.ndim
    shape[tensor.scale.axis] = -1
    return (integers - tensor.scale.zero_point) * torch.tensor(tensor.scale.scales).reshape(shape)


def clamped(x: Tensor, tensor: TfliteTensor) -> Tensor:
    """Clamp values to the range of int8."""
    assert tensor.scale is not None
    (scale,), zero_point = tensor.scale.scales, tensor.scale.zero_point
    return x.clamp((-128 - zero_point) * scale, (127 - zero_point) * scale)


def _conv(layer: TfliteLayer, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if layer.op == "DEPTHWISE_CONV_2D":  # (1, h, w, out)
        weight, groups = weight.permute(3, 0, 1, 2), x.shape[3]
    else:  # (out, h, w, in)
        weight, groups = weight.permute(0, 3, 1, 2), x.shape[3] // weight.shape[3]
    stride, dilation = layer.values["StrideH"], layer.values["DilationHFactor"]
    image = x.permute(0, 3, 1, 2)
    if layer.values["Padding"] == 0:  # SAME
        size = image.shape[2]
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (weight.shape[2] - 1) + 1 - size)
        image = F.pad(image, [total // 2, total - total // 2] * 2)
    return F.conv2d(image, weight, bias, stride, 0, dilation, groups).permute(0, 2, 3, 1)


def _pad(layer: TfliteLayer, x: Tensor, around: Tensor) -> Tensor:
    return F.pad(x, around.flip(0).flatten().tolist())


LAYERS: dict[str, Callable[..., Tensor]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "PAD": _pad,
    "ADD": lambda layer, x, y: x + y,
    "MUL": lambda layer, x, y: x * y,
    "AVERAGE_POOL_2D": lambda layer, x: x.mean((1, 2), keepdim=True),
    "HARD_SWISH": lambda layer, x: F.hardswish(x),
    "LOGISTIC": lambda layer, x: torch.sigmoid(x),
    "RESHAPE": lambda layer, x, shape: x.reshape(shape.tolist()),
    "TRANSPOSE": lambda layer, x, order: x.permute(order.tolist()),
}
