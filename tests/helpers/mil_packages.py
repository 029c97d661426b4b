"""Small Core ML packages written with coremltools, and comparison of their outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters.mil import interpreter

MINIMUM_DB = {"FLOAT32": 100, "FLOAT16": 40}
"""Minimum signal-to-noise ratio of a conversion in each precision."""


def snr_db(expected: Tensor, got: np.ndarray) -> float:
    reference = expected.detach().double().numpy()
    assert got.shape == reference.shape
    noise = np.square(reference - got).sum()
    return float(10 * np.log10(np.square(reference).sum() / max(noise, 1e-30)))


def save(model: nn.Module, example: Tensor, path: Path, *, precision: str = "FLOAT32", **options: Any) -> Any:
    """Convert a model, write it to `path`, and return the converted model, which a test may compress."""
    coremltools = require("coremltools", extra="coreml")
    with quiet():
        program = torch.export.export(model.eval(), (example,), dynamic_shapes=options.pop("dynamic_shapes", None))
        converted = coremltools.convert(
            program.run_decompositions({}),
            convert_to="mlprogram",
            compute_precision=coremltools.precision[precision],
            **options,
        )
        converted.save(str(path))
    return converted


def save_built(path: Path, function: Callable[[Any, Any], Any], *, shape: tuple[int, ...], dtype: str = "fp32") -> None:
    """Write the program that `function(builder, x)` builds, for operations that PyTorch's converter does not emit."""
    coremltools = require("coremltools", extra="coreml")
    mil = require("coremltools.converters.mil", extra="coreml")
    spec = mil.Builder.TensorSpec(shape=shape, dtype=getattr(mil.mil.types, dtype))
    with quiet():
        program = mil.Builder.program(input_specs=[spec], opset_version=coremltools.target.iOS17)(
            lambda x: function(mil.Builder, x)
        )
        options = {"compute_precision": coremltools.precision.FLOAT32, "pass_pipeline": coremltools.PassPipeline.EMPTY}
        converted = coremltools.convert(program, minimum_deployment_target=coremltools.target.iOS17, **options)
        converted.save(str(path))


def only_output(path: Path, **inputs: Tensor) -> np.ndarray:
    outputs = interpreter.load(path).predict({name: x.numpy() for name, x in inputs.items()})
    assert len(outputs) == 1
    return next(iter(outputs.values()))


class Of(nn.Module):
    """A module that computes a function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def with_random_statistics(model: nn.Module) -> nn.Module:
    """Randomize the batch norms; scales below 1 keep a deep random network from amplifying its rounding errors."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.get_buffer("running_mean"), std=0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    return model.eval()
