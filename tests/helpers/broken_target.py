"""A faulty target for tests: ONNX files in which one layer is wrong, in a runtime that exposes no values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbnet_zoo._require import require
from fbnet_zoo.converters import to_onnx
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.parity import Runner
from fbnet_zoo.converters.program import Program


def write(program: Program, path: Path, options: ConvertOptions) -> Written:
    """Write an ONNX file with x * tanh(x) in place of every x * sigmoid(x)."""
    onnx = require("onnx", extra="onnx")
    written = to_onnx.write(program, path, options)
    content = onnx.load(path)
    for node in content.graph.node:
        if node.op_type == "Sigmoid" and node.name.endswith(".act"):
            node.op_type = "Tanh"
    onnx.save(content, path)
    return written


@dataclass(frozen=True)
class ClosedRunner(Runner):
    whole: to_onnx.OnnxRunner
    runtime: str = "a closed runtime"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.whole(images)


def load(path: Path) -> ClosedRunner:
    return ClosedRunner(to_onnx.load(path))
