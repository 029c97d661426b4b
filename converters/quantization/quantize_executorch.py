"""The int8 program for ExecuTorch: PT2E static quantization with XNNPACK's quantizer.

Weights are symmetric per output channel, activations per tensor with a zero point; the ranges minimize the error on the
calibration images. XNNPACK has integer kernels for convolutions, ReLU, clamps, sums, products and means. Swish,
hard-swish and sigmoid compute in float32 between two conversions, so networks with these gain less.

The input range of a hard-swish starts at -3, and that of a clamp at its limits, so that no quantization steps are lost
on values that make no difference.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters.program import MODULE_PREFIX, Program, Quantization, of_network
from fbnet_zoo.errors import ConversionError

SCHEME = "PT2E static: int8 weights per channel, int8 activations per tensor, by XNNPACK's quantizer"

_PT2E = "torchao.quantization.pt2e.quantize_pt2e"
_LIMITED = {torch.ops.aten.hardswish.default, torch.ops.aten.hardtanh.default}
_QUANTIZER = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"


def int8_program(program: Program, quantization: Quantization, *, verbose: bool = False) -> Program:
    """Return the quantized form of a float32 program; its module simulates the file in float32.

    Args:
        program: the float32 program; not modified.
        quantization: the calibration images, and the modules that stay in float32.
        verbose: show library output.

    Raises:
        ConversionError: the libraries cannot quantize the network.
        MissingExtraError: a library is missing.
    """
    pt2e = require(_PT2E, extra="executorch")
    try:
        with quiet(verbose=verbose or None):
            prepared = pt2e.prepare_pt2e(program.exported.module(check_guards=False), _quantizer(quantization))
            _limit(prepared)
            _observe(prepared, quantization.calibration.calibrate.batches(program.batch))
            converted = pt2e.convert_pt2e(prepared)
    except Exception as error:  # whatever the libraries' passes raise
        raise ConversionError(f"{program.spec.name} cannot be quantized for ExecuTorch: {error}") from error
    return replace(of_network(program, converted, program.num_classes), labels=program.labels)


def _quantizer(quantization: Quantization) -> Any:
    library = require(_QUANTIZER, extra="executorch")
    config = library.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = library.XNNPACKQuantizer().set_global(config)
    return quantizer.set_filter_function(lambda node: not quantization.keeps(_module_of(node)))


def _module_of(node: fx.Node) -> str:
    """Return the name of a node's innermost module in the deploy form."""
    (path, _) = list(node.meta.get("nn_module_stack", {"": ("", None)}).values())[-1]
    return path.removeprefix("L['self'].").removeprefix(MODULE_PREFIX)


def _limit(prepared: fx.GraphModule) -> None:
    """Clamp the input of the observers before hard-swish and clamps to the relevant range."""
    for node in prepared.graph.nodes:
        if node.target not in _LIMITED:
            continue
        observer, low, high = (*node.args, -3.0, inf)[:3]
        if observer.op == "call_module" and len(observer.users) == 1:
            limit = partial(_clamped, low=low, high=high)
            prepared.get_submodule(observer.target).register_forward_pre_hook(limit)


def _clamped(_: nn.Module, inputs: tuple[Tensor], *, low: float, high: float) -> tuple[Tensor]:
    return (inputs[0].clamp(low, high),)


@torch.no_grad()
def _observe(prepared: nn.Module, batches: Iterable[np.ndarray]) -> None:
    for batch in batches:
        prepared(torch.from_numpy(batch))
