"""The images that quantization takes the ranges of activations from, and those on which its loss is measured."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Prepared images.

    Attributes:
        images: float32 `(N, C, S, S)`, normalised.
        classes: their classes, `(N,)`, where they are known.
        source: where they are from, in words.
    """

    images: np.ndarray
    classes: np.ndarray | None = None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Images that shape a quantized file, and others that judge it."""

    calibrate: Samples
    evaluate: Samples
