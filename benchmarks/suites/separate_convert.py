"""Conversion to one format by a plain script that uses only PyTorch and one converter.

The peer of `bench_convert.py`. Each run exports the network as built (batch norm not folded), converts it, loads the
file and compares its logits with PyTorch's, as ours does:

    python -m fbnet_zoo.benchmarks.suites.separate_convert onnx fbnet_b build/fbnet_b.onnx
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import fbnet_zoo
from fbnet_zoo._require import require
from fbnet_zoo.converters.mil import interpreter
from fbnet_zoo.weights.loading import randomize


def main(target: str, name: str, path: Path) -> None:
    """Convert an entry with seeded weights and check the file."""
    model = fbnet_zoo.create(name).eval()
    randomize(model, 0)
    size = model.spec.input_size
    images = torch.rand(1, 3, size, size)
    with torch.inference_mode():
        expected = model(images).numpy()
    logits = SCRIPTS[target](model, images, path)
    if not np.allclose(logits, expected, atol=1e-3 * np.abs(expected).max()):
        raise SystemExit(f"{path} differs from PyTorch")


def _onnx(model: torch.nn.Module, images: torch.Tensor, path: Path) -> np.ndarray:
    runtime = require("onnxruntime", extra="onnx")
    torch.onnx.export(model, (images,), path, dynamo=True, external_data=False)
    require("onnx", extra="onnx").checker.check_model(path, full_check=True)
    session = runtime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]


def _coreml(model: torch.nn.Module, images: torch.Tensor, path: Path) -> np.ndarray:
    tools = require("coremltools", extra="coreml")
    program = torch.export.export(model, (images,)).run_decompositions({})
    tools.convert(program, compute_precision=tools.precision.FLOAT32).save(path)
    package = interpreter.load(path)
    (logits,) = package.predict({package.inputs[0].name: images.numpy()}).values()
    return logits


def _executorch(model: torch.nn.Module, images: torch.Tensor, path: Path) -> np.ndarray:
    exir = require("executorch.exir", extra="executorch")
    xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch")
    program = torch.export.export(model, (images,))
    lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
    runtime = require("executorch.runtime", extra="executorch").Runtime.get()
    return runtime.load_program(path).load_method("forward").execute([images])[0].numpy()


SCRIPTS: dict[str, Callable[[torch.nn.Module, torch.Tensor, Path], np.ndarray]] = {
    "onnx": _onnx,
    "coreml": _coreml,
    "executorch": _executorch,
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
