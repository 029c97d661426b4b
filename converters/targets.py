"""The formats that networks leave in: one table for the command line, the checks of options, the docs and the tests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any

from fbnet_zoo._require import require
from fbnet_zoo.converters.artifact import ConvertOptions, Precision
from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A format.

    Attributes:
        name: as the user says it.
        summary: what it is, for lists.
        suffix: of its files, without the dot.
        module: has `write(program, path, options)`, which returns facts for the manifest, and `load(path)`.
        extra: of the distribution, that brings its libraries.
        libraries: importable names; the manifest tells their versions.
        precisions: that it can be written in.
        fp16_from: precision of the program that its fp16 files are made of.
        options: of `ConvertOptions` that mean something to it, beside those that do to every target.
        checked_by: what runs its files for the comparison with the model.
        unchecked: backends whose files no runtime here can run, and why.
    """

    name: str
    summary: str
    suffix: str
    module: str
    extra: str
    libraries: tuple[str, ...]
    precisions: tuple[Precision, ...]
    fp16_from: Precision = "fp16"
    options: frozenset[str]
    checked_by: str
    unchecked: Mapping[str, str] = field(default_factory=dict)

    def program_precision(self, precision: Precision) -> Precision:
        """Return the precision of the program that a file of `precision` is made of: 16 or 32 bits."""
        return self.fp16_from if precision == "fp16" else "fp32"


_TABLE = (
    Target(
        name="onnx",
        summary="ONNX, for onnxruntime and many others",
        suffix="onnx",
        module="fbnet_zoo.converters.to_onnx",
        extra="onnx",
        libraries=("onnx", "onnxscript", "onnxruntime"),
        precisions=("fp32", "fp16", "int8", "mixed"),
        options=frozenset({"dynamic_batch", "opset"}),
        checked_by="onnxruntime",
    ),
    Target(
        name="coreml",
        summary="Core ML, an ML Program for Apple's systems",
        suffix="mlpackage",
        module="fbnet_zoo.converters.to_coreml",
        extra="coreml",
        libraries=("coremltools",),
        precisions=("fp32", "fp16", "int8", "mixed", "w8a16", "palette6", "palette4"),
        fp16_from="fp32",  # coremltools lowers the precision itself
        options=frozenset({"dynamic_batch", "image_input", "deployment_target"}),
        checked_by="Core ML on macOS, elsewhere a reference interpreter of the saved program",
    ),
    Target(
        name="executorch",
        summary="ExecuTorch, delegated to XNNPACK, Core ML or Vulkan",
        suffix="pte",
        module="fbnet_zoo.converters.to_executorch",
        extra="executorch",
        libraries=("executorch", "torchao"),
        precisions=("fp32", "fp16", "int8", "mixed"),
        fp16_from="fp32",  # each backend has fp16 in its own way
        options=frozenset({"dynamic_batch", "bundled", "backend"}),
        checked_by="ExecuTorch's own runtime",
        unchecked={
            "coreml": "the Core ML delegate runs on Apple's systems only",
            "vulkan": "the Vulkan delegate runs on Android devices only",
        },
    ),
    Target(
        name="coreai",
        summary="Core AI, which follows Core ML on Apple's systems of version 27",
        suffix="aimodel",
        module="fbnet_zoo.converters.to_coreai",
        extra="coreai",
        libraries=("coreai_torch", "coreai_opt"),
        precisions=("fp32", "fp16", "int8", "mixed", "w8a16"),
        options=frozenset({"dynamic_batch"}),
        checked_by="Core AI's own runtime, on Linux too",
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _TABLE}
"""Every target by its name."""

RUNTIME_TARGETS = {"executorch": "executorch", "onnxruntime": "onnx", "torch": "torch"}
"""What each runtime that is measured takes: files of a target, or PyTorch's own."""


def find(names: Iterable[str]) -> tuple[Target, ...]:
    """Return the targets of these names, each once.

    Raises:
        UnknownNameError: there is no such target.
        InputError: there is no name at all.
    """
    asked = list(dict.fromkeys(names))
    for name in asked:
        if name not in TARGETS:
            hint = did_you_mean(name, TARGETS) or f"; expected {', '.join(TARGETS)}"
            raise UnknownNameError(f"there is no target {name!r}{hint}")
    if not asked:
        raise InputError(f"there is no target to convert to; expected one or more of {', '.join(TARGETS)}")
    return tuple(TARGETS[name] for name in asked)


def make_options(targets: Iterable[Target], values: Mapping[str, Any]) -> ConvertOptions:
    """Return the options, after checking them against the targets.

    An option passes when one of the targets takes it; the others do not see a difference.

    Raises:
        InputError: an option does not exist, has a wrong value, or none of the targets takes it.
    """
    targets = tuple(targets)
    known = [option.name for option in fields(ConvertOptions)]
    for name in values:
        if name not in known:
            raise InputError(f"there is no option {name!r}{did_you_mean(name, known)}")
    options = ConvertOptions(**values)
    _check_taken(targets, options)
    for target in targets:
        _check_target(target, options)
    return options


def _check_taken(targets: tuple[Target, ...], options: ConvertOptions) -> None:
    taken = frozenset[str]().union(*(target.options for target in targets))
    for option in fields(ConvertOptions):
        takers = [target.name for target in TARGETS.values() if option.name in target.options]
        given = getattr(options, option.name) != option.default
        if given and takers and option.name not in taken:
            chosen = ", ".join(target.name for target in targets)
            raise InputError(f"{chosen} takes no {option.name}; only {' and '.join(takers)} does, so leave it out")


def _check_target(target: Target, options: ConvertOptions) -> None:
    if options.precision not in target.precisions:
        raise InputError(f"{target.name} has no {options.precision}; expected {' or '.join(target.precisions)}")
    reason = unchecked_reason(target, options)
    if reason and not options.allow_unchecked:
        raise InputError(
            f"a file for {target.name} with backend {options.backend} cannot be checked ({reason}); allow_unchecked "
            f"(--allow-unchecked) writes it all the same"
        )


def unchecked_reason(target: Target, options: ConvertOptions) -> str | None:
    """Return why no runtime here can run the file; `None` where one can."""
    return target.unchecked.get(options.backend) if "backend" in target.options else None


def require_libraries(target: Target) -> None:
    """Make sure that a target's libraries are installed, before any work is done for it.

    Raises:
        MissingExtraError: one is not.
    """
    for library in target.libraries:
        if find_spec(library) is None:
            require(library, extra=target.extra)
