"""Reference images and their logits from the PyTorch model, to check a bundle without the model's weights."""

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

_COLORS = 3

_DRIFT_DB = 3.0
"""Tolerance for a quantized file on another machine, whose kernels round differently, dB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceImages:
    """The sample photographs, resized and cropped, and the model's logits for them.

    Attributes:
        pixels: RGB images, uint8 `(N, S, S, 3)`.
        logits: logits of the float32 model, `(N, classes)`.
    """

    pixels: np.ndarray
    logits: np.ndarray

    @classmethod
    def of(cls, model: FBNet, preprocess: PreprocessSpec) -> Self:
        """Run a model with three input channels, in evaluation mode, on the photographs."""
        plain = preprocess.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3, "order": "rgb"})
        levels = load_batch(photographs(), plain).mul(255).round().to(torch.uint8)  # (N, 3, S, S)
        pixels = np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
        with torch.no_grad():
            logits = model(torch.from_numpy(normalize(pixels, preprocess))).numpy()
        return cls(pixels=pixels, logits=logits)

    def save(self, folder: Path) -> None:
        """Write the images into the folder of a bundle."""
        save_file({"pixels": self.pixels, "logits": self.logits}, folder / NAME)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the images from the folder of a bundle.

        Raises:
            InputError: they cannot be read.
        """
        try:
            found = cls(**load_file(folder / NAME))
        except (OSError, SafetensorError, TypeError) as error:
            raise InputError(f"{folder / NAME}: damaged ({error}); expected pixels and logits") from error
        _check_shapes(folder / NAME, found)
        return found


def _check_shapes(path: Path, reference: ReferenceImages) -> None:
    pixels, logits = reference.pixels, reference.logits
    count, size = pixels.shape[0] if pixels.ndim else 0, pixels.shape[1] if pixels.ndim > 1 else 0
    if not count or not size or pixels.dtype != np.uint8 or pixels.shape != (count, size, size, _COLORS):
        raise InputError(f"{path}: pixels is {pixels.dtype} {pixels.shape}; expected uint8 (N, S, S, {_COLORS})")
    if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != count or not logits.shape[1]:
        raise InputError(f"{path}: logits is {logits.dtype} {logits.shape}; expected float32 ({count}, classes)")
    if not np.isfinite(logits).all():
        raise InputError(f"{path}: logits has NaN or infinite values")


def normalize(pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """Return RGB pixels `(N, S, S, 3)` as the input of a network: float32 `(N, 3, S, S)`."""
    ordered = pixels[..., ::-1] if preprocess.order == "bgr" else pixels
    scaled = ordered.astype(np.float32) / np.float32(255)
    images = (scaled - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def compare_file(path: Path, manifest: Manifest, reference: ReferenceImages) -> CaseResult:
    """Compare a converted file with the model on the reference images.

    Raises:
        InputError: the images have another size or the logits other classes than the file.
        ConversionError: the file cannot be loaded.
        MissingExtraError: its runtime is not installed.
    """
    size, crop = reference.pixels.shape[1], manifest.preprocess.crop
    if size != crop:
        raise InputError(f"{NAME} has images of {size} px, but preprocess.crop of the manifest is {crop}")
    runner = importlib.import_module(TARGETS[manifest.target].module).load(path)
    images = normalize(reference.pixels, manifest.preprocess)
    logits = np.concatenate([runner(image[None]) for image in images])
    if logits.shape != reference.logits.shape:
        raise InputError(f"{NAME} has logits of shape {reference.logits.shape}, but the file gives {logits.shape}")
    tolerances = None if manifest.quantization else manifest.parity.tolerances
    return compare("photographs", reference.logits, logits, tolerances.min_snr_db if tolerances else math.inf)


def check_again(path: Path, manifest: Manifest, reference: ReferenceImages, recorded: CaseResult) -> CaseResult:
    """Check that a file still computes what it did when its bundle was created.

    The limit for 16 and 32 bits is the tolerance of the parity check, and for a quantized file its recorded result.

    Raises:
        ParityError: the file deviates from the model by more than that.
        ConversionError: the file cannot be loaded.
        MissingExtraError: its runtime is not installed.
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
