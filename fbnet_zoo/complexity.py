"""Parameters, multiply-accumulates and memory of a network, from its definition alone (no torch).

One multiply-accumulate (MAC) is counted once, as in the papers; biases, batch norm, activations and
pooling are not counted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo import planner, registry
from fbnet_zoo.layers import Layer, LayerType, walk
from fbnet_zoo.spec import ArchSpec

BYTES_PER_VALUE = 4
"""Size of a float32, the type for which `peak_mb` is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one layer, for one image.

    Attributes:
        name: module name in the built network.
        type: type of the layer.
        params: trainable parameters.
        macs: multiply-accumulates.
        activations: values in the output of a convolution or linear layer, else 0.
        live: activation values in memory while the layer runs: input, output, and tensors that are needed later.
    """

    name: str
    type: LayerType
    params: int
    macs: int
    activations: int
    live: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a network, for one square image of `input_size` px."""

    input_size: int
    layers: tuple[LayerCost, ...]

    @property
    def params(self) -> int:
        """Trainable parameters, including batch norm."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Values in the outputs of convolutions and linear layers (Radosavovic et al., arXiv:2003.13678)."""
        return sum(layer.activations for layer in self.layers)

    @property
    def peak_activations(self) -> int:
        """Largest number of live activation values, with batch norm folded and activations in place."""
        return max(layer.live for layer in self.layers)

    @property
    def peak_mb(self) -> float:
        """`peak_activations` in float32, MB (10^6 bytes)."""
        return self.peak_activations * BYTES_PER_VALUE / 1e6

    def by_part(self) -> dict[str, "Cost"]:
        """Return the costs of `stem`, each stage (`stages.2`, …), `head` and `classifier`, in order."""
        groups: dict[str, list[LayerCost]] = {}
        for layer in self.layers:
            groups.setdefault(_part(layer.name), []).append(layer)
        return {part: Cost(input_size=self.input_size, layers=tuple(group)) for part, group in groups.items()}


def cost(
    network: str | Path | ArchSpec,
    input_size: int | None = None,
    *,
    in_channels: int = 3,
    num_classes: int = 1000,
) -> Cost:
    """Return the cost of a network, for one image.

    Args:
        network: a name, an alias, a YAML path or a definition.
        input_size: side of the square image, px (default: the definition's).
        in_channels: channels of the image.
        num_classes: outputs of the classifier.

    Raises:
        UnknownNameError: there is no such entry.
        InputError: the image is too small for the network.

    >>> cost("fbnet_b").macs
    291004424
    """
    spec = network if isinstance(network, ArchSpec) else registry.get_spec(network)
    size = spec.input_size if input_size is None else input_size
    plan = planner.plan(spec, in_channels=in_channels, num_classes=num_classes)
    walked = tuple(walk(plan, size))
    return Cost(
        input_size=size,
        layers=tuple(_layer_cost(layer, live) for layer, live in zip(walked, live_values(walked), strict=True)),
    )


def count(walked: Iterable[Layer]) -> tuple[int, int]:
    """Return the trainable parameters and the multiply-accumulates of layers."""
    layers = tuple(walked)
    return sum(layer.params for layer in layers), sum(layer.macs for layer in layers)


def _layer_cost(layer: Layer, live: int) -> LayerCost:
    return LayerCost(
        name=layer.name,
        type=layer.type,
        params=layer.params,
        macs=layer.macs,
        activations=layer.out_channels * layer.size_out**2 if layer.type in {"conv", "linear"} else 0,
        live=live,
    )


def live_values(walked: tuple[Layer, ...], *, input_stays: bool = False) -> Iterator[int]:
    """Yield the number of live activation values while each layer runs; a tensor is live until its last use.

    Args:
        walked: consecutive layers.
        input_stays: keep their input live to the end, as a residual connection around them does.
    """
    sizes, steps = _tensors(walked)
    last_use = {tensor: step for step, tensors in enumerate(steps) for tensor in tensors}
    if input_stays:
        last_use[0] = len(steps)
    alive: set[int] = set()
    for step, tensors in enumerate(steps):
        alive.update(tensors)
        yield sum(sizes[tensor] for tensor in alive)
        alive = {tensor for tensor in alive if last_use[tensor] > step}


def _tensors(walked: tuple[Layer, ...]) -> tuple[list[int], list[set[int]]]:
    """Return the number of values in each tensor, and the tensors that each layer reads or writes.

    Batch norm and activations work in place; `mul` and `add` also read the input of their block.
    """
    sizes, steps, current = [walked[0].in_channels * walked[0].size_in ** 2], [], 0
    entered: dict[str, int] = {}
    for layer in walked:
        for module in _parents(layer.name):
            entered.setdefault(module, current)
        touched = {current}
        if layer.type in {"mul", "add"}:
            touched.add(entered[layer.name.rpartition(".")[0]])
        if layer.type not in {"bn", "act"}:
            sizes.append(layer.out_channels * layer.size_out**2)
            current = len(sizes) - 1
        steps.append(touched | {current})
    return sizes, steps


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def _part(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "stages":
        return ".".join(parts[:2])
    return "head" if parts[0] == "pool" else parts[0]
