"""Converters: one module per target format, and the checks that each file computes what the model computes."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.converters.artifact import PRECISION_SUMMARIES, Artifact, ConvertOptions
    from fbnet_zoo.converters.conversion import convert, convert_each
    from fbnet_zoo.converters.manifest import Manifest
    from fbnet_zoo.converters.parity import ParityReport
    from fbnet_zoo.converters.targets import TARGETS, Target

__all__ = [
    "PRECISION_SUMMARIES",
    "TARGETS",
    "Artifact",
    "ConvertOptions",
    "Manifest",
    "ParityReport",
    "Target",
    "convert",
    "convert_each",
]

__getattr__, __dir__ = public_names(
    __name__,
    artifact=(
        "Artifact",
        "ConvertOptions",
        "PRECISION_SUMMARIES",
    ),
    conversion=(
        "convert",
        "convert_each",
    ),
    manifest=("Manifest",),
    parity=("ParityReport",),
    targets=(
        "TARGETS",
        "Target",
    ),
)
