"""What is decided before a file is quantized: the images, and the layers that stay in a higher precision."""

import logging

from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.program import Program, Quantization
from fbnet_zoo.converters.quantization import calibration, sensitivity
from fbnet_zoo.weights.loading import RANDOM

log = logging.getLogger(__name__)


def quantization(program: Program, options: ConvertOptions) -> Quantization:
    """Return how a program shall be quantized.

    Args:
        program: in float32.
        options: `calibration`, `precision`, `keep` and `min_top1_agreement` are read.

    Raises:
        InputError: there are no such images.
        UnknownNameError: a layer that shall be kept does not exist.
        MissingExtraError: scikit-learn is needed for the images, and is not installed.
    """
    images = calibration.load(
        options.calibration,
        program.preprocess,
        program.in_channels,
        num_classes=program.num_classes,
        labels=program.labels,
    )
    network = program.module.get_submodule("network")
    if options.precision != "mixed":
        return Quantization(calibration=images)
    if options.keep:
        return Quantization(calibration=images, kept=sensitivity.resolve(network, options.keep))
    # Among a thousand answers without meaning the best one changes at the slightest noise.
    agreement = 0.0 if is_random(program) else options.tolerances.min_top1_agreement
    kept = sensitivity.choose(network, images.calibrate, min_top1_agreement=agreement)
    log.info("%s: %d layers stay in a higher precision: %s", program.spec.name, len(kept), ", ".join(sorted(kept)))
    return Quantization(calibration=images, kept=kept)


def is_random(program: Program) -> bool:
    """Tell whether a network was drawn from a seed, so that its answers mean nothing."""
    return (program.weights or "").startswith(RANDOM)
