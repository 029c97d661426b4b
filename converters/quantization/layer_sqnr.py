"""How far the layers of a quantized file are from the network's."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fbnet_zoo.converters.manifest import LayerSqnr
from fbnet_zoo.converters.parity import LIMIT_DB, Runner, outputs, shape_of
from fbnet_zoo.converters.program import MODULE_PREFIX, Program
from fbnet_zoo.converters.quantization.simulation import layers

Traced = Sequence[tuple[str, np.ndarray]]


@dataclass(slots=True, kw_only=True, eq=False)
class _Layer:
    """A layer's tensor in a file, and the energies summed up so far."""

    place: int
    signal: float = 0.0
    noise: float = 0.0

    def add(self, output: np.ndarray, traced: Traced) -> None:
        self.signal += _energy(output)
        self.noise += _energy(output.reshape(-1) - traced[self.place][1].reshape(-1))

    @property
    def sqnr_db(self) -> float:
        if not self.noise:
            return LIMIT_DB
        if not self.signal or not math.isfinite(self.noise):
            return -LIMIT_DB
        return float(np.clip(10 * math.log10(self.signal / self.noise), -LIMIT_DB, LIMIT_DB))


def layer_sqnr(program: Program, source: Runner, batches: Iterable[np.ndarray]) -> list[LayerSqnr]:
    """Return the signal-to-quantization-noise ratio of each layer's output, all images together.

    A layer's tensor has the name of its last node, with a suffix or without. Where no tensor has, since the converter
    named them anew, it is the one of its shape that is nearest. Layers without a tensor of their shape are left out.

    Args:
        program: in float32.
        source: a quantized file or its simulation; of one that shows no tensors, nothing is returned.
        batches: images.
    """
    network, nodes = program.module.get_submodule("network"), _last_nodes(program)
    found: dict[str, _Layer] = {}
    for images in batches:
        traced = list(source.trace(images))
        for name, output in outputs(network, images):
            if name in nodes and name not in found and (place := _place(output, nodes[name], traced)) is not None:
                found[name] = _Layer(place=place)
            if name in found:
                found[name].add(output, traced)
    return [LayerSqnr(name=name, sqnr_db=layer.sqnr_db) for name, layer in found.items()]


def _last_nodes(program: Program) -> dict[str, str]:
    """Return the name of the last node of each layer."""
    last: dict[str, str] = {}
    names = layers(program.module.get_submodule("network"))
    for node in program.exported.graph.nodes:
        for path, _ in node.meta.get("nn_module_stack", {}).values():
            last[path.removeprefix(MODULE_PREFIX)] = node.name
    return {name: last[name] for name in names if name in last}


def _place(output: np.ndarray, node: str, traced: Traced) -> int | None:
    """Return where in a trace the output of a node is: of several candidates, the nearest one."""
    shape = shape_of(output)
    alike = [place for place, (_, value) in enumerate(traced) if shape_of(value) == shape and value.dtype.kind == "f"]
    named = [place for place in alike if re.fullmatch(rf"{re.escape(node)}([._]\D.*)?", traced[place][0])]
    flat = output.reshape(-1)
    return min(named or alike, key=lambda place: _energy(flat - traced[place][1].reshape(-1)), default=None)


def _energy(value: np.ndarray) -> float:
    return float(np.square(value, dtype=np.float64).sum())
