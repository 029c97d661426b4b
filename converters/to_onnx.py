"""Write an exported program as an ONNX file, and run the file in onnxruntime."""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.parity import joined
from fbnet_zoo.converters.program import MODULE_PREFIX, Program
from fbnet_zoo.converters.quantization.quantize_onnx import SCHEME, int8_model
from fbnet_zoo.errors import ConversionError, InputError

DEFAULT_OPSET, OLDEST_OPSET = 20, 18
_SCOPES = "pkg.torch.onnx.name_scopes"


def write(program: Program, path: Path, options: ConvertOptions) -> Written:
    """Write a program as one self-contained ONNX file.

    Nodes and parameters are named after the modules; no paths of this machine remain. Input and output of an fp16 file
    are float32, with a cast at each end.

    Args:
        program: the network; the file is int8 if it has a `quantization`, and then it must be float32.
        path: path of the file.
        options: `opset` and `verbose` are used.

    Returns:
        Facts: the opset, the IR version and the number of operators by type.

    Raises:
        InputError: the opset is older than the exporter supports.
        ConversionError: the exporter or the quantizer fails, or the file is invalid.
        MissingExtraError: a library is missing.
    """
    onnx = require("onnx", extra="onnx")
    model = _export(program, DEFAULT_OPSET if options.opset is None else options.opset, verbose=options.verbose)
    _name_by_modules(model.graph)
    _remove_metadata(model)
    _name_batch(model.graph)
    if program.quantization is not None:
        model = int8_model(model, program, program.quantization, verbose=options.verbose)
    onnx.helper.set_model_props(model, _properties(program))
    model.producer_name = "fbnet_zoo"
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ConversionError(f"the ONNX file of {program.spec.name} is invalid: {error}") from error
    path.write_bytes(model.SerializeToString(deterministic=True))
    operators = Counter(node.op_type for node in model.graph.node)
    facts = {"opset": _opset(model), "ir_version": model.ir_version, "operators": dict(sorted(operators.items()))}
    return Written(facts=facts) if program.quantization is None else _quantized(facts, path)


def _quantized(facts: dict[str, Any], path: Path) -> Written:
    """Return the record of an int8 file, simulated on dequantized values without integer kernels."""
    simulation = OnnxRunner(path=path, session=_session(path.read_bytes(), name=path.name, optimize=False))
    return Written(facts=facts, scheme=SCHEME, simulation=simulation)


def _export(program: Program, opset: int, *, verbose: bool) -> Any:
    if opset < OLDEST_OPSET:
        raise InputError(f"opset cannot be {opset}; expected at least {OLDEST_OPSET} (default: {DEFAULT_OPSET})")
    require("onnxscript", extra="onnx")
    try:
        with quiet(verbose=verbose or None):
            exported: Any = torch.onnx.export(
                program.exported,
                dynamo=True,
                external_data=False,
                opset_version=opset,
                input_names=[program.input_name],
                output_names=program.output_names,
            )
    except Exception as error:
        raise ConversionError(f"{program.spec.name} cannot be exported to ONNX: {error}") from error
    model = exported.model_proto
    if _opset(model) != opset:
        raise ConversionError(
            f"the exporter wrote ONNX opset {_opset(model)}, expected {opset}; use opset {_opset(model)}"
        )
    return model


def _opset(model: Any) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.keys() != {""}:
        raise ConversionError(f"the ONNX file has non-standard operators, of {', '.join(sorted(versions))}")
    return versions[""]


def _name_by_modules(graph: Any) -> None:
    """Name nodes after their modules, and parameters as in the state dict."""
    taken: Counter[str] = Counter()
    for node in graph.node:
        module = _module_of(node)
        taken[module] += 1
        node.name = module if taken[module] == 1 else f"{module}.{taken[module] - 1}"
        node.input[:] = [name.removeprefix(MODULE_PREFIX) for name in node.input]
    for value in (*graph.initializer, *graph.value_info):
        value.name = value.name.removeprefix(MODULE_PREFIX)


def _module_of(node: Any) -> str:
    """Return the innermost module of a node or, outside any module, its operator."""
    scopes = next((ast.literal_eval(entry.value) for entry in node.metadata_props if entry.key == _SCOPES), ())
    modules = [scope for scope in scopes if scope.startswith(MODULE_PREFIX)]
    return modules[-1].removeprefix(MODULE_PREFIX) if modules else node.op_type.lower()


def _remove_metadata(model: Any) -> None:
    """Remove stack traces and other metadata of the exporter, which contain paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _name_batch(graph: Any) -> None:
    """Give the only symbolic size its name."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "batch"


def _properties(program: Program) -> dict[str, str]:
    preprocess = program.preprocess
    properties = {
        "name": program.spec.name,
        "weights": program.weights,
        "license": program.license,
        "labels": json.dumps(program.labels, ensure_ascii=False) if program.labels else None,
        "input_size": str(program.input_size),
        "resize": str(preprocess.resize),
        "interpolation": preprocess.interpolation,
        "channel_order": preprocess.order,
        "mean": json.dumps(preprocess.mean),
        "std": json.dumps(preprocess.std),
    }
    return {key: value for key, value in properties.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxRunner:
    """An ONNX file in onnxruntime, on the CPU."""

    path: Path
    session: Any

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return f"onnxruntime {require('onnxruntime', extra='onnx').__version__}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return joined(self.session.run(None, {self.session.get_inputs()[0].name: images}))

    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the output of every node, in order."""
        onnx = require("onnx", extra="onnx")
        model = onnx.load(self.path)
        names = [name for node in model.graph.node for name in node.output]
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = _session(model.SerializeToString())
        yield from zip(names, session.run(names, {self.session.get_inputs()[0].name: images}), strict=True)


def load(path: Path) -> OnnxRunner:
    """Load an ONNX file into onnxruntime.

    Raises:
        ConversionError: onnxruntime cannot load it.
        MissingExtraError: onnxruntime is not installed.
    """
    return OnnxRunner(path=path, session=_session(path.read_bytes(), name=path.name))


def _session(content: bytes, name: str = "the traced file", *, optimize: bool = True) -> Any:
    onnxruntime = require("onnxruntime", extra="onnx")
    options = onnxruntime.SessionOptions()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors
    try:
        with quiet():
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ConversionError(f"onnxruntime cannot load {name}: {error}") from error
