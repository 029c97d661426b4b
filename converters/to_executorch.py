"""Write an exported program as an ExecuTorch file, and run the file in ExecuTorch's runtime.

Operators that the backend does not delegate run on portable kernels, hundreds of times slower, without a warning. So
the facts of a file list them, and a file without any delegated operator is an error. Every network of the zoo is fully
delegated, except that in fp16 the casts from and to float32, at the ends of the file, are not. XNNPACK stores the
weights of convolutions in float32 and rounds them at load time, so its fp16 files are as large as its fp32 ones.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fbnet_zoo._private import load_bundle
from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters import to_coreml
from fbnet_zoo.converters.artifact import ConvertOptions, Written
from fbnet_zoo.converters.cases import make_cases
from fbnet_zoo.converters.executorch_fp16 import half_program
from fbnet_zoo.converters.parity import Runner, Tolerances, joined
from fbnet_zoo.converters.program import Program, Quantization
from fbnet_zoo.converters.quantization.quantize_executorch import SCHEME, int8_program
from fbnet_zoo.converters.quantization.simulation import GraphSimulation
from fbnet_zoo.errors import ConversionError, InputError, ParityError

METHOD = "forward"
BUNDLE_SUFFIX = ".bpte"

_CAST = "dim_order_ops._to_dim_order_copy"
_PLUMBING = ("executorch_call_delegate", "getitem")

log = logging.getLogger(__name__)


def write(program: Program, path: Path, options: ConvertOptions) -> Written:
    """Lower a program to a backend and write it as one file.

    Besides `forward`, the file has constant methods, to be called without arguments: `input_size` (px), `mean` and
    `std` (three values each, on the 0-1 scale), `channel_order` (`rgb` or `bgr`) and, if there are labels, `labels`
    (one string with a label per line).

    Args:
        program: the network, in float32; the file is int8 if it has a `quantization`.
        path: path of the file; with `bundled`, a second file has the suffix `.bpte`.
        options: `backend`, `bundled`, `precision`, the tolerances and `verbose` are used.

    Returns:
        Facts: the backend, the numbers of delegated subgraphs and operators, the number of undelegated operators by
        name, the constant methods and, for a bundle, its number of cases and its tolerance.

    Raises:
        InputError: a label has several lines, or the backend does not support a dynamic batch or int8.
        ConversionError: ExecuTorch cannot lower the network, or no operator is delegated.
        ParityError: the bundle fails its own test.
        MissingExtraError: a library is missing.
    """
    constants = _constants(program)
    if program.quantization is not None:
        program = _quantized(program, program.quantization, options)
    lowered = _lower(program, constants, options)
    facts = {"backend": options.backend, **_delegation(lowered, program, options), "constant_methods": [*constants]}
    with quiet(verbose=options.verbose or None):
        finished = lowered.to_executorch()
        with path.open("wb") as file:
            finished.write_to_file(file)
    if options.bundled:
        facts["bundled"] = _write_bundle(finished, program, path, options)
    if program.quantization is None:
        return Written(facts=facts)
    return Written(facts=facts, scheme=SCHEME, simulation=GraphSimulation(module=program.module))


def _constants(program: Program) -> dict[str, Any]:
    labels, preprocess = program.labels or (), program.preprocess
    if split := [label for label in labels if "\n" in label]:
        raise InputError(f"the label {split[0]!r} is not a single line of text, as ExecuTorch files require; change it")
    constants = {
        "input_size": program.input_size,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "channel_order": preprocess.order,
    }
    return constants | ({"labels": "\n".join(labels)} if labels else {})


def _quantized(program: Program, quantization: Quantization, options: ConvertOptions) -> Program:
    if options.backend != "xnnpack":
        raise InputError(f"{options.precision} requires the backend xnnpack, not {options.backend}")
    return int8_program(program, quantization, verbose=options.verbose)


def _lower(program: Program, constants: dict[str, Any], options: ConvertOptions) -> Any:
    exir = require("executorch.exir", extra="executorch")
    if options.backend == "vulkan" and program.dynamic_batch:
        raise InputError("the backend vulkan delegates no convolution of dynamic_batch; give a fixed batch")
    partitioner = _PARTITIONERS[options.backend](options)
    try:
        with quiet(verbose=options.verbose or None):
            return exir.to_edge_transform_and_lower(
                _exported(program, options),
                partitioner=[partitioner],
                constant_methods=constants,
                # The check does not know the operators of int8 programs.
                compile_config=exir.EdgeCompileConfig(_check_ir_validity=program.quantization is None),
            )
    except Exception as error:  # whatever the backend's passes raise
        raise ConversionError(f"{program.spec.name} cannot be lowered to {options.backend}: {error}") from error


def _exported(program: Program, options: ConvertOptions) -> torch.export.ExportedProgram:
    if options.backend == "coreml":  # lowers the precision itself
        return to_coreml.respelled(program)
    if options.precision != "fp16":
        return program.exported
    return half_program(program, xnnpack=options.backend == "xnnpack").exported


def _xnnpack(_: ConvertOptions) -> Any:
    backend = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch")
    return backend.XnnpackPartitioner()


def _coreml(options: ConvertOptions) -> Any:
    precision = require("coremltools", extra="coreml").precision
    backend = require("executorch.backends.apple.coreml.compiler", extra="executorch").CoreMLBackend
    specs = backend.generate_compile_specs(
        compute_precision=precision.FLOAT16 if options.precision == "fp16" else precision.FLOAT32
    )
    partition = require("executorch.backends.apple.coreml.partition", extra="executorch")
    return partition.CoreMLPartitioner(compile_specs=specs)


def _vulkan(_: ConvertOptions) -> Any:
    backend = require("executorch.backends.vulkan.partitioner.vulkan_partitioner", extra="executorch")
    return backend.VulkanPartitioner()


_PARTITIONERS = {"xnnpack": _xnnpack, "coreml": _coreml, "vulkan": _vulkan}


def _delegation(lowered: Any, program: Program, options: ConvertOptions) -> dict[str, Any]:
    """Count the operators that are delegated and those that are not."""
    modules = require("executorch.exir.lowered_backend_module", extra="executorch")
    graph_module = lowered.exported_program().graph_module
    subgraphs = [module.original_module.graph for _, module, _ in modules.get_lowered_submodules(graph_module)]
    delegated = sum((_operators(graph) for graph in subgraphs), Counter())
    left = _operators(graph_module.graph)
    if not delegated:
        raise ConversionError(
            f"no operator of {program.spec.name} was delegated to {options.backend}; it would run many times slower"
        )
    if unexpected := sorted(left.keys() - ({_CAST} if options.precision == "fp16" else set())):
        log.warning("%s: not delegated to %s: %s", program.spec.name, options.backend, ", ".join(unexpected))
    return {"subgraphs": len(subgraphs), "delegated": delegated.total(), "left": dict(sorted(left.items()))}


def _operators(graph: torch.fx.Graph) -> Counter[str]:
    names = (_name(node.target) for node in graph.nodes if node.op == "call_function")
    return Counter(name for name in names if name not in _PLUMBING)


def _name(target: Any) -> str:
    """Return the name of an operator without its overload: `aten.add` for `aten.add.Tensor`."""
    return str(target.__name__).rpartition(".")[0] or str(target.__name__)


def _write_bundle(finished: Any, program: Program, path: Path, options: ConvertOptions) -> dict[str, Any]:
    """Write the network together with images and their expected logits.

    For an int8 file these are its own logits on this machine: the float network's would require a tolerance so large
    that the test would hardly ever fail.
    """
    devtools = require("executorch.devtools", extra="executorch")
    config = require("executorch.devtools.bundled_program.config", extra="executorch")
    serialize = require("executorch.devtools.bundled_program.serialize", extra="executorch")
    answers = GraphSimulation(module=program.module) if program.quantization is None else load(path)
    tests = _tests(program, answers)
    with quiet(verbose=options.verbose or None):
        cases = [config.MethodTestCase(inputs=(images,), expected_outputs=(logits,)) for images, logits in tests]
        bundle = devtools.BundledProgram(finished, [config.MethodTestSuite(METHOD, cases)])
        content = serialize.serialize_from_bundled_program_to_flatbuffer(bundle)
    share = options.tolerances if program.quantization is None else Tolerances.of("fp16")
    tolerance = share.max_error * max(float(logits.abs().max()) for _, logits in tests)
    if options.backend == "xnnpack":
        _run_bundle(content, len(tests), tolerance, path.with_suffix(BUNDLE_SUFFIX))
    path.with_suffix(BUNDLE_SUFFIX).write_bytes(content)
    return {"cases": len(tests), "atol": tolerance, "rtol": 0.0}


def _tests(program: Program, answers: Callable[[np.ndarray], np.ndarray]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    cases = make_cases(program.preprocess, channels=program.in_channels, batch=program.batch)[:2]  # the photographs
    return [(torch.from_numpy(case.images), torch.from_numpy(answers(case.images))) for case in cases]


def _run_bundle(content: bytes, cases: int, tolerance: float, path: Path) -> None:
    for case in range(cases):
        try:
            with quiet():
                bundle = load_bundle(content)
                bundle.verify_result_with_bundled_expected_output(METHOD, case, 0.0, tolerance)
        except RuntimeError as error:
            raise ParityError(f"{path.name} fails case {case} of its own test: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExecuTorchRunner(Runner):
    """An ExecuTorch file in the library's runtime, which does not expose the values inside a delegate.

    Attributes:
        program: the loaded program, which owns the memory of `method`.
        method: the loaded method.
    """

    program: Any
    method: Any

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return f"executorch {version('executorch')}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        packed = np.ascontiguousarray(images)  # the runtime ignores strides
        return joined([value.numpy() for value in self.method.execute([torch.from_numpy(packed)])])  # copies


def load(path: Path) -> ExecuTorchRunner:
    """Load a file into ExecuTorch's runtime.

    Raises:
        ConversionError: the runtime cannot load it, for example because this machine lacks its backend.
        MissingExtraError: executorch is not installed.
    """
    runtime = require("executorch.runtime", extra="executorch")
    try:
        with quiet():
            program = runtime.Runtime.get().load_program(path)
            return ExecuTorchRunner(program=program, method=program.load_method(METHOD))
    except RuntimeError as error:
        raise ConversionError(f"ExecuTorch cannot load {path.name}: {error}") from error
