"""Networks as rows of text, one per layer, in the form of tests/data/README.md.

`of_definition` renders what `walk` says; `record` writes down the ATen calls of a real forward on the meta device
and asks nothing of our code.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from fbnet_zoo import planner
from fbnet_zoo._private import TorchDispatchMode
from fbnet_zoo.layers import Layer, walk
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from tests.helpers.paths import DATA

ACTIVATIONS = {
    "aten.relu_": "relu",
    "aten.hardtanh_": "relu6",
    "aten.hardswish_": "hard_swish",
    "aten.silu_": "swish",
    "aten.hardsigmoid_": "hard_sigmoid",
    "aten.sigmoid": "sigmoid",
}
SILENT = {"aten.empty", "aten.view", "aten.transpose", "aten._unsafe_view", "aten.t"}


def load(name: str) -> dict[str, Any]:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def of_definition(spec: ArchSpec, size: int) -> list[str]:
    rows: list[str] = []
    for layer in walk(planner.plan(spec), size):
        if layer.type in {"bn", "act"}:
            rows[-1] += f" {layer.function or layer.type}"
        else:
            rows.append(_layer_row(layer))
    return rows


def _layer_row(layer: Layer) -> str:
    if layer.type == "conv":
        return conv(
            (layer.in_channels, layer.out_channels),
            (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups),
            (layer.size_in, layer.size_out),
            bias=layer.bias,
        )
    if layer.type == "linear":
        return f"linear {layer.in_channels}>{layer.out_channels} bias"
    if layer.type == "gap":
        return f"gap {layer.out_channels} {layer.size_in}>1"
    groups = f" g{layer.groups}" if layer.type == "shuffle" else ""
    return f"{layer.type} {layer.out_channels}{groups} {layer.size_out}"


def conv(channels: tuple[int, int], form: tuple[int, int, int, int, int], sizes: tuple[int, int], *, bias: bool) -> str:
    absent = {"k": 1, "s": 1, "p": 0, "d": 1, "g": 1}
    said = "".join(f" {key}{value}" for (key, usual), value in zip(absent.items(), form, strict=True) if value != usual)
    return f"conv {channels[0]}>{channels[1]}{said}{' bias' if bias else ''} {sizes[0]}>{sizes[1]}"


def on_meta(spec: ArchSpec, **options: Any) -> FBNet:
    """Build a network without memory for its parameters."""
    with torch.device("meta"):
        return FBNet(spec, **options).eval()


def record(module: nn.Module, size: int) -> "Recorder":
    image = torch.zeros(1, 3, size, size, device="meta")
    with Recorder() as recorder, torch.no_grad():
        module(image)
    return recorder


class Recorder(TorchDispatchMode):
    """Writes a row per ATen call, adds up the multiply-accumulates; an unknown call is an error.

    Attributes:
        rows: the layers.
        macs: of convolutions and linear layers.
        eps: every epsilon of a batch norm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.macs = 0
        self.eps: set[float] = set()
        self.shuffled = 1

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function).rpartition(".")[0]
        if name in ACTIVATIONS:
            self.rows[-1] += f" {ACTIVATIONS[name]}"
        elif name == "aten.native_batch_norm":
            self.rows[-1] += " bn"
            self.eps.add(args[7])
        elif name == "aten.view" and len(args[1]) == 5:
            self.shuffled = args[1][1]
        elif name not in SILENT:
            self.rows.append(self.row(name, args, result))
        return result

    def row(self, name: str, args: Any, result: Tensor) -> str:
        channels, size = (result.shape[1], result.shape[-1]) if result.ndim == 4 else (0, 0)
        match name:
            case "aten.convolution":
                x, weight, bias, stride, padding, dilation, _, _, groups = args
                assert len(set(stride)) == len(set(padding)) == len(set(dilation)) == 1
                self.macs += weight[0].numel() * result.numel()
                form = (weight.shape[2], stride[0], padding[0], dilation[0], groups)
                return conv((x.shape[1], channels), form, (x.shape[-1], size), bias=bias is not None)
            case "aten.addmm":
                self.macs += args[2].numel()
                return f"linear {args[1].shape[1]}>{result.shape[1]} bias"
            case "aten.mean":
                return f"gap {channels} {args[0].shape[-1]}>1"
            case "aten.clone":  # of a transposed view: a shuffle
                return f"shuffle {result.shape[1] * result.shape[2]} g{self.shuffled} {result.shape[-1]}"
            case "aten.mul" | "aten.add":
                return f"{name.removeprefix('aten.')} {channels} {size}"
        raise AssertionError(f"the network calls {name}, which no layer of ours needs")
