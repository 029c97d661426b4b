"""The int8 form of an ONNX graph: onnxruntime's static quantization, with quantize-dequantize (QDQ) pairs.

Weights are symmetric per output channel; activations are unsigned per tensor with a zero point, since signed ones are
two to three times slower in onnxruntime on x86. The stem stays in float32: its integer kernels are so slow, for the few
channels of an image, that fbnet_b took 0.71 of the fp32 file's time with them and 0.64 without (onnxruntime 1.31 on an
x86 CPU with VNNI, one thread), and the image itself is not rounded. Three operators are rewritten first, so that
onnxruntime has an integer kernel for every operator of a network with ReLU, hard-swish and hard gates:

- the mean over an image becomes a `GlobalAveragePool`;
- the input of hard-swish is clipped at -3, below which the output is 0, so that no quantization steps are lost there;
- hard-swish becomes `x * hard_sigmoid(x)`, and its gate a sum: `x + 3`, quantized to 8 bits from 0 to 6, is `6 * gate`,
  so its steps of 6 / 255 are interpreted as steps of 1 / 255.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters.program import Program, Quantization
from fbnet_zoo.errors import ConversionError
from fbnet_zoo.folders import temporary

SCHEME = "onnxruntime static, as QDQ: int8 weights per channel, uint8 activations per tensor, the stem in float32"

STEM = "stem"
"""Name of the module that stays in float32."""

_OPERATORS = ["Add", "Clip", "Conv", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Mul", "Relu", "Reshape"]
_OPERATORS += ["Sigmoid", "Transpose"]
_CONSTANTS: dict[str, np.ndarray] = {
    "hard_swish.lowest": np.array(-3, np.float32),
    "hard_swish.highest": np.array(np.finfo(np.float32).max),
}
_INTEGERS: dict[str, np.ndarray] = {
    "hard_sigmoid.3": np.array(255, np.uint8),
    "hard_sigmoid.3_scale": np.array(3 / 255, np.float32),
    "hard_sigmoid.3_zero_point": np.array(0, np.uint8),
    "hard_sigmoid.6_scale": np.array(6 / 255, np.float32),
}


def int8_model(model: Any, program: Program, quantization: Quantization, *, verbose: bool = False) -> Any:
    """Return the quantized form of an ONNX model whose nodes are named after modules.

    Args:
        model: the float32 model; modified.
        program: the program that the model was exported from.
        quantization: the calibration images, and the modules that stay in float32.
        verbose: show library output.

    Raises:
        ConversionError: onnxruntime cannot quantize the network.
        MissingExtraError: a library is missing.
    """
    onnx = require("onnx", extra="onnx")
    names = [node.name for node in model.graph.node]
    kept = [name for name in names if quantization.keeps(name) or name.startswith(f"{STEM}.")]
    gates = _respell(model.graph, frozenset(kept))
    try:
        with quiet(verbose=verbose or None), temporary() as folder:
            path = folder / "int8.onnx"
            _quantize(model, path, program, quantization, kept, gates)
            quantized = onnx.load(path)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ConversionError(f"{program.spec.name} cannot be quantized for ONNX: {error}") from error
    _sum_gates(quantized.graph)
    return quantized


def _respell(graph: Any, kept: frozenset[str]) -> list[str]:
    """Rewrite the operators listed above, and return the outputs of the gates of hard-swish."""
    nodes = [new for node in graph.node for new in _respelled(node, kept)]
    used = {name for node in nodes for name in node.input}
    parameters = [tensor for tensor in graph.initializer if tensor.name in used]
    _replace(graph.node, nodes)
    _replace(graph.initializer, parameters)
    _add(graph, {name: value for name, value in _CONSTANTS.items() if name in used})
    graph.ClearField("value_info")
    return [node.output[0] for node in nodes if node.op_type == "HardSigmoid"]


def _respelled(node: Any, kept: frozenset[str]) -> Iterator[Any]:
    make = require("onnx", extra="onnx").helper.make_node
    if node.name in kept or node.op_type not in {"HardSwish", "ReduceMean"}:
        yield node
    elif node.op_type == "ReduceMean":
        yield make("GlobalAveragePool", node.input[:1], node.output, name=node.name)
    else:
        limited, gate = f"{node.output[0]}.limited", f"{node.output[0]}.gate"
        yield make("Clip", [node.input[0], *_CONSTANTS], [limited], name=f"{node.name}.limit")
        yield make("HardSigmoid", [limited], [gate], name=f"{node.name}.gate", alpha=1 / 6, beta=0.5)
        yield make("Mul", [limited, gate], node.output, name=node.name)


def _quantize(
    model: Any, path: Path, program: Program, quantization: Quantization, kept: list[str], gates: list[str]
) -> None:
    library = require("onnxruntime.quantization", extra="onnx")
    batches = quantization.calibration.calibrate.batches(program.batch)
    feeds = ({program.input_name: batch} for batch in batches)
    reader = type("_Reader", (library.CalibrationDataReader,), {"get_next": lambda _: next(feeds, None)})
    unit = [{"rmin": np.float32(0), "rmax": np.float32(1)}]
    library.quantize_static(
        model,
        path,
        reader(),
        quant_format=library.QuantFormat.QDQ,
        per_channel=True,
        activation_type=library.QuantType.QUInt8,
        weight_type=library.QuantType.QInt8,
        op_types_to_quantize=_OPERATORS,
        nodes_to_exclude=kept,
        extra_options={"TensorQuantOverrides": dict.fromkeys(gates, unit)},
    )


def _sum_gates(graph: Any) -> None:
    """Replace the gates of hard-swish by sums."""
    make = require("onnx", extra="onnx").helper.make_node
    readers = {name: node for node in graph.node for name in node.input}
    nodes = []
    for node in graph.node:
        if node.op_type == "HardSigmoid" and node.name.endswith(".gate"):
            three = f"{node.name}.3"
            nodes.append(make("DequantizeLinear", list(_INTEGERS)[:3], [three], name=three))
            readers[node.output[0]].input[1] = list(_INTEGERS)[3]
            nodes.append(make("Add", [node.input[0], three], node.output, name=node.name))
        else:
            nodes.append(node)
    if len(nodes) > len(graph.node):
        _add(graph, _INTEGERS)
    _replace(graph.node, nodes)


def _replace(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)


def _add(graph: Any, constants: Mapping[str, np.ndarray]) -> None:
    from_array = require("onnx", extra="onnx").numpy_helper.from_array
    graph.initializer.extend(from_array(value, name) for name, value in constants.items())
