"""Errors of the layers of a quantized file relative to the network's."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fbnet_zoo.converters.manifest import LayerSqnr
from fbnet_zoo.converters.parity import Runner, outputs, ratio_db, shape_of
from fbnet_zoo.converters.program import MODULE_PREFIX, Program
from fbnet_zoo.converters.quantization.simulation import layers

Traced = Sequence[tuple[str, np.ndarray]]


@dataclass(slots=True, kw_only=True, eq=False)
class _LayerError:
    """Position of a layer's tensor in the trace of a file, and the energies summed so far."""

    place: int
    signal: float = 0.0
    noise: float = 0.0

    def add(self, output: np.ndarray, traced: Traced) -> None:
        self.signal += _energy(output)
        self.noise += _energy(output.reshape(-1) - traced[self.place][1].reshape(-1))


def layer_sqnr(program: Program, source: Runner, batches: Iterable[np.ndarray]) -> list[LayerSqnr]:
    """Return the signal-to-quantization-noise ratio of each layer's output, over all images.

    A layer's tensor has the name of its last node, possibly with a suffix. If no tensor has that name, because the
    converter has renamed them, the closest tensor of the same shape is used; without one, the layer is omitted.

    Args:
        program: the float32 program.
        source: a quantized file or its simulation; the result is empty if it exposes no tensors.
        batches: batches of images.
    """
    network, nodes = program.module.get_submodule("network"), _last_nodes(program)
    found: dict[str, _LayerError] = {}
    for images in batches:
        traced = list(source.trace(images))
        for name, output in outputs(network, images):
            if name in nodes and name not in found and (place := _place(output, nodes[name], traced)) is not None:
                found[name] = _LayerError(place=place)
            if name in found:
                found[name].add(output, traced)
    return [LayerSqnr(name=name, sqnr_db=ratio_db(layer.signal, layer.noise)) for name, layer in found.items()]


def _last_nodes(program: Program) -> dict[str, str]:
    """Return the name of the last node of each layer."""
    last: dict[str, str] = {}
    names = layers(program.module.get_submodule("network"))
    for node in program.exported.graph.nodes:
        for path, _ in node.meta.get("nn_module_stack", {}).values():
            last[path.removeprefix(MODULE_PREFIX)] = node.name
    return {name: last[name] for name in names if name in last}


def _place(output: np.ndarray, node: str, traced: Traced) -> int | None:
    """Return the position of a node's output in a trace: of several candidates, the closest one."""
    shape = shape_of(output)
    alike = [place for place, (_, value) in enumerate(traced) if shape_of(value) == shape and value.dtype.kind == "f"]
    named = [place for place in alike if re.fullmatch(rf"{re.escape(node)}([._]\D.*)?", traced[place][0])]
    flat = output.reshape(-1)
    return min(named or alike, key=lambda place: _energy(flat - traced[place][1].reshape(-1)), default=None)


def _energy(value: np.ndarray) -> float:
    return float(np.square(value, dtype=np.float64).sum())
