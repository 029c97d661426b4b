"""A network as the layers of a TensorFlow Lite file in int8, the form that Arm's compiler for Ethos-U reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST, LARGEST = -128, 127
"""Of int8."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the integers of a tensor stand for: `scale * (integer - zero_point)`.

    Attributes:
        scales: one, or one for each index of `axis`.
        zero_point: of all.
        axis: along which the scales lie.
    """

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TfliteTensor:
    """One tensor.

    Attributes:
        name: tells it from all others.
        shape: with the channels last.
        scale: of its integers; none where they count something.
        data: int8 or int32 where it is constant.
    """

    name: str
    shape: tuple[int, ...]
    scale: Scale | None = None
    data: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteLayer:
    """One operator.

    Attributes:
        op: as the schema of TensorFlow Lite calls it.
        inputs: names of tensors.
        output: likewise.
        options: name of the table of its options in the schema; none if empty.
        values: what that holds.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    options: str = ""
    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TfliteGraph:
    """Tensors by their names, and layers in the order in which they run."""

    tensors: dict[str, TfliteTensor] = field(default_factory=dict)
    layers: list[TfliteLayer] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def tensor(self, name: str, shape: tuple[int, ...], scale: Scale) -> str:
        """Add what a layer computes, and return its name."""
        self.tensors[name] = TfliteTensor(name=name, shape=shape, scale=scale)
        return name

    def constant(self, name: str, data: NDArray[Any], scale: Scale | None = None) -> str:
        """Add a constant, and return its name."""
        self.tensors[name] = TfliteTensor(name=name, shape=data.shape, scale=scale, data=np.ascontiguousarray(data))
        return name

    def layer(self, op: str, inputs: tuple[str, ...], output: str, options: str = "", **values: int) -> None:
        """Add an operator."""
        self.layers.append(TfliteLayer(op=op, inputs=inputs, output=output, options=options, values=values))


def range_scale(low: float, high: float) -> Scale:
    """Return the scale with which int8 spans a range, with 0 in it exactly.

    >>> range_scale(0.0, 255.0)
    Scale(scales=(1.0,), zero_point=-128, axis=0)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-6) / (LARGEST - LOWEST)
    return Scale(scales=(scale,), zero_point=round(LOWEST - low / scale))


def rounded_weights(weights: Floats, *, axis: int) -> tuple[NDArray[np.int8], Scale]:
    """Round weights to int8, with a scale for each index of `axis` and without a zero point."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    scales = np.maximum(np.abs(weights).max(axis=others), 1e-9) / LARGEST
    integers = np.rint(weights / np.expand_dims(scales, others)).astype(np.int8)
    return integers, Scale(scales=tuple(scales.tolist()), axis=axis)
