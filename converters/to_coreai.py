"""Write an exported program as an asset of Core AI, the successor of Core ML, and run it in Core AI's runtime.

The library also runs assets on Linux: slowly, but well enough to check them. On macOS it uses the system's framework
if available.

Its runtime consists of coroutines. They run in a dedicated thread, so that callers may have an event loop of their own,
as notebooks do.
"""

import asyncio
import copy
import functools
import hashlib
import platform
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from fbnet_zoo._require import quiet, quiet_with_compiled_code, require
from fbnet_zoo.converters.artifact import LARGEST_BATCH, ConvertOptions, Written
from fbnet_zoo.converters.parity import Runner, joined
from fbnet_zoo.converters.program import FullPrecision, Program, of_network
from fbnet_zoo.converters.quantization.simulation import GraphSimulation
from fbnet_zoo.errors import ConversionError, InputError

FUNCTION = "main"
SCHEME = "coreai-opt: int8 weights per channel, int8 activations per tensor, fp16 in between"
_BYTECODE, _DIGEST = "main.mlirb", "main.hash"
_DYNAMIC_BATCH = 16

ResultT = TypeVar("ResultT")


def write(program: Program, path: Path, options: ConvertOptions) -> Written:
    """Write a program as an asset, with description, license, labels and preprocessing in its metadata.

    The parts of 8-bit files that are not 8-bit compute in fp16, since the Neural Engine has no float32.

    Args:
        program: the network; in float16 for `fp16`, else in float32.
        path: path of the asset, a folder with suffix `.aimodel`.
        options: `precision` and `verbose` are used.

    Returns:
        Facts: the minimum system version and the number of operators by type.

    Raises:
        ConversionError: Core AI cannot convert the network.
        MissingExtraError: a library is missing.
    """
    torch_side, authoring = require("coreai_torch", extra="coreai"), require("coreai.authoring.asset", extra="coreai")
    try:
        with quiet(verbose=options.verbose or None):
            source, simulation = _quantized(program, options) if options.is_quantized else (program, None)
            converter = torch_side.TorchConverter(mode=torch_side.TorchConverter.Mode.RELEASE)  # no local paths
            converter.add_exported_program(
                source.exported.run_decompositions(torch_side.get_decomp_table()),
                input_names=[program.input_name],
                output_names=program.output_names,
                entrypoint_name=FUNCTION,
            )
            oldest = authoring.OSVersion.v27
            asset = converter.to_coreai().save_asset(path, _metadata(program), minimum_os=oldest)
            operators = dict(asset.summary().operation_distribution)
    except Exception as error:  # whatever its passes raise
        raise ConversionError(f"{program.spec.name} cannot be converted to Core AI: {error}") from error
    return Written(
        facts={"minimum_os": oldest.value, "operators": dict(sorted(operators.items()))},
        scheme=SCHEME if options.precision in {"int8", "mixed"} else None,
        simulation=simulation,
    )


def _metadata(program: Program) -> Any:
    metadata = require("coreai.runtime", extra="coreai").AIModelAssetMetadata()
    metadata.author = "fbnet_zoo"
    metadata.license = program.license or "not stated"
    metadata.model_description = program.description
    for key, value in program.metadata.items():
        metadata.set_custom(key, value)
    return metadata


def _quantized(program: Program, options: ConvertOptions) -> tuple[Program, GraphSimulation]:
    """Return the program with 8-bit weights and, except for `w8a16`, 8-bit activations, and its simulation."""
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
    simulation = GraphSimulation(module=FullPrecision(copy.deepcopy(finished)))
    return of_network(replace(program, precision="fp16"), finished, program.num_classes), simulation


def _configuration(program: Program, options: ConvertOptions) -> Any:
    quantization = require("coreai_opt.quantization", extra="coreai")
    spec = require("coreai_opt.quantization.spec", extra="coreai")
    weights = spec.QuantizationSpec(
        dtype=torch.int8, qscheme="symmetric_with_clipping", granularity=spec.PerChannelGranularity(axis=0)
    )
    values = None
    if options.precision != "w8a16":
        # Ranges over all images, with a zero point, as for coremltools. The default, a moving average of symmetric
        # ranges, is 14 dB worse on a network with hard-swish.
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
    """Return the calibration images in batches that the program accepts; if not needed, one batch of zeros."""
    size = _DYNAMIC_BATCH if program.dynamic_batch else program.batch
    if program.quantization is None or options.precision == "w8a16":
        return [torch.zeros(size, program.in_channels, program.input_size, program.input_size)]
    return [torch.from_numpy(batch) for batch in program.quantization.calibration.calibrate.batches(size)]


def _dynamic_shapes(program: Program) -> Any:
    return ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},) if program.dynamic_batch else None


@dataclass(frozen=True, kw_only=True, eq=False)
class CoreAIRunner(Runner):
    """An asset in Core AI's runtime, which exposes values only with debug information, and that contains local paths.

    Attributes:
        function: coroutine function from inputs to outputs, both by name.
        input_name: name of the input.
        output_names: names of the outputs, in order.
    """

    function: Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]
    input_name: str
    output_names: tuple[str, ...]

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return f"coreai-core {version('coreai-core')} on {platform.system()}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        array = require("coreai.runtime", extra="coreai").NDArray(np.ascontiguousarray(images))
        return _wait(self._run(array))

    async def _run(self, images: Any) -> np.ndarray:
        outputs = await self.function({self.input_name: images})
        return joined([outputs[name].numpy() for name in self.output_names])


def load(path: Path) -> CoreAIRunner:
    """Load an asset into Core AI's runtime.

    Raises:
        InputError: there is no asset at `path`.
        ConversionError: the asset is damaged, or the runtime cannot load it.
        MissingExtraError: coreai-core is not installed.
    """
    assets = require("coreai.authoring.asset", extra="coreai").AIModelAsset
    if not path.is_dir():
        raise InputError(f"{path} is not an .aimodel folder")
    _check_digest(path)
    try:
        with quiet_with_compiled_code():
            opened = AsyncExitStack()
            function = _wait(_open(assets.load(path), opened))
    except Exception as error:
        raise ConversionError(f"Core AI cannot load {path.name}: {error}") from error
    (input_name,), output_names = function.desc.input_names, tuple(function.desc.output_names)
    runner = CoreAIRunner(function=function, input_name=input_name, output_names=output_names)
    weakref.finalize(runner, _close, opened)
    return runner


def _check_digest(path: Path) -> None:
    """Compare the bytecode with the digest beside it: damaged bytecode would crash the process."""
    bytecode, digest = path / _BYTECODE, path / _DIGEST
    if not (bytecode.is_file() and digest.is_file()):
        raise ConversionError(f"{path.name} is damaged: {_BYTECODE} or {_DIGEST} is missing; convert it again")
    if hashlib.sha256(bytecode.read_bytes()).digest() != digest.read_bytes():
        raise ConversionError(f"{path.name} is damaged: {_BYTECODE} does not match the digest in {_DIGEST}")


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
