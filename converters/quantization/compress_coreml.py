"""Compression of a Core ML package: 8-bit or palettized weights, and 8-bit activations.

coremltools' own passes write the operations, with two inputs from here. Ranges of activations, for which coremltools
would need a Mac, come from the reference interpreter, which runs the unfinished program on the calibration images.
Weight palettes come from exact one-dimensional k-means for tensors of all sizes, so that the result is deterministic.

Compression applies to the fp16 program, before an image input and the outputs of a classifier are added. Additions and
convolutions get 8-bit inputs and outputs; operations for which Core ML has no 8-bit form, such as the gates of
squeeze-excite and hard-swish, compute in fp16.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fbnet_zoo._private import kmeans_table
from fbnet_zoo._require import require
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.converters.mil import interpreter
from fbnet_zoo.converters.mil.passes import origin
from fbnet_zoo.converters.program import MODULE_PREFIX, Program, Quantization
from fbnet_zoo.converters.quantization.calibration import PreparedImages

OLDEST_TARGET: Mapping[Precision, tuple[str, str]] = {
    "w8a16": ("iOS16", "compressed weights"),
    "palette6": ("iOS16", "compressed weights"),
    "palette4": ("iOS16", "compressed weights"),
    "int8": ("iOS17", "8-bit activations"),
    "mixed": ("iOS17", "8-bit activations"),
}
"""Oldest deployment target for each precision, and the feature that it introduced."""

SCHEME = "coremltools: int8 weights per channel, int8 activations per tensor, fp16 in between"
"""Quantization scheme of files with 8-bit activations."""

_PALETTE_BITS: Mapping[Precision, int] = {"palette6": 6, "palette4": 4}
_PALETTE_THRESHOLD = 2048
"""Tensors up to this many values keep their fp16 weights: mostly small depthwise kernels. With palettes for these too,
fbnet_b would be 0.2 % smaller and lose 2 dB more at 6 bits, 7 dB more at 4."""

_DYNAMIC_BATCH = 16
_NARROWEST = 2.0**-6
"""Minimum width of a range: with 255 steps, the scale of a narrower one would be a subnormal fp16 number."""

_WIDEST = 500.0
"""Maximum absolute value for zero points, which coremltools computes in fp16: 128 times as much must be finite."""

_INSERT = "compression::insert_{}_quantize_dequantize_pair"


def compression(
    program: Program, precision: Precision, exported: torch.export.ExportedProgram
) -> Callable[[Any], None] | None:
    """Return the function that compresses the MIL program of a network; `None` for 16 and 32 bits.

    Args:
        program: the network; its `quantization` is used for 8-bit activations.
        precision: precision of the file.
        exported: the graph to be converted; its nodes get numbers that identify the operations of their modules.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    if bits := _PALETTE_BITS.get(precision):
        return partial(_palettize, bits=bits)
    if precision == "w8a16":
        return _quantize_weights
    if program.quantization is None:
        return None
    return partial(_quantize, program=program, how=program.quantization, layers=_number(exported))


def _palettize(mil: Any, *, bits: int) -> None:
    optimize = require("coremltools.optimize.coreml", extra="coreml")
    table = optimize.OpPalettizerConfig(
        mode="custom", lut_function=partial(_table, bits=bits), weight_threshold=_PALETTE_THRESHOLD
    )
    _apply(mil, "compression::palettize_weights", config=optimize.OptimizationConfig(table))


def _table(weights: np.ndarray, *, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the table `(2**bits,)` with the least squared error, and the index of every weight in it."""
    table, places = kmeans_table(bits, weights)
    return table.astype(weights.dtype), places.astype(np.uint8)


def _quantize_weights(mil: Any, *, kept: Iterable[str] = ()) -> None:
    """Quantize the weights of all operations not in `kept` to 8 bits, symmetrically, with a scale per channel."""
    _apply(mil, "compression::linear_quantize_weights", config=_linear("linear_symmetric", kept))


def _quantize(mil: Any, *, program: Program, how: Quantization, layers: Mapping[int, str]) -> None:
    main = mil.functions["main"]
    ranges = _ranges(main, how.calibration.calibrate, program)
    kept = [op.name for op in main.operations if how.keeps(layers.get(_number_of(op), ""))]
    widest = max(max(-limits["rmin"], limits["rmax"]) for limits in ranges.values())
    config = _linear("linear" if widest <= _WIDEST else "linear_symmetric", kept)
    for where in ("prefix", "suffix"):
        _apply(mil, _INSERT.format(where), config=config, activation_stats=ranges)
    _apply(mil, "common::dequantize_quantize_pair_elimination")
    _quantize_weights(mil, kept=kept)


def _linear(mode: str, kept: Iterable[str]) -> Any:
    optimize = require("coremltools.optimize.coreml", extra="coreml")
    # Tensors of any size: a convolution with fp16 weights does not compute in 8 bits.
    eight_bits = optimize.OpLinearQuantizerConfig(mode=mode, dtype=np.int8, weight_threshold=0)
    return optimize.OptimizationConfig(global_config=eight_bits, op_name_configs=dict.fromkeys(kept))


def _apply(mil: Any, name: str, **options: Any) -> None:
    registry = require("coremltools.converters.mil.mil.passes.pass_registry", extra="coreml").PASS_REGISTRY
    option = require("coremltools.converters.mil.mil.passes.graph_pass", extra="coreml").PassOption
    builder = require("coremltools.converters.mil", extra="coreml").Builder
    each = registry[name]
    each.set_options([option(key, value) for key, value in options.items()])
    with builder.scope(*origin()):
        each.apply(mil)


def _number(exported: torch.export.ExportedProgram) -> dict[int, str]:
    """Number the nodes, and return the module that each comes from."""
    layers = {}
    for number, node in enumerate(exported.graph.nodes):
        node.meta["debug_handle"] = number
        modules = list(node.meta.get("nn_module_stack", {}).values())
        layers[number] = modules[-1][0].removeprefix(MODULE_PREFIX) if modules else ""
    return layers


def _number_of(op: Any) -> int:
    source = require("coremltools.converters.mil.mil.scope", extra="coreml").ScopeSource.EXIR_DEBUG_HANDLE
    (number,) = op.scopes.get(source) or (None,)
    return -1 if number is None else number


def _ranges(main: Any, samples: PreparedImages, program: Program) -> dict[str, dict[str, float]]:
    """Return minimum and maximum of every tensor by name, in the format of coremltools; the range includes 0."""
    model = interpreter.of_function(main, Path("the package to be written"))
    (wanted,) = model.inputs
    limits: dict[str, tuple[float, float]] = {}
    for batch in samples.batches(_DYNAMIC_BATCH if program.dynamic_batch else program.batch):
        for name, value in model.trace({wanted.name: batch}):
            if value.dtype.kind == "f":
                low, high = limits.get(name, (0.0, 0.0))
                limits[name] = min(low, float(value.min())), max(high, float(value.max()))
    return {name: {"rmin": low, "rmax": max(high, low + _NARROWEST)} for name, (low, high) in limits.items()}
