"""Layers and tensors of an int8 TensorFlow Lite file, the input of Arm's compiler for Ethos-U."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST, LARGEST = -128, 127
"""Limits of int8."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Quantization of a tensor, whose values are `scale * (integer - zero_point)`.

    Attributes:
        scales: one scale, or one for each index of `axis`.
        zero_point: zero point of all scales.
        axis: axis of the scales.
    """

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TfliteTensor:
    """One tensor.

    Attributes:
        name: unique name.
        shape: shape, channels last.
        scale: quantization; `None` for plain integers such as shapes.
        data: int8 or int32 values of a constant, else `None`.
    """

    name: str
    shape: tuple[int, ...]
    scale: Scale | None = None
    data: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteLayer:
    """One operator.

    Attributes:
        op: name in the schema of TensorFlow Lite.
        inputs: names of the input tensors.
        output: name of the output tensor.
        options: name of its options table in the schema (default: no options).
        values: fields of the options table.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    options: str = ""
    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TfliteGraph:
    """Tensors by name, and layers in order of execution."""

    tensors: dict[str, TfliteTensor] = field(default_factory=dict)
    layers: list[TfliteLayer] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def tensor(self, name: str, shape: tuple[int, ...], scale: Scale) -> str:
        """Add the output tensor of a layer, and return its name."""
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
    """Return the scale with which int8 spans a range that includes 0; 0 is represented exactly.

    >>> range_scale(0.0, 255.0)
    Scale(scales=(1.0,), zero_point=-128, axis=0)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-6) / (LARGEST - LOWEST)
    return Scale(scales=(scale,), zero_point=round(LOWEST - low / scale))


def rounded_weights(weights: Floats, *, axis: int) -> tuple[NDArray[np.int8], Scale]:
    """Round weights to int8, with a scale for each index of `axis` and a zero point of 0."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    scales = np.maximum(np.abs(weights).max(axis=others), 1e-9) / LARGEST
    integers = np.rint(weights / np.expand_dims(scales, others)).astype(np.int8)
    return integers, Scale(scales=tuple(scales.tolist()), axis=axis)
