"""What a bundle shall be. No torch: the command line reads this module on every call."""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import FLOATING, Precision
from fbnet_zoo.deploy import platforms
from fbnet_zoo.deploy.platforms import Platform
from fbnet_zoo.errors import InputError, did_you_mean

AUTO: Final = "auto"
"""As a precision: convert in several, and keep the fastest that passes its check."""

PrecisionOrAuto = Literal[Precision, "auto"]

PRECISIONS: tuple[str, ...] = get_args(PrecisionOrAuto)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """How a network shall be deployed.

    Attributes:
        to: names of platforms.
        precision: of every file, or `auto`, which chooses for each.
        labels: names of the classes; `imagenet`, or `None`, as `fbnet_zoo.deploy.labels.choose` says.
        input_size: as in `fbnet_zoo.converters.artifact.ConvertOptions`.
        calibration: likewise.
        keep: likewise.
        allow_degraded: likewise.

    Raises:
        InputError: a value makes no sense, or the platforms have no such precision.
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
                targets.make_options([targets.TARGETS[platform.target]], self.converting(platform, precision))

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of these names."""
        return platforms.find(self.to)

    def precisions(self, platform: Platform) -> tuple[Precision, ...]:
        """Return what a platform's file is converted in."""
        return platform.variants if self.precision == AUTO else (self.precision,)

    def converting(self, platform: Platform, precision: Precision) -> dict[str, Any]:
        """Return the fields of `ConvertOptions` for a file; Vision runs only those that take images."""
        options = {
            "precision": precision,
            "input_size": self.input_size,
            "image_input": platform.target == "coreml",
            "calibration": self.calibration if precision not in FLOATING or self.precision != AUTO else None,
            "keep": self.keep if precision == "mixed" or self.precision != AUTO else None,
            "allow_degraded": self.allow_degraded,
        }
        return {name: value for name, value in options.items() if value}
