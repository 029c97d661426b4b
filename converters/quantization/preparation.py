"""Choice of the calibration images, and of the layers that stay in a higher precision."""

import logging

from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.program import Program, Quantization
from fbnet_zoo.converters.quantization import calibration, sensitivity
from fbnet_zoo.weights.loading import RANDOM

log = logging.getLogger(__name__)


def quantization(program: Program, options: ConvertOptions) -> Quantization:
    """Return how to quantize a program.

    Args:
        program: the float32 program.
        options: `calibration`, `precision`, `keep` and `min_top1_agreement` are used.

    Raises:
        InputError: the calibration images do not exist or do not fit the network.
        UnknownNameError: a layer to keep does not exist.
        MissingExtraError: the images need scikit-learn, which is not installed.
    """
    images = calibration.load(
        options.calibration,
        program.preprocess,
        program.in_channels,
        num_classes=program.num_classes,
        labels=program.labels,
        class_names=program.class_names,
    )
    network = program.module.get_submodule("network")
    if options.precision != "mixed":
        return Quantization(calibration=images)
    if options.keep:
        return Quantization(calibration=images, kept=sensitivity.resolve(network, options.keep))
    # With random weights, the top-1 class of a thousand changes with the slightest noise.
    agreement = 0.0 if is_random(program) else options.tolerances.min_top1_agreement
    kept = sensitivity.choose(network, images.calibrate, min_top1_agreement=agreement)
    log.info("%s: %d layers stay in a higher precision: %s", program.spec.name, len(kept), ", ".join(sorted(kept)))
    return Quantization(calibration=images, kept=kept)


def is_random(program: Program) -> bool:
    """Return whether the weights are random, so that the predictions are meaningless."""
    return (program.weights or "").startswith(RANDOM)
