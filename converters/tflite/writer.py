"""Writer of TensorFlow Lite files, with the schema from Arm's compiler for Ethos-U."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fbnet_zoo._require import require
from fbnet_zoo.converters.program import Program
from fbnet_zoo.converters.tflite.graph import Scale, TfliteGraph, TfliteLayer, TfliteTensor
from fbnet_zoo.converters.tflite.lowering import tflite_graph

_VERSION, _MAGIC = 3, b"TFL3"
_LARGEST_OLD_CODE = 127


def write(program: Program, path: Path) -> None:
    """Write a program in int8, for a compiler that counts cycles: see `fbnet_zoo.converters.tflite.lowering`.

    Raises:
        ConversionError: the program has an operator that is not in the deploy form.
        MissingExtraError: the compiler is not installed.
    """
    path.write_bytes(file_content(tflite_graph(program.exported)))


def file_content(graph: TfliteGraph) -> bytes:
    """Return the bytes of a file.

    Raises:
        MissingExtraError: the compiler is not installed.
    """
    return _Serializer().file(graph)


class _Serializer:
    """Serializes a graph as a flat buffer, in which tables are written before references to them."""

    def __init__(self) -> None:
        self._builder: Any = require("flatbuffers", extra="ethosu").Builder(1 << 16)

    def file(self, graph: TfliteGraph) -> bytes:
        tensors, codes = list(graph.tensors.values()), sorted({layer.op for layer in graph.layers})
        places = {tensor.name: at for at, tensor in enumerate(tensors)}
        buffers = [self._table("Buffer"), *(self._buffer(tensor) for tensor in tensors)]  # the first is empty
        part = self._table(
            "SubGraph",
            Tensors=self._tables([self._tensor(tensor, at + 1) for at, tensor in enumerate(tensors)]),
            Inputs=self._numbers([places[name] for name in graph.inputs]),
            Outputs=self._numbers([places[name] for name in graph.outputs]),
            Operators=self._tables([self._operator(layer, places, codes.index(layer.op)) for layer in graph.layers]),
            Name=self._builder.CreateString("main"),
        )
        model = self._table(
            "Model",
            Version=_VERSION,
            OperatorCodes=self._tables([self._code(name) for name in codes]),
            Subgraphs=self._tables([part]),
            Buffers=self._tables(buffers),
        )
        self._builder.Finish(model, file_identifier=_MAGIC)
        return bytes(self._builder.Output())

    def _table(self, kind: str, **fields: int) -> int:
        schema: Any = _schema(kind)
        schema.Start(self._builder)
        for name, value in fields.items():
            getattr(schema, f"Add{name}")(self._builder, value)
        return schema.End(self._builder)

    def _tables(self, places: Sequence[int]) -> int:
        self._builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        return self._builder.EndVector()

    def _numbers(self, values: ArrayLike, kind: type[np.generic] = np.int32) -> int:
        return self._builder.CreateNumpyVector(np.asarray(values, kind))

    def _buffer(self, tensor: TfliteTensor) -> int:
        if tensor.data is None:
            return self._table("Buffer")
        return self._table("Buffer", Data=self._numbers(tensor.data.view(np.uint8).ravel(), np.uint8))

    def _tensor(self, tensor: TfliteTensor, buffer: int) -> int:
        kind = "INT8" if tensor.data is None else tensor.data.dtype.name.upper()
        fields = {"Shape": self._numbers(tensor.shape), "Name": self._builder.CreateString(tensor.name)}
        if tensor.scale is not None:
            fields["Quantization"] = self._quantization(tensor.scale)
        return self._table("Tensor", Type=getattr(_schema("TensorType").TensorType, kind), Buffer=buffer, **fields)

    def _quantization(self, scale: Scale) -> int:
        return self._table(
            "QuantizationParameters",
            Scale=self._numbers(scale.scales, np.float32),
            ZeroPoint=self._numbers([scale.zero_point] * len(scale.scales), np.int64),
            QuantizedDimension=scale.axis,
        )

    def _operator(self, layer: TfliteLayer, places: dict[str, int], code: int) -> int:
        fields = {
            "Inputs": self._numbers([places[name] for name in layer.inputs]),
            "Outputs": self._numbers([places[layer.output]]),
        }
        if layer.options:
            fields["BuiltinOptions"] = self._table(layer.options, **layer.values)
            fields["BuiltinOptionsType"] = getattr(_schema("BuiltinOptions").BuiltinOptions, layer.options)
        return self._table("Operator", OpcodeIndex=code, **fields)

    def _code(self, name: str) -> int:
        number: int = getattr(_schema("BuiltinOperator").BuiltinOperator, name)
        old = min(number, _LARGEST_OLD_CODE)
        return self._table("OperatorCode", DeprecatedBuiltinCode=old, BuiltinCode=number, Version=1)


def _schema(kind: str) -> Any:
    return require(f"ethosu.vela.tflite.{kind}", extra="ethosu")
