"""What goes into a conversion and what comes out of it: options and artifact.

The command line reads this module, and the table of targets, on every call: neither imports torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fbnet_zoo.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.converters.manifest import Manifest
    from fbnet_zoo.converters.parity import Tolerances

Precision = Literal["fp32", "fp16", "int8", "mixed", "w8a16", "palette6", "palette4"]
Backend = Literal["xnnpack", "coreml", "vulkan"]

SUMMARIES: dict[Precision, str] = {
    "fp32": "32-bit weights and arithmetic",
    "fp16": "16-bit weights and arithmetic",
    "int8": "8-bit weights with a scale per channel, 8-bit activations",
    "mixed": "as int8, but with some layers in a higher precision",
    "w8a16": "8-bit weights with a scale per channel, arithmetic in fp16",
    "palette6": "weights from tables of 64 values, arithmetic in fp16",
    "palette4": "weights from tables of 16 values, arithmetic in fp16",
}
"""What each precision is."""

LARGEST_BATCH = 64
FLOATING: tuple[Precision, ...] = ("fp32", "fp16")
"""The precisions that are not quantized."""

_CHOICES = {"precision": get_args(Precision), "backend": get_args(Backend)}
_RANGES = {"batch": (1, LARGEST_BATCH), "input_size": (8, 4096), "opset": (1, 99)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """How a network shall be converted; `fbnet_zoo.converters.targets` says which target takes which.

    Attributes:
        precision: of the weights and of the arithmetic; inputs and outputs stay float32. `int8` is 8-bit weights per
            channel and 8-bit activations, `mixed` the same with some layers in a higher precision; `w8a16` (8-bit
            weights), `palette6` and `palette4` (weights from a table of 64 or 16 values) compute in fp16.
        batch: images per run, when it is not dynamic.
        dynamic_batch: let the file take 1 to 64 images.
        input_size: side of the square image, px; `None` is the definition's.
        labels: names of the classes, written into the file.
        image_input: let the file take 8-bit images and normalise them itself.
        deployment_target: oldest system that shall run the file, such as `iOS16`.
        opset: version of the ONNX operators.
        bundled: also write a file that carries its own test.
        backend: what ExecuTorch delegates to.
        calibration: of the ranges of activations: a folder of images or `digits`; `None` is crops and flips of the
            shipped photographs.
        keep: layers that `mixed` leaves in a higher precision; none lets it find them.
        allow_degraded: keep a quantized file that has lost the network's answers.
        min_snr_db: smallest signal-to-noise ratio of the logits; `None` is the precision's default.
        max_error: largest error of a logit, as a share of the largest; `None` is the precision's default.
        min_top1_agreement: smallest share of images with the same best class; `None` is the precision's default.
        allow_unchecked: write files that no runtime of this machine can check.
        verbose: let the libraries print.

    Raises:
        InputError: a value is out of its range.
    """

    precision: Precision = "fp32"
    batch: int = 1
    dynamic_batch: bool = False
    input_size: int | None = None
    labels: tuple[str, ...] | None = None
    image_input: bool = False
    deployment_target: str | None = None
    opset: int | None = None
    bundled: bool = False
    backend: Backend = "xnnpack"
    calibration: str | None = None
    keep: tuple[str, ...] = ()
    allow_degraded: bool = False
    min_snr_db: float | None = None
    max_error: float | None = None
    min_top1_agreement: float | None = None
    allow_unchecked: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        for field, choices in _CHOICES.items():
            _check_choice(field, getattr(self, field), choices)
        for field, limits in _RANGES.items():
            _check_range(field, getattr(self, field), limits)
        if isinstance(self.labels, str):
            raise InputError(f"labels cannot be the text {self.labels!r}; expected a sequence of names")
        if self.dynamic_batch and self.batch != 1:
            raise InputError(f"batch {self.batch} and dynamic_batch exclude each other; give one of them")
        if self.calibration is not None and not self.is_quantized:
            raise InputError(f"{self.precision} is not quantized; leave out calibration, or say another precision")
        if isinstance(self.keep, str):
            raise InputError(f"keep cannot be the text {self.keep!r}; expected a sequence")
        if self.keep and self.precision != "mixed":
            raise InputError(f"{self.precision} keeps no layers; leave out keep, or say mixed")

    @property
    def is_quantized(self) -> bool:
        """Whether the file has fewer than 16 bits somewhere."""
        return self.precision not in FLOATING

    @property
    def tolerances(self) -> "Tolerances":
        """What a file of this precision must keep."""
        from fbnet_zoo.converters.parity import Tolerances

        return Tolerances.of(
            self.precision,
            min_snr_db=self.min_snr_db,
            max_error=self.max_error,
            min_top1_agreement=self.min_top1_agreement,
        )


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = did_you_mean(str(value), choices) or f"; expected {' or '.join(choices)}"
        raise InputError(f"{field} cannot be {value!r}{hint}")


def _check_range(field: str, value: object, limits: tuple[int, int]) -> None:
    smallest, largest = limits
    if value is not None and not (isinstance(value, int) and smallest <= value <= largest):
        raise InputError(f"{field} cannot be {value!r}; expected a whole number from {smallest} to {largest}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A converted file that lies at its final name, with its manifest beside it.

    Attributes:
        path: of the file; a folder for Core ML.
        manifest_path: `<path>.json`.
        target: name of the format.
        manifest: what `manifest_path` holds.
    """

    path: Path
    manifest_path: Path
    target: str
    manifest: "Manifest"
