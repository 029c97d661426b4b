"""Platforms for deployment: one table for the command line, bundles, their check and the docs. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass

from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.converters.targets import RUNTIMES, look_up
from fbnet_zoo.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform that apps run on.

    Attributes:
        name: name on the command line.
        title: name in texts.
        target: conversion target, a name in `fbnet_zoo.converters.targets`.
        folder: folder of the bundle with the files for the app.
        file: file name of the network in the folder.
        snippets: files with code that runs the network, rendered from the templates `<name>.jinja`.
        variants: precisions among which `auto` chooses, the highest first.
    """

    name: str
    title: str
    target: str
    folder: str
    file: str
    snippets: tuple[str, ...]
    variants: tuple[Precision, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """Kinds of devices that can run the file, as named in `fbnet_zoo.benchmarks.devices.discovery`."""
        return next(runtime.devices for runtime in RUNTIMES.values() if runtime.target == self.target)

    @property
    def path(self) -> str:
        """Path of the network in the bundle."""
        return f"{self.folder}/{self.file}"


_TABLE = (
    Platform(
        name="iphone",
        title="iPhone",
        target="coreml",
        folder="ios",
        file="Model.mlpackage",
        snippets=("Classifier.swift",),
        variants=("fp16", "w8a16", "int8"),  # the Neural Engine does not compute in fp32
    ),
    Platform(
        name="android",
        title="Android",
        target="executorch",
        folder="android",
        file="model.pte",
        snippets=("Classifier.kt",),
        variants=("fp32", "fp16", "mixed", "int8"),
    ),
    Platform(
        name="onnx",
        title="ONNX Runtime, also in browsers",
        target="onnx",
        folder="onnx",
        file="model.onnx",
        snippets=("classify.py", "classify.mjs", "classify.html"),
        variants=("fp32", "mixed", "int8"),  # onnxruntime's CPU kernels cast fp16 to fp32
    ),
)

PLATFORMS: dict[str, Platform] = {platform.name: platform for platform in _TABLE}
"""Every platform by its name."""


def find(names: Iterable[str]) -> tuple[Platform, ...]:
    """Return the platforms with these names, without duplicates, in the order of the table.

    Raises:
        UnknownNameError: a name is not a platform.
        InputError: there are no names.
    """
    chosen = look_up(names, PLATFORMS)
    return tuple(platform for platform in _TABLE if platform in chosen)


def of_target(target: str) -> Platform:
    """Return the platform that uses files of a target.

    Raises:
        InputError: no platform does.
    """
    for platform in _TABLE:
        if platform.target == target:
            return platform
    raise InputError(f"precision auto does not support {target}; expected {' or '.join(p.target for p in _TABLE)}")
