"""What quantization did to the answers of a network, and whether a file may be kept."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fbnet_zoo.converters.artifact import SUMMARIES, ConvertOptions
from fbnet_zoo.converters.manifest import LayerSqnr, QuantizationRecord
from fbnet_zoo.converters.parity import Runner, logits, snr_db
from fbnet_zoo.converters.program import Program, Quantization
from fbnet_zoo.converters.quantization.calibration import Samples
from fbnet_zoo.converters.quantization.layer_sqnr import layer_sqnr
from fbnet_zoo.converters.quantization.preparation import is_random
from fbnet_zoo.errors import ParityError
from fbnet_zoo.model import FBNet

_OF_WEIGHTS = frozenset({"w8a16", "palette6", "palette4"})
"""Precisions that need no ranges of activations."""

_KERNELS_DB, _ENOUGH_DB = 6.0, 20.0
_TRACED = 4
"""Batches that the figures of layers are taken from."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedFile:
    """A quantized file, loaded, and what it is compared with.

    Attributes:
        name: of the file.
        runner: the file.
        reference: the network, in float32.
        program: that the file was made of.
        quantization: how.
        scheme: what the writer says of it.
        simulation: computes in float32 what the file shall compute, where the writer has such a thing.
    """

    name: str
    runner: Runner
    reference: FBNet
    program: Program
    quantization: Quantization
    scheme: str | None = None
    simulation: Runner | None = None


def judge(file: QuantizedFile, options: ConvertOptions) -> QuantizationRecord:
    """Compare a quantized file with the network on the images that judge it.

    Args:
        file: the file.
        options: `precision`, `min_top1_agreement` and `allow_degraded` are read.

    Returns:
        The record, `degraded` only if that was allowed, or if the weights are random: then a warning is logged.

    Raises:
        ParityError: the file has lost too many of the network's answers, or is not what it was made to be.
    """
    samples = file.quantization.calibration.evaluate
    expected = _answers(lambda batch: logits(file.reference, batch), samples, file.program.batch)
    got = _answers(file.runner, samples, file.program.batch)
    if file.simulation is not None:
        _check_arithmetic(file.name, expected, _answers(file.simulation, samples, file.program.batch), got)
    record = _record(file, options, expected, got)
    if record.degraded:
        _tell(file, record, allowed=options.allow_degraded)
    return record


def _answers(network: Callable[[np.ndarray], np.ndarray], samples: Samples, batch: int) -> np.ndarray:
    return np.concatenate([network(images) for images in samples.batches(batch)])[: len(samples.images)]


def _check_arithmetic(name: str, expected: np.ndarray, simulated: np.ndarray, got: np.ndarray) -> None:
    """Refuse a file that is further from its simulation than kernels that round differently can bring it.

    What they do is a part of what rounding does to the network as a whole, so that measures it; times two.
    """
    wanted = min(snr_db(expected, simulated) - _KERNELS_DB, _ENOUGH_DB)
    found = snr_db(simulated, got)
    if not found >= wanted:
        raise ParityError(
            f"{name} does not compute what its quantized operators stand for: {found:.1f} dB from a simulation in "
            f"floating point, expected at least {wanted:.1f} dB"
        )


def _record(file: QuantizedFile, options: ConvertOptions, expected: np.ndarray, got: np.ndarray) -> QuantizationRecord:
    samples = file.quantization.calibration
    agreement = float((expected.argmax(1) == got.argmax(1)).mean())
    threshold = options.tolerances.min_top1_agreement
    needs_ranges = options.precision not in _OF_WEIGHTS
    figures, source = _layers(file)
    return QuantizationRecord(
        scheme=file.scheme or SUMMARIES[options.precision],
        calibration=samples.calibrate.source if needs_ranges else "none needed",
        images=len(samples.calibrate.images) if needs_ranges else 0,
        kept=tuple(sorted(file.quantization.kept)),
        layers=figures,
        layers_from=source,
        evaluated=len(expected),
        sqnr_db=snr_db(expected, got),
        top1_agreement=agreement,
        threshold=threshold,
        fp32_top1=_accuracy(expected, samples.evaluate),
        top1=_accuracy(got, samples.evaluate),
        degraded=agreement < threshold,
    )


def _accuracy(answers: np.ndarray, samples: Samples) -> float | None:
    return None if samples.classes is None else 100 * float((answers.argmax(1) == samples.classes).mean())


def _tell(file: QuantizedFile, record: QuantizationRecord, *, allowed: bool) -> None:
    worst = sorted(record.layers, key=lambda layer: layer.sqnr_db)[:3]
    lost = (
        f"{file.name} keeps the best class of {record.top1_agreement:.0%} of {record.evaluated} images, expected at "
        f"least {record.threshold:.0%} (logits {record.sqnr_db:.1f} dB"
        + "".join(f", {layer.name} {layer.sqnr_db:.1f} dB" for layer in worst)
        + ")"
    )
    if is_random(file.program):
        log.warning("%s; its weights are random, so that this means little", lost)
    elif allowed:
        log.warning("%s", lost)
    else:
        raise ParityError(
            f"{lost}; keep sensitive layers with precision mixed, calibrate on images like yours (calibration), or "
            f"accept it with allow_degraded (--allow-degraded)"
        )


def _layers(file: QuantizedFile) -> tuple[tuple[LayerSqnr, ...], str | None]:
    """Return the figures of the layers, and what computed them: the file if its runtime shows them."""
    batches = list(islice(file.quantization.calibration.evaluate.batches(file.program.batch), _TRACED))
    for source in (file.runner, file.simulation):
        if source and (figures := layer_sqnr(file.program, source, batches)):
            return tuple(figures), source.runtime
    return (), None
