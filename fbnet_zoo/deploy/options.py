"""Options of a bundle. No torch: the command line imports this module on every call."""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import FLOATING, Precision
from fbnet_zoo.deploy import platforms
from fbnet_zoo.deploy.platforms import Platform
from fbnet_zoo.errors import InputError, did_you_mean

AUTO: Final = "auto"
"""Precision that converts in several precisions and keeps the fastest file that passes its check."""

PrecisionOrAuto = Literal[Precision, "auto"]

PRECISIONS: tuple[str, ...] = get_args(PrecisionOrAuto)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """Options of a bundle.

    Attributes:
        to: names of platforms.
        precision: precision of every file, or `auto` to choose one for each platform.
        labels: class names, or `imagenet` (default: as in `fbnet_zoo.deploy.labels.choose`).
        input_size: as in `fbnet_zoo.converters.artifact.ConvertOptions`.
        calibration: as in `ConvertOptions`.
        keep: as in `ConvertOptions`.
        allow_degraded: as in `ConvertOptions`.

    Raises:
        InputError: a value is invalid, or a platform does not support the precision.
    """

    to: tuple[str, ...]
    precision: PrecisionOrAuto = "fp32"
    labels: tuple[str, ...] | Literal["imagenet"] | None = None
    input_size: int | None = None
    calibration: str | None = None
    keep: tuple[str, ...] = ()
    allow_degraded: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            hint = did_you_mean(self.precision, PRECISIONS) or f"; expected {' or '.join(PRECISIONS)}"
            raise InputError(f"precision cannot be {self.precision!r}{hint}")
        for platform in self.platforms:
            for precision in self.precisions(platform):
                targets.make_options([targets.TARGETS[platform.target]], self.convert_options(platform, precision))

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms to deploy to."""
        return platforms.find(self.to)

    def precisions(self, platform: Platform) -> tuple[Precision, ...]:
        """Return the precisions in which a platform's file is converted."""
        return platform.variants if self.precision == AUTO else (self.precision,)

    def convert_options(self, platform: Platform, precision: Precision) -> dict[str, Any]:
        """Return the fields of `ConvertOptions` for a file; Core ML files accept images, as Vision requires."""
        options = {
            "precision": precision,
            "input_size": self.input_size,
            "image_input": platform.target == "coreml",
            "calibration": self.calibration if precision not in FLOATING or self.precision != AUTO else None,
            "keep": self.keep if precision == "mixed" or self.precision != AUTO else None,
            "allow_degraded": self.allow_degraded,
        }
        return {name: value for name, value in options.items() if value}
