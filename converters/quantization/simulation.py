"""Simulation of quantized files in floating point."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fbnet_zoo import blocks
from fbnet_zoo.converters.program import LAST_OF_BLOCK
from fbnet_zoo.converters.respell import StaticConvClassifier

_FUSED = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Identity)
"""Modules that runtimes fuse into the preceding convolution, without rounding in between."""

_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphSimulation:
    """A quantized PyTorch graph, which rounds every value as the file does.

    Attributes:
        module: a module with the graph as `network`.
        runtime: name of the simulation.
    """

    module: nn.Module
    runtime: str = "a simulation in PyTorch"

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.module(torch.from_numpy(images)).numpy()

    @torch.no_grad()
    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the output of every node, in order."""
        for node, value in node_values(self.module.get_submodule("network"), torch.from_numpy(images)):
            if node.op == "call_function":
                yield node.name, value.numpy()


def node_values(module: nn.Module, *inputs: Tensor) -> list[tuple[fx.Node, Tensor]]:
    """Return every node of a graph module whose value is a tensor, with the value for the given inputs."""
    interpreter = _NodeValues(module)
    interpreter.run(*inputs)
    return interpreter.values


class _NodeValues(fx.Interpreter):
    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.values: list[tuple[fx.Node, Tensor]] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.values.append((n, value))
        return value


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of a network in the deploy form by name, in order.

    A layer is a convolution with its activation, a squeeze-excite module as a whole, or the classifier.
    """
    kinds = (blocks.ConvBNAct, blocks.SqueezeExcitation, StaticConvClassifier)
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


class RoundedNetwork:
    """A copy of a network in which any layers can be rounded to 8 bits.

    Weights are rounded symmetrically per output channel; inputs, outputs and intermediate values of a layer per tensor
    with a zero point. The sum of a residual block belongs to the block's last layer. This approximates all formats,
    whose arithmetic differs in details.

    Args:
        network: a network in the deploy form.
        images: images for the ranges: float32 `(N, C, S, S)`.
    """

    def __init__(self, network: nn.Module, images: np.ndarray) -> None:
        self._network = copy.deepcopy(network)
        self._layers = layers(self._network)
        self._active: set[str] = set()
        self._ranges: dict[nn.Module | str, tuple[float, float]] = {}
        self._observing = True
        self._weights = {name: list(_weights(layer)) for name, layer in self._layers.items()}
        for name, layer in self._layers.items():
            layer.register_forward_pre_hook(partial(self._enter, name))
            for part, limits in _rounded_parts(layer):
                part.register_forward_hook(partial(self._leave, name, limits))
        for name, block in self._network.named_modules():
            if isinstance(block, blocks.ResidualInvertedResidual) and f"{name}.{LAST_OF_BLOCK}" in self._layers:
                block.register_forward_hook(partial(self._leave, f"{name}.{LAST_OF_BLOCK}", (-inf, inf)))
        self(images, self._layers)
        self._observing = False

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order of execution."""
        return tuple(self._layers)

    @torch.no_grad()
    def __call__(self, images: np.ndarray, active: Iterable[str]) -> np.ndarray:
        """Return the logits of images, with the active layers rounded."""
        self._active = set(active)
        for name, weights in self._weights.items():
            for conv, plain, rounded in weights:
                conv.weight.data = rounded if name in self._active and not self._observing else plain
        return torch.cat([self._network(batch) for batch in torch.from_numpy(images).split(_BATCH)]).numpy()

    def _enter(self, name: str, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (self._rounded(name, name, inputs[0], (-inf, inf)),)

    def _leave(
        self, name: str, limits: tuple[float, float], part: nn.Module, _: tuple[Tensor], output: Tensor
    ) -> Tensor:
        return self._rounded(name, part, output, limits)

    def _rounded(self, name: str, place: nn.Module | str, value: Tensor, limits: tuple[float, float]) -> Tensor:
        if name not in self._active:
            return value
        low, high = self._ranges.get(place, (0.0, 0.0))
        if self._observing:
            seen = value.clamp(*limits)
            self._ranges[place] = (min(low, float(seen.min())), max(high, float(seen.max())))
            return value
        scale = max((high - low) / 255, 1e-12)
        return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 255)


def _weights(layer: nn.Module) -> Iterator[tuple[nn.Conv2d, Tensor, Tensor]]:
    """Yield the convolutions of a layer with their original and rounded weights."""
    for conv in layer.modules():
        if isinstance(conv, nn.Conv2d):
            plain = conv.weight.detach()
            scale = (plain.abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
            zero = torch.zeros(len(scale), dtype=torch.int32)
            yield conv, plain, torch.fake_quantize_per_channel_affine(plain, scale, zero, 0, -127, 127)


def _rounded_parts(layer: nn.Module) -> Iterator[tuple[nn.Module, tuple[float, float]]]:
    """Yield the parts of a layer whose output is rounded, and the limits of its relevant range."""
    match layer:
        case blocks.ConvBNAct():
            yield from _activated(layer.conv, layer.act)
        case blocks.SqueezeExcitation():
            yield layer.pool, (-inf, inf)
            yield from _activated(layer.reduce, layer.act)
            yield from _activated(layer.expand, layer.gate)
            yield layer, (-inf, inf)
        case _:
            yield layer, (-inf, inf)


def _activated(conv: nn.Module, act: nn.Module) -> Iterator[tuple[nn.Module, tuple[float, float]]]:
    if isinstance(act, nn.Identity):
        yield conv, (-inf, inf)
        return
    if not isinstance(act, _FUSED):
        yield conv, (-3.0 if isinstance(act, nn.Hardswish) else -inf, inf)
    yield act, (-inf, inf)
