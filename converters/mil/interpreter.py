"""Reference interpreter of a saved Core ML ML Program, for machines without Core ML.

`load` reads an `.mlpackage` from disk, including weights, and `MilModel.predict` evaluates it, so that a conversion can
be checked for parity where Apple's own `predict` is not available.

Precision: every tensor is stored in the type that the program declares, hence in fp16 after each operation of an fp16
program; inside an operation, fp16 values are widened to fp32 and sums are accumulated in fp32. The rounding of the
Neural Engine, which may accumulate in fp16, is not modeled: a real device may deviate more from PyTorch.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbnet_zoo._require import require
from fbnet_zoo.converters.mil.inputs import MilInput, any_or_exactly, describe_input
from fbnet_zoo.converters.mil.ops import OPS
from fbnet_zoo.errors import ConversionError, FbnetZooError, InputError

_STORED_AS = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
}


class UnsupportedOpError(ConversionError):
    """The program contains an operation, or a variant of one, that the interpreter does not support."""


@dataclass(frozen=True, slots=True)
class _Name:
    """Reference to the value of an input or of an earlier operation."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    """One operation, bound: arguments are constants or names; outputs are names and storage types."""

    op_type: str
    arguments: Mapping[str, Any]
    outputs: tuple[tuple[str, torch.dtype | None], ...]

    def run(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        arguments = {name: _resolve(argument, values) for name, argument in self.arguments.items()}
        result = OPS[self.op_type](**arguments)
        results = result if isinstance(result, tuple) else (result,)
        for (name, dtype), value in zip(self.outputs, results, strict=True):
            yield name, value if dtype is None else value.to(dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MilModel:
    """An ML Program read from disk, ready to be evaluated.

    Attributes:
        path: path of the package.
        inputs: the inputs. Scale and bias of an image input are operations of the program itself.
        outputs: names of the outputs, in the file's order.
        class_labels: labels of a classifier in the order of its probabilities, else None.
        steps: operations, in order of execution.
    """

    path: Path
    inputs: tuple[MilInput, ...]
    outputs: tuple[str, ...]
    class_labels: tuple[str, ...] | tuple[int, ...] | None
    steps: tuple[_Operation, ...] = field(repr=False)

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs, as Core ML's `predict` does for one sample.

        Args:
            inputs: one array per input name. A tensor has the shape declared in the file, usually (N, C, H, W), and is
                cast to the declared type. An image is uint8, (H, W, 3) or (1, H, W, 3) in RGB for any color layout of
                the file; (H, W, 1) or (1, H, W, 1) if the file expects grayscale.

        Returns:
            One array per output name, of the declared type. A classifier has two outputs: the label is an array of rank
            0 (`.item()` returns the `str` or `int`), and the probabilities are (classes,) in the order of
            `class_labels`, where Core ML returns a dictionary from label to probability.

        Raises:
            InputError: an input is missing, unknown, or of a shape or type that the file does not accept.
            UnsupportedOpError: an operation occurs in an unsupported variant.
        """
        values = dict(self.trace(inputs))
        return {name: values[name] for name in self.outputs}

    def trace(self, inputs: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (output name, array) for every operation except constants, in the order of the program.

        Comparing these with the activations of the original model shows the first diverging layer. Arguments and errors
        are those of `predict`. An array may share its memory with later ones: copy it before modifying it.
        """
        values = self._read(inputs)
        for step in self.steps:
            try:
                values.update(step.run(values))
            except NotImplementedError as error:
                name = step.outputs[0][0]
                raise UnsupportedOpError(_unsupported(self.path, step.op_type, name, str(error))) from error
            for name, _ in step.outputs:
                yield name, np.asarray(values[name])

    def _read(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        expected = sorted(item.name for item in self.inputs)
        if sorted(inputs) != expected:
            raise InputError(f"{self.path}: got the inputs {sorted(inputs)}, expected {expected}")
        return {item.name: item.read(inputs[item.name]) for item in self.inputs}


def load(path: Path) -> MilModel:
    """Read an `.mlpackage` and prepare its `main` function for evaluation.

    Args:
        path: path of the package. Compressed weights are expanded.

    Raises:
        InputError: there is no package at `path`.
        ConversionError: the package contains no ML Program, or coremltools cannot read it.
        UnsupportedOpError: the program contains an unsupported operation.
        MissingExtraError: coremltools is not installed.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not an .mlpackage folder")
    try:
        return _load(path)
    except FbnetZooError:
        raise
    except Exception as error:  # whatever coremltools' parsers and its C++ reader raise
        raise ConversionError(f"{path} cannot be read: {error}") from error


def _load(path: Path) -> MilModel:
    models = require("coremltools.models", extra="coreml")
    milproto = require("coremltools.converters.mil.frontend.milproto.load", extra="coreml")
    package = models.MLModel(str(path), skip_model_load=True)
    spec = package.get_spec()
    _check_supported(spec, path)
    main = milproto.load(spec, spec.specificationVersion, package.weights_dir or "").functions["main"]
    steps = _steps(main, path)
    inputs = ((item, _stored_type(main.inputs[item.name])) for item in spec.description.input)
    return MilModel(
        path=path,
        inputs=tuple(describe_input(item, dtype, path) for item, dtype in inputs),
        outputs=tuple(item.name for item in spec.description.output),
        class_labels=next((tuple(step.arguments["classes"]) for step in steps if step.op_type == "classify"), None),
        steps=steps,
    )


def of_function(main: Any, path: Path) -> MilModel:
    """Prepare a function that coremltools is still converting, with tensors as inputs.

    Args:
        main: a MIL function in memory.
        path: path of the future package, for error messages.

    Raises:
        UnsupportedOpError: the function contains an unsupported operation.
    """
    for op in main.operations:
        if op.op_type not in OPS and not _is_constant(op.op_type):
            raise UnsupportedOpError(_unsupported(path, op.op_type, op.outputs[0].name))
    return MilModel(
        path=path,
        inputs=tuple(
            MilInput(name=name, shapes=(any_or_exactly(var.shape),), dtype=_stored_type(var))
            for name, var in main.inputs.items()
        ),
        outputs=tuple(var.name for var in main.outputs),
        class_labels=None,
        steps=_steps(main, path),
    )


def _steps(main: Any, path: Path) -> tuple[_Operation, ...]:
    return tuple(_bind(op, path) for op in main.operations if not _is_constant(op.op_type))


def _check_supported(spec: Any, path: Path) -> None:
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram" or "main" not in spec.mlProgram.functions:
        raise ConversionError(f"{path} contains a {kind}; expected an mlProgram with a function 'main'")
    main = spec.mlProgram.functions["main"]
    for op in main.block_specializations[main.opset].operations:
        if op.type not in OPS and not _is_constant(op.type):
            raise UnsupportedOpError(_unsupported(path, op.type, op.outputs[0].name))


def _unsupported(path: Path, op_type: str, output: str, variant: str = "") -> str:
    variant = variant and f" with {variant}"
    return (
        f"{path}: the interpreter does not support operation {op_type!r}{variant}, which computes {output!r}; "
        "check this file on macOS, or add the operation to mil/ops.py"
    )


def _is_constant(op_type: str) -> bool:
    return op_type == "const" or op_type.startswith("constexpr_")


def _bind(op: Any, path: Path) -> _Operation:
    """Resolve the arguments of an operation as far as they are constant."""
    arguments = {name: _argument(var) for name, var in op.inputs.items()}
    try:
        inspect.signature(OPS[op.op_type]).bind(**arguments)
    except TypeError as error:
        raise UnsupportedOpError(_unsupported(path, op.op_type, op.outputs[0].name, str(error))) from error
    is_classify = op.op_type == "classify"  # its label is not a tensor
    outputs = tuple((var.name, None if is_classify else _stored_type(var)) for var in op.outputs)
    return _Operation(op_type=op.op_type, arguments=arguments, outputs=outputs)


def _argument(var: Any) -> Any:
    if isinstance(var, list | tuple):
        return [_argument(item) for item in var]
    if var.op is None or not _is_constant(var.op.op_type):
        return _Name(var.name)
    value = var.val if var.op.op_type == "const" else var.op.materialized_val_inference()
    if isinstance(value, str):
        return value
    if isinstance(value, list):  # class labels
        return [item.item() if isinstance(item, np.generic) else item for item in value]
    return _widened(torch.tensor(np.asarray(value)))


def _stored_type(var: Any) -> torch.dtype:
    types = require("coremltools.converters.mil.mil.types", extra="coreml")
    return _STORED_AS[types.builtin_to_string(var.dtype)]


def _resolve(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, list):
        return [_resolve(item, values) for item in argument]
    return _widened(values[argument.text]) if isinstance(argument, _Name) else argument


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor
