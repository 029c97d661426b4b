"""Input and output of a conversion: its options, what a target's writer returns, and the finished artifact.

The command line imports this module and the table of targets on every call, so neither imports torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fbnet_zoo.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.converters.manifest import Manifest, TensorRecord
    from fbnet_zoo.converters.parity import Runner, Tolerances

Progress = Callable[[str], None]
"""Called with the name of each step as it begins."""

Precision = Literal["fp32", "fp16", "int8", "mixed", "w8a16", "palette6", "palette4"]
Backend = Literal["xnnpack", "coreml", "vulkan"]

PRECISION_SUMMARIES: dict[Precision, str] = {
    "fp32": "32-bit weights and arithmetic",
    "fp16": "16-bit weights and arithmetic",
    "int8": "8-bit weights with a scale per channel, 8-bit activations",
    "mixed": "as int8, but with some layers in a higher precision",
    "w8a16": "8-bit weights with a scale per channel, arithmetic in fp16",
    "palette6": "weights from tables of 64 values, arithmetic in fp16",
    "palette4": "weights from tables of 16 values, arithmetic in fp16",
}
"""One line about each precision."""

LARGEST_BATCH = 64
FLOATING: tuple[Precision, ...] = ("fp32", "fp16")
"""The precisions that are not quantized."""

_CHOICES = {"precision": get_args(Precision), "backend": get_args(Backend)}
_RANGES = {"batch": (1, LARGEST_BATCH), "input_size": (8, 4096), "opset": (1, 99)}
_TOLERANCES = {"min_snr_db": (-1e6, 1e6), "max_error": (0.0, 1e6), "min_top1_agreement": (0.0, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """Conversion options; `fbnet_zoo.converters.targets` lists which target accepts which.

    Attributes:
        precision: precision of weights and arithmetic; inputs and outputs stay float32. `int8` is 8-bit weights per
            channel and 8-bit activations, `mixed` the same with some layers in a higher precision; `w8a16` (8-bit
            weights), `palette6` and `palette4` (weights from a table of 64 or 16 values) compute in fp16.
        batch: images per run, unless `dynamic_batch`.
        dynamic_batch: accept any batch of 1 to 64 images.
        input_size: side of the square image, px (default: the definition's).
        labels: class names, written into the file (default: those of the weights, if known).
        image_input: accept 8-bit images and normalize them inside the file.
        deployment_target: oldest system version to support, such as `iOS16`.
        opset: ONNX opset version.
        bundled: also write a file that contains its own test.
        backend: ExecuTorch backend to delegate to.
        calibration: calibration images for activation ranges: a folder or `digits` (default: crops and flips of the
            sample photographs).
        keep: layers that `mixed` leaves in a higher precision (default: the most sensitive ones).
        allow_degraded: keep a quantized file whose predictions differ too much from the network's.
        min_snr_db: minimum signal-to-noise ratio of the logits, dB (default: depends on the precision; in fp16 less
            for a network of which PyTorch's own fp16 keeps less).
        max_error: maximum error of a logit, relative to the largest (default: depends on the precision).
        min_top1_agreement: minimum share of images with the same top-1 class (default: depends on the precision).
        allow_unchecked: write files that no runtime on this machine can check.
        verbose: show library output.

    Raises:
        InputError: a value is out of range, or two options exclude each other.
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
        self._check_numbers()
        if isinstance(self.labels, str):
            raise InputError(f"labels cannot be the text {self.labels!r}; expected a sequence of names")
        if self.dynamic_batch and self.batch != 1:
            raise InputError(f"batch {self.batch} and dynamic_batch are mutually exclusive")
        if self.calibration is not None and not self.is_quantized:
            raise InputError(f"calibration requires a quantized precision, not {self.precision}; leave it out")
        if isinstance(self.keep, str):
            raise InputError(f"keep cannot be the text {self.keep!r}; expected a sequence")
        if self.keep and self.precision != "mixed":
            raise InputError(f"keep requires precision mixed, not {self.precision}; leave it out")

    def _check_numbers(self) -> None:
        for field, limits in _RANGES.items():
            _check_range(field, getattr(self, field), limits)
        for field, bounds in _TOLERANCES.items():
            _check_number(field, getattr(self, field), bounds)

    @property
    def is_quantized(self) -> bool:
        """Whether any values have fewer than 16 bits."""
        return self.precision not in FLOATING

    @property
    def tolerances(self) -> "Tolerances":
        """Tolerances of the parity check."""
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


def _check_number(field: str, value: object, limits: tuple[float, float]) -> None:
    smallest, largest = limits
    if value is not None and not (isinstance(value, int | float) and smallest <= value <= largest):
        raise InputError(f"{field} cannot be {value!r}; expected a number from {smallest:g} to {largest:g}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """What a target's `write` returns about the file that it has written.

    A target is a module `to_<target>.py` with two functions: `write(program, path, options)` writes a `Program` to
    `path` and returns this record; `load(path)` returns a `Runner`, which the parity check calls.

    Attributes:
        facts: target-specific entries of the manifest's `facts`; JSON values.
        inputs: inputs of the file, if they differ from the program's.
        outputs: outputs of the file, if they differ from the program's.
        scheme: how activations were quantized, in words (default: the summary of the precision).
        simulation: what a quantized file should compute, in floating point, if the writer can provide it.
    """

    facts: dict[str, Any]
    inputs: tuple["TensorRecord", ...] = ()
    outputs: tuple["TensorRecord", ...] = ()
    scheme: str | None = None
    simulation: "Runner | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A converted file at its final path, with its manifest beside it.

    Attributes:
        path: path of the file; a folder for Core ML and Core AI.
        manifest_path: path of the manifest, `<path>.json`.
        target: name of the target.
        manifest: contents of the manifest.
    """

    path: Path
    manifest_path: Path
    target: str
    manifest: "Manifest"
