"""From an exported program to a Core AI asset, the format that follows Core ML, and back into Core AI's runtime.

The library runs assets on Linux, too, slowly, which is enough to check them. On macOS it uses the system's framework
where there is one.

Its runtime is made of coroutines. They run in one thread of the process that does nothing else, so that a caller with
an event loop of its own, such as a notebook, is not in their way.
"""

import asyncio
import copy
import functools
import hashlib
import json
import platform
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters.artifact import LARGEST_BATCH, ConvertOptions
from fbnet_zoo.converters.program import FullPrecision, Program, of_network
from fbnet_zoo.converters.quantization.simulation import GraphSimulation
from fbnet_zoo.errors import ConversionError, InputError

FUNCTION = "main"
SCHEME = "coreai-opt: int8 weights per channel, int8 activations per tensor, fp16 in between"
_BYTECODE, _DIGEST = "main.mlirb", "main.hash"
_DYNAMIC_BATCH = 16

ResultT = TypeVar("ResultT")


def write(program: Program, path: Path, options: ConvertOptions) -> dict[str, Any]:
    """Write a program as an asset, its description, licence, labels and preprocessing in the metadata.

    Files of 8 bits compute in fp16 what is not 8-bit, since the Neural Engine has no float32.

    Args:
        program: the network; in float16 for `fp16`, else in float32.
        path: of the asset, a folder that ends in `.aimodel`.
        options: `precision` and `verbose` are read.

    Returns:
        The oldest system that runs the file, and how often each operator occurs in it; of 8 bits also `simulation`,
        which computes what the file shall compute, and `scheme`, how activations were quantized.

    Raises:
        ConversionError: Core AI cannot convert the network.
        MissingExtraError: a library is missing.
    """
    torch_side, authoring = require("coreai_torch", extra="coreai"), require("coreai.authoring.asset", extra="coreai")
    try:
        with quiet(verbose=options.verbose or None):
            source, told = _quantized(program, options) if options.is_quantized else (program, {})
            converter = torch_side.TorchConverter(mode=torch_side.TorchConverter.Mode.RELEASE)  # no local paths
            converter.add_exported_program(
                source.exported.run_decompositions(torch_side.get_decomp_table()),
                input_names=[program.input_name],
                output_names=[program.output_name],
                entrypoint_name=FUNCTION,
            )
            oldest = authoring.OSVersion.v27
            asset = converter.to_coreai().save_asset(path, _metadata(program), minimum_os=oldest)
            operators = dict(asset.summary().operation_distribution)
    except Exception as error:  # whatever its passes raise
        raise ConversionError(f"{program.spec.name} cannot be converted to Core AI: {error}") from error
    return {"minimum_os": oldest.value, "operators": dict(sorted(operators.items())), **told}


def _metadata(program: Program) -> Any:
    spec = program.spec
    paper = f" {spec.paper.title} (arXiv:{spec.paper.arxiv})." if spec.paper else ""
    metadata = require("coreai.runtime", extra="coreai").AIModelAssetMetadata()
    metadata.author = "fbnet_zoo"
    metadata.license = program.license or "not stated"
    metadata.model_description = f"{spec.name}: {spec.summary}{paper}"
    metadata.set_custom("fbnet_zoo.name", spec.name)
    metadata.set_custom("fbnet_zoo.weights", program.weights or "not stated")
    metadata.set_custom("fbnet_zoo.preprocess", program.preprocess.model_dump_json())
    if program.labels:
        metadata.set_custom("fbnet_zoo.labels", json.dumps(program.labels, ensure_ascii=False))
    return metadata


def _quantized(program: Program, options: ConvertOptions) -> tuple[Program, dict[str, Any]]:
    """Return the program of the same network with 8-bit weights and, unless it is `w8a16`, activations."""
    quantization = require("coreai_opt.quantization", extra="coreai")
    network = copy.deepcopy(program.module.get_submodule("network"))
    quantizer = quantization.Quantizer(network, _configuration(program, options))
    example, *batches = _batches(program, options)
    with torch.no_grad():
        observed = quantizer.prepare((example,), dynamic_shapes=_dynamic_shapes(program))
        with quantizer.calibration_mode():
            for batch in (example, *batches):
                observed(batch)
        finished: nn.Module = quantizer.finalize()
    told: dict[str, Any] = {"simulation": GraphSimulation(module=FullPrecision(copy.deepcopy(finished)))}
    if options.precision != "w8a16":
        told["scheme"] = SCHEME
    return of_network(replace(program, precision="fp16"), finished, program.num_classes), told


def _configuration(program: Program, options: ConvertOptions) -> Any:
    quantization = require("coreai_opt.quantization", extra="coreai")
    spec = require("coreai_opt.quantization.spec", extra="coreai")
    weights = spec.QuantizationSpec(
        dtype=torch.int8, qscheme="symmetric_with_clipping", granularity=spec.PerChannelGranularity(axis=0)
    )
    values = None
    if options.precision != "w8a16":
        # Ranges over all images, with a zero point: what coremltools is told too. The default, a moving average of
        # symmetric ranges, is 14 dB worse on a network with hard-swish.
        eight_bits = spec.QuantizationSpec(
            dtype=torch.int8, qscheme="asymmetric", qparam_calculator_cls="global_minmax"
        )
        values = {"*": eight_bits}
    everywhere = quantization.ModuleQuantizerConfig(
        op_input_spec=values, op_output_spec=values, op_state_spec={"weight": weights}
    )
    kept = program.quantization.kept if program.quantization else ()
    return quantization.QuantizerConfig(global_config=everywhere).without(sorted(kept))


def _batches(program: Program, options: ConvertOptions) -> list[torch.Tensor]:
    """Return the calibration images in batches that the program takes; where none are needed, one of zeros."""
    size = _DYNAMIC_BATCH if program.dynamic_batch else program.batch
    if program.quantization is None or options.precision == "w8a16":
        return [torch.zeros(size, program.in_channels, program.input_size, program.input_size)]
    return [torch.from_numpy(batch) for batch in program.quantization.calibration.calibrate.batches(size)]


def _dynamic_shapes(program: Program) -> Any:
    return ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},) if program.dynamic_batch else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class CoreAIRunner:
    """An asset in Core AI's runtime.

    Attributes:
        function: the coroutine function that runs it, from inputs to outputs by name.
        input_name: of its input.
        output_name: of its output.
    """

    function: Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]
    input_name: str
    output_name: str

    @property
    def runtime(self) -> str:
        """Name and version of what runs the file."""
        return f"coreai-core {version('coreai-core')} on {platform.system()}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        array = require("coreai.runtime", extra="coreai").NDArray(np.ascontiguousarray(images))
        return _wait(self._run(array))

    async def _run(self, images: Any) -> np.ndarray:
        outputs = await self.function({self.input_name: images})
        return outputs[self.output_name].numpy().copy()

    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield nothing: the runtime tells values only of assets with debug information, which has local paths."""
        del images
        return iter(())


def load(path: Path) -> CoreAIRunner:
    """Read an asset into Core AI's runtime.

    Raises:
        InputError: there is no asset at `path`.
        ConversionError: it is damaged, or the runtime refuses it.
        MissingExtraError: coreai-core is not installed.
    """
    assets = require("coreai.authoring.asset", extra="coreai").AIModelAsset
    if not path.is_dir():
        raise InputError(f"{path} is not an .aimodel folder")
    _check_digest(path)
    try:
        with quiet():
            opened = AsyncExitStack()
            function = _wait(_open(assets.load(path), opened))
    except Exception as error:
        raise ConversionError(f"Core AI cannot load {path.name}: {error}") from error
    (input_name,), (output_name,) = function.desc.input_names, function.desc.output_names
    runner = CoreAIRunner(function=function, input_name=input_name, output_name=output_name)
    weakref.finalize(runner, _close, opened)
    return runner


def _check_digest(path: Path) -> None:
    """Compare the bytecode with the digest beside it: the runtime ends the whole process over a damaged one."""
    bytecode, digest = path / _BYTECODE, path / _DIGEST
    if not (bytecode.is_file() and digest.is_file()):
        raise ConversionError(f"{path.name} is damaged: it lacks {_BYTECODE} or {_DIGEST}; convert it again")
    if hashlib.sha256(bytecode.read_bytes()).digest() != digest.read_bytes():
        raise ConversionError(f"{path.name} is damaged: {_BYTECODE} does not have the digest in {_DIGEST}")


async def _open(asset: Any, opened: AsyncExitStack) -> Any:
    model = await opened.enter_async_context(asset.executable())
    return model.load_function(FUNCTION)


def _close(opened: AsyncExitStack) -> None:
    _wait(opened.aclose())


def _wait(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fbnet_zoo Core AI", daemon=True).start()
    return loop
