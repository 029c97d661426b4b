"""Lowering of a program in the deploy form to the layers of a TensorFlow Lite file.

The ranges of activations come from one image of noise: enough for a compiler that counts cycles, not for classifying.
Bias, padding and clamps become part of a convolution; as in ExecuTorch, the range of int8 implements clamps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from fbnet_zoo.converters.quantization.simulation import node_values
from fbnet_zoo.converters.tflite.graph import Floats, Scale, TfliteGraph, range_scale, rounded_weights
from fbnet_zoo.errors import ConversionError

_SAME, _VALID = 0, 1
_SIGMOID = Scale(scales=(1 / 256,), zero_point=-128)
_SHUFFLED = 5
"""Number of dimensions of an image whose channels are split in two for a shuffle."""


def tflite_graph(exported: ExportedProgram) -> TfliteGraph:
    """Return the layers of a program for one image, weights and activations in int8.

    Raises:
        ConversionError: the program has an operator that is not in the deploy form.
    """
    module = exported.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)  # noqa: S101 - the type that torch.export returns
    return _Lowering(module).run()


@torch.no_grad()
def _ranges(module: fx.GraphModule) -> dict[str, tuple[float, float]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(_shape(node), generator=generator) for node in module.graph.nodes if node.op == "placeholder"]
    return {node.name: (float(value.min()), float(value.max())) for node, value in node_values(module, *images)}


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(int(size) for size in node.meta["val"].shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Geometry of a convolution over a square input; sizes in pixels.

    Attributes:
        size: side of the input.
        reach: side of the dilated kernel.
        stride: stride in both directions.
        before: padding before the first pixel.
        output: side of the output.
    """

    size: int
    reach: int
    stride: int
    before: int
    output: int

    @property
    def after(self) -> int:
        """Padding after the last pixel."""
        return max(0, (self.output - 1) * self.stride + self.reach - self.size - self.before)

    @property
    def is_same(self) -> bool:
        """Whether this is the padding SAME of the format, with an odd pixel at the end."""
        wanted = max(0, (self.output - 1) * self.stride + self.reach - self.size)
        return self.output == -(-self.size // self.stride) and self.before == wanted // 2


class _Lowering:
    """Lowers one module."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._ranges = _ranges(module)
        self._graph = TfliteGraph()
        self._names: dict[str, str] = {}

    def run(self) -> TfliteGraph:
        for node in self._module.graph.nodes:
            if node.op == "placeholder":
                self._graph.inputs.append(self._output(node))
            elif node.op == "call_function" and node.name not in self._names:
                self._lower(node)
            elif node.op == "output":
                self._graph.outputs += [self._names[each.name] for each in node.all_input_nodes]
        return self._graph

    def _lower(self, node: fx.Node) -> None:
        known: dict[str, Callable[[fx.Node], None]] = {
            "conv2d": self._conv,
            "add": self._binary,
            "mul": self._binary,
            "adaptive_avg_pool2d": self._pool,
            "hardswish": self._hard_swish,
            "sigmoid": self._sigmoid,
            "silu": self._silu,
            "view": self._view,
            "transpose": self._transpose,
            "contiguous": self._contiguous,
        }
        name = _name(node)
        if name not in known:
            raise ConversionError(f"aten.{name} cannot be written for Ethos-U; supported: {', '.join(known)}")
        known[name](node)

    def _conv(self, node: fx.Node) -> None:
        x, weight, bias, stride, padding, dilation, groups = _conv_arguments(node)
        reach = dilation * (_shape(weight)[-1] - 1) + 1
        window = _Window(size=_shape(x)[2], reach=reach, stride=stride, before=padding, output=_shape(node)[2])
        depthwise = 1 < groups == _shape(x)[1]
        image, constants = self._image(node, x, window), self._constants(node, x, weight, bias, depthwise=depthwise)
        options = {
            "Padding": _SAME if window.is_same else _VALID,
            "StrideW": stride,
            "StrideH": stride,
            "DilationWFactor": dilation,
            "DilationHFactor": dilation,
        }
        op, kind = "CONV_2D", "Conv2DOptions"
        if depthwise:
            op, kind = f"DEPTHWISE_{op}", f"Depthwise{kind}"
            options["DepthMultiplier"] = _shape(node)[1] // groups
        self._graph.layer(op, (image, *constants), self._output(_clamped(node), node), kind, **options)

    def _image(self, node: fx.Node, x: fx.Node, window: _Window) -> str:
        """Return the input of a convolution, padded explicitly if the format cannot express the padding."""
        source = self._graph.tensors[self._names[x.name]]
        if window.is_same or not (window.before or window.after):
            return source.name
        assert source.scale is not None  # noqa: S101 - activations have one
        around = np.array([(0, 0), *[(window.before, window.after)] * 2, (0, 0)], np.int32)
        batch, height, width, channels = source.shape
        wider = window.before + window.after
        padded = self._graph.tensor(
            f"{node.name}_padded", (batch, height + wider, width + wider, channels), source.scale
        )
        inputs = (source.name, self._graph.constant(f"{node.name}_around", around))
        self._graph.layer("PAD", inputs, padded, "PadOptions")
        return padded

    def _constants(
        self, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None, *, depthwise: bool
    ) -> tuple[str, str]:
        """Add the weights, (out, h, w, in) or (1, h, w, out) if depthwise, and the bias."""
        weights, axis = self._value(weight), 3 if depthwise else 0
        laid = weights.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        integers, scale = rounded_weights(laid, axis=axis)
        scales = np.array(scale.scales) * self._scale(x).scales[0]
        shift = np.zeros(len(weights)) if bias is None else self._value(bias)
        counts = np.rint(shift / scales).astype(np.int32)
        return (
            self._graph.constant(f"{node.name}_weight", integers, scale),
            self._graph.constant(f"{node.name}_bias", counts, Scale(scales=tuple(scales.tolist()))),
        )

    def _binary(self, node: fx.Node) -> None:
        name, output = _name(node), self._output(_clamped(node), node)
        self._graph.layer(name.upper(), self._inputs(node), output, f"{name.capitalize()}Options")

    def _pool(self, node: fx.Node) -> None:
        height, width = _shape(node.all_input_nodes[0])[2:]
        options = {"Padding": _VALID, "StrideW": 1, "StrideH": 1, "FilterWidth": width, "FilterHeight": height}
        self._graph.layer("AVERAGE_POOL_2D", self._inputs(node), self._output(node), "Pool2DOptions", **options)

    def _hard_swish(self, node: fx.Node) -> None:
        self._graph.layer("HARD_SWISH", self._inputs(node), self._output(node), "HardSwishOptions")

    def _sigmoid(self, node: fx.Node) -> None:
        self._graph.layer("LOGISTIC", self._inputs(node), self._output(node, scale=_SIGMOID))

    def _silu(self, node: fx.Node) -> None:
        (x,) = self._inputs(node)
        gate = self._graph.tensor(f"{node.name}_gate", _laid(_shape(node)), _SIGMOID)
        self._graph.layer("LOGISTIC", (x,), gate)
        self._graph.layer("MUL", (x, gate), self._output(node), "MulOptions")

    def _view(self, node: fx.Node) -> None:
        (x,) = node.all_input_nodes
        shape = np.array(_laid(_shape(node)), np.int32)
        inputs = (self._names[x.name], self._graph.constant(f"{node.name}_shape", shape))
        self._graph.layer("RESHAPE", inputs, self._output(node, scale=self._scale(x)), "ReshapeOptions")

    def _transpose(self, node: fx.Node) -> None:
        """Shuffle channels: transpose the two dimensions that they are split into."""
        (x,) = node.all_input_nodes
        order = self._graph.constant(f"{node.name}_order", np.array((0, 2, 1), np.int32))
        output = self._output(node, scale=self._scale(x))
        self._graph.layer("TRANSPOSE", (self._names[x.name], order), output, "TransposeOptions")

    def _contiguous(self, node: fx.Node) -> None:
        (self._names[node.name],) = self._inputs(node)

    def _inputs(self, node: fx.Node) -> tuple[str, ...]:
        return tuple(self._names[each.name] for each in node.all_input_nodes)

    def _scale(self, node: fx.Node) -> Scale:
        scale = self._graph.tensors[self._names[node.name]].scale
        assert scale is not None  # noqa: S101 - activations have one
        return scale

    def _output(self, node: fx.Node, *inside: fx.Node, scale: Scale | None = None) -> str:
        """Add the tensor of a value; nodes `inside` are fused into its layer and share the tensor."""
        name = self._graph.tensor(node.name, _laid(_shape(node)), scale or range_scale(*self._ranges[node.name]))
        self._names |= {each.name: name for each in (node, *inside)}
        return name

    def _value(self, node: fx.Node) -> Floats:
        tensor: Tensor = attrgetter(str(node.target))(self._module)
        return tensor.detach().double().numpy()


def _name(node: fx.Node) -> str:
    """Return the operator name: `conv2d` for `aten.conv2d.default`."""
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _laid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape with channels last; if they are split in two, with all pixels in one dimension."""
    if len(shape) == _SHUFFLED:
        return shape[3] * shape[4], shape[1], shape[2]
    return (shape[0], *shape[2:], shape[1])


def _conv_arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return input, weight, bias, stride, padding, dilation (one number each) and groups."""
    defaults: tuple[Any, ...] = (None, None, None, (1, 1), (0, 0), (1, 1), 1)
    arguments: tuple[Any, ...] = (*node.args, *defaults[len(node.args) :])
    return *arguments[:3], *(side for side, _ in arguments[3:6]), arguments[6]


def _clamped(node: fx.Node) -> fx.Node:
    """Return the clamp after a layer if it is the only user, else the layer: the range of int8 implements the clamp."""
    users = list(node.users)
    return users[0] if len(users) == 1 and _name(users[0]) in {"relu", "hardtanh"} else node
