"""The conversion targets: one table for the command line, option checks, docs and tests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any, TypeVar

from fbnet_zoo._require import require
from fbnet_zoo.converters.artifact import ConvertOptions, Precision
from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean

EntryT = TypeVar("EntryT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A conversion target.

    Attributes:
        name: name on the command line.
        summary: short description, for lists.
        suffix: file name suffix, without the dot.
        module: module with `write` and `load`, as described in `fbnet_zoo.converters.artifact.Written`.
        extra: extra of this distribution that installs its libraries.
        libraries: importable names of its libraries; their versions are recorded in the manifest.
        precisions: supported precisions.
        fp16_from: precision of the program that fp16 files are converted from.
        options: supported fields of `ConvertOptions`, besides those that every target supports.
        checked_by: runtime that runs its files in the parity check.
        unchecked: backends whose files cannot be run here, and why.
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
        """Return the precision of the program that a file of `precision` is converted from: `fp16` or `fp32`."""
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

TORCH = "torch"
"""PyTorch as a target: a saved `torch.export` program, to measure and never to ship."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime of files on devices.

    Attributes:
        name: name of the runtime.
        target: format of its files.
        suffix: suffix of these files.
        devices: kinds of devices that it runs on.
        backend: backend that the files are lowered to, where the format has a choice.
    """

    name: str
    target: str
    suffix: str
    devices: tuple[str, ...]
    backend: str | None = None


_RUNTIMES = (
    Runtime(name="onnxruntime", target="onnx", suffix="onnx", devices=("host",)),
    Runtime(name="executorch", target="executorch", suffix="pte", devices=("android", "host"), backend="xnnpack"),
    Runtime(name="torch", target=TORCH, suffix="pt2", devices=("host",)),
    Runtime(name="coreml", target="coreml", suffix="mlpackage", devices=("ios", "mac")),
)

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in _RUNTIMES}
"""Every runtime that is measured, by its name."""


def runtimes_on(device: str) -> dict[str, Runtime]:
    """Return the runtimes of a kind of device, by the target of their files."""
    return {runtime.target: runtime for runtime in _RUNTIMES if device in runtime.devices}


def find(names: Iterable[str]) -> tuple[Target, ...]:
    """Return the targets with these names, without duplicates.

    Raises:
        UnknownNameError: a name is not a target.
        InputError: there are no names.
    """
    return look_up(names, TARGETS)


def look_up(names: Iterable[str], table: Mapping[str, EntryT]) -> tuple[EntryT, ...]:
    """Return the entries of a table of targets, like `find`."""
    unique = list(dict.fromkeys(names))
    for name in unique:
        if name not in table:
            hint = did_you_mean(name, table) or f"; expected {', '.join(table)}"
            raise UnknownNameError(f"there is no target {name!r}{hint}")
    if not unique:
        raise InputError(f"no target given; expected one or more of {', '.join(table)}")
    return tuple(table[name] for name in unique)


def make_options(targets: Iterable[Target], values: Mapping[str, Any]) -> ConvertOptions:
    """Return the options, after checking them against the targets.

    An option is valid if one of the targets supports it; the others ignore it.

    Raises:
        InputError: an option is unknown, has an invalid value, or none of the targets supports it.
    """
    targets = tuple(targets)
    known = [option.name for option in fields(ConvertOptions)]
    for name in values:
        if name not in known:
            raise InputError(f"there is no option {name!r}{did_you_mean(name, known)}")
    options = ConvertOptions(**values)
    _check_supported(targets, options)
    for target in targets:
        _check_target(target, options)
    return options


def _check_supported(targets: tuple[Target, ...], options: ConvertOptions) -> None:
    supported = frozenset[str]().union(*(target.options for target in targets))
    for option in fields(ConvertOptions):
        supporting = [target.name for target in TARGETS.values() if option.name in target.options]
        given = getattr(options, option.name) != option.default
        if given and supporting and option.name not in supported:
            chosen = ", ".join(target.name for target in targets)
            raise InputError(f"{option.name} requires {' or '.join(supporting)}, not {chosen}; leave it out")


def _check_target(target: Target, options: ConvertOptions) -> None:
    if options.precision not in target.precisions:
        raise InputError(
            f"{target.name} does not support {options.precision}; expected {' or '.join(target.precisions)}"
        )
    reason = unchecked_reason(target, options)
    if reason and not options.allow_unchecked:
        raise InputError(
            f"{target.name} files for the backend {options.backend} cannot be checked here ({reason}); allow_unchecked "
            f"(--allow-unchecked) writes them anyway"
        )


def unchecked_reason(target: Target, options: ConvertOptions) -> str | None:
    """Return why the file cannot be run here; `None` if it can."""
    return target.unchecked.get(options.backend) if "backend" in target.options else None


def require_libraries(target: Target) -> None:
    """Raise `MissingExtraError` unless a target's libraries are installed."""
    for library in target.libraries:
        if find_spec(library) is None:
            require(library, extra=target.extra)
