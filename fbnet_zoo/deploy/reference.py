"""Pictures and the logits that the PyTorch model gives for them: what a bundle is checked by, without its weights."""

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.converters.parity import CaseResult, compare
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.data import load_batch, photographs
from fbnet_zoo.errors import InputError, ParityError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import PreprocessSpec

NAME = "reference.safetensors"

_DRIFT_DB = 3.0
"""How much further from the model a quantized file may be on another machine, whose kernels round differently."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The shipped photographs, resized and cropped, and what the model says of them.

    Attributes:
        pixels: RGB, uint8 `(N, S, S, 3)`.
        logits: of the model in float32, `(N, classes)`.
    """

    pixels: np.ndarray
    logits: np.ndarray

    @classmethod
    def of(cls, model: FBNet, preprocess: PreprocessSpec) -> Self:
        """Run a model of three channels, in evaluation mode, on the photographs."""
        plain = preprocess.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3, "order": "rgb"})
        levels = load_batch(photographs(), plain).mul(255).round().to(torch.uint8)  # (N, 3, S, S)
        pixels = np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
        with torch.no_grad():
            logits = model(torch.from_numpy(normalised(pixels, preprocess))).numpy()
        return cls(pixels=pixels, logits=logits)

    def save(self, folder: Path) -> None:
        """Write it into the folder of a bundle."""
        save_file({"pixels": self.pixels, "logits": self.logits}, folder / NAME)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it from the folder of a bundle.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return cls(**load_file(folder / NAME))
        except (OSError, SafetensorError, TypeError) as error:
            raise InputError(f"{folder / NAME}: cannot be read ({error})") from error


def normalised(pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """Return RGB pixels `(N, S, S, 3)` as the input of a network: float32 `(N, 3, S, S)`."""
    ordered = pixels[..., ::-1] if preprocess.order == "bgr" else pixels
    scaled = ordered.astype(np.float32) / np.float32(255)
    images = (scaled - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def compare_file(path: Path, manifest: Manifest, reference: Reference) -> CaseResult:
    """Run a converted file on the pictures of a reference.

    Raises:
        ConversionError: it cannot be loaded.
        MissingExtraError: what runs it is not installed.
    """
    runner = importlib.import_module(TARGETS[manifest.target].module).load(path)
    images = normalised(reference.pixels, manifest.preprocess)
    logits = np.concatenate([runner(image[None]) for image in images])
    tolerances = None if manifest.quantization else manifest.parity.tolerances
    return compare("photographs", reference.logits, logits, tolerances.min_snr_db if tolerances else math.inf)


def check_again(path: Path, manifest: Manifest, reference: Reference, recorded: CaseResult) -> CaseResult:
    """Make sure that a file still computes what it did when its bundle was made.

    One of 16 or 32 bits must keep its tolerance; a quantized one, which has none to speak of, what it kept then.

    Raises:
        ParityError: it is further from the model than it was, beyond its tolerance.
        ConversionError: it cannot be loaded.
        MissingExtraError: what runs it is not installed.
    """
    found, tolerances = compare_file(path, manifest, reference), manifest.parity.tolerances
    wanted = recorded.snr_db - _DRIFT_DB
    if tolerances and not manifest.quantization:
        wanted = min(wanted, tolerances.min_snr_db)
    if not found.snr_db >= wanted:
        raise ParityError(
            f"no longer computes what the model computes: {found.snr_db:.1f} dB on the photographs, expected at least "
            f"{wanted:.1f} dB"
        )
    return found
