"""Evaluation of a quantized file: how much it differs from the network, and whether it may be kept."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import nn

from fbnet_zoo.converters.artifact import PRECISION_SUMMARIES, ConvertOptions, Written
from fbnet_zoo.converters.manifest import LayerSqnr, QuantizationRecord
from fbnet_zoo.converters.parity import Runner, logits, snr_db
from fbnet_zoo.converters.program import Program, Quantization
from fbnet_zoo.converters.quantization.calibration import PreparedImages
from fbnet_zoo.converters.quantization.layer_sqnr import layer_sqnr
from fbnet_zoo.converters.quantization.preparation import is_random
from fbnet_zoo.errors import ParityError

_OF_WEIGHTS = frozenset({"w8a16", "palette6", "palette4"})
"""Precisions that need no activation ranges."""

_KERNELS_DB, _ENOUGH_DB = 6.0, 20.0
_TRACED = 4
"""Number of batches for the errors of layers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedFile:
    """A quantized file, loaded into a runtime, and what it is compared with.

    Attributes:
        name: file name.
        runner: the file, loaded into a runtime.
        reference: the network, in float32.
        program: the program that was written.
        quantization: how the program was quantized.
        written: what the writer returned.
    """

    name: str
    runner: Runner
    reference: nn.Module
    program: Program
    quantization: Quantization
    written: Written


def judge(file: QuantizedFile, options: ConvertOptions) -> QuantizationRecord:
    """Compare a quantized file with the network on the evaluation images.

    Args:
        file: the file.
        options: `precision`, `min_top1_agreement` and `allow_degraded` are used.

    Returns:
        The record. It is `degraded` only if that is allowed or the weights are random; a warning is then logged.

    Raises:
        ParityError: the file agrees with the network on too few images, or does not match its simulation.
    """
    images = file.quantization.calibration.evaluate
    expected = _logits(lambda batch: logits(file.reference, batch), images, file.program.batch)
    got = _logits(file.runner, images, file.program.batch)
    if file.written.simulation is not None:
        _check_arithmetic(file.name, expected, _logits(file.written.simulation, images, file.program.batch), got)
    record = _record(file, options, expected, got)
    if record.degraded:
        _report_degraded(file, record, allowed=options.allow_degraded)
    return record


def _logits(network: Callable[[np.ndarray], np.ndarray], images: PreparedImages, batch: int) -> np.ndarray:
    return np.concatenate([network(each) for each in images.batches(batch)])[: len(images.images)]


def _check_arithmetic(name: str, expected: np.ndarray, simulated: np.ndarray, got: np.ndarray) -> None:
    """Reject a file that differs from its simulation by more than kernels with other rounding can explain.

    The error of such kernels is bounded by twice the error of the simulation itself, which includes all rounding.
    """
    wanted = min(snr_db(expected, simulated) - _KERNELS_DB, _ENOUGH_DB)
    found = snr_db(simulated, got)
    if not found >= wanted:
        raise ParityError(
            f"{name} does not compute what its quantized operators define: it matches a floating-point simulation to "
            f"{found:.1f} dB, expected at least {wanted:.1f} dB"
        )


def _record(file: QuantizedFile, options: ConvertOptions, expected: np.ndarray, got: np.ndarray) -> QuantizationRecord:
    images = file.quantization.calibration
    agreement = float((expected.argmax(1) == got.argmax(1)).mean())
    threshold = options.tolerances.min_top1_agreement
    needs_ranges = options.precision not in _OF_WEIGHTS
    layers, source = _layers(file)
    return QuantizationRecord(
        scheme=file.written.scheme or PRECISION_SUMMARIES[options.precision],
        calibration=images.calibrate.source if needs_ranges else "none needed",
        images=len(images.calibrate.images) if needs_ranges else 0,
        kept=tuple(sorted(file.quantization.kept)),
        layers=layers,
        layers_from=source,
        evaluated=len(expected),
        sqnr_db=snr_db(expected, got),
        top1_agreement=agreement,
        threshold=threshold,
        fp32_top1=_top1(expected, images.evaluate),
        top1=_top1(got, images.evaluate),
        degraded=agreement < threshold,
    )


def _top1(scores: np.ndarray, images: PreparedImages) -> float | None:
    return None if images.classes is None else 100 * float((scores.argmax(1) == images.classes).mean())


def _report_degraded(file: QuantizedFile, record: QuantizationRecord, *, allowed: bool) -> None:
    worst = sorted(record.layers, key=lambda layer: layer.sqnr_db)[:3]
    message = (
        f"{file.name} has the same top-1 class as the network for {record.top1_agreement:.0%} of {record.evaluated} "
        f"images, expected at least {record.threshold:.0%} (logits {record.sqnr_db:.1f} dB"
        + "".join(f", {layer.name} {layer.sqnr_db:.1f} dB" for layer in worst)
        + ")"
    )
    if is_random(file.program):
        log.warning("%s; the weights are random, so this is not significant", message)
    elif allowed:
        log.warning("%s", message)
    else:
        raise ParityError(
            f"{message}; keep sensitive layers with precision mixed, calibrate on images like yours (calibration), or "
            f"accept it with allow_degraded (--allow-degraded)"
        )


def _layers(file: QuantizedFile) -> tuple[tuple[LayerSqnr, ...], str | None]:
    """Return the errors of the layers, and the runtime that computed them: the file's own if it exposes them."""
    batches = list(islice(file.quantization.calibration.evaluate.batches(file.program.batch), _TRACED))
    for source in (file.runner, file.written.simulation):
        if source and (layers := layer_sqnr(file.program, source, batches)):
            return tuple(layers), source.runtime
    return (), None
