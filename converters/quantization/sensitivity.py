"""Sensitivity of layers to 8-bit rounding, found by simulation before conversion."""

import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from torch import nn

from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.quantization.calibration import PreparedImages
from fbnet_zoo.converters.quantization.simulation import RoundedNetwork
from fbnet_zoo.errors import UnknownNameError, did_you_mean

MIN_SQNR_DB = 20.0
"""Minimum SQNR of the simulated logits in `choose`, dB: noise of a tenth of their size."""

_RANKED_ON, _OBSERVED, _JUDGED = 4, 24, 24
"""Number of images for ranking, for ranges and for evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Effect of one layer in 8 bits.

    Attributes:
        name: name of the layer's module.
        sqnr_db: signal-to-quantization-noise ratio of the logits if only this layer is in 8 bits, dB.
    """

    name: str
    sqnr_db: float


def resolve(network: nn.Module, patterns: Iterable[str]) -> frozenset[str]:
    """Return the modules that match names such as `stages.16.0` and patterns such as `*.se`.

    Submodules of a matching module are omitted, since the module includes them.

    Args:
        network: a network in the deploy form.
        patterns: names and patterns.

    Raises:
        UnknownNameError: a name or pattern matches no module.
    """
    names = [name for name, module in network.named_modules() if name and not isinstance(module, nn.Identity)]
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            hint = did_you_mean(pattern, names) or "; expected a module such as stages.16.0, or a pattern such as *.se"
            raise UnknownNameError(f"the network has no layer {pattern!r}{hint}")
        chosen.update(found)
    return frozenset(name for name in chosen if not _is_below(name, chosen))


def _is_below(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def rank(network: nn.Module, samples: PreparedImages) -> list[Sensitivity]:
    """Return the layers, the most sensitive first.

    Args:
        network: a network in the deploy form; not modified.
        samples: calibration images: 24 for the ranges, four for the logits.
    """
    return _rank(RoundedNetwork(network, samples.images[:_OBSERVED]), samples.images[:_RANKED_ON])


def choose(network: nn.Module, samples: PreparedImages, *, min_top1_agreement: float) -> frozenset[str]:
    """Return the layers to keep in a higher precision, as few as needed to preserve the predictions.

    These are the most sensitive layers; a binary search finds their number.

    Args:
        network: a network in the deploy form; not modified.
        samples: calibration images: 24 for the ranges, the last 24 for the logits.
        min_top1_agreement: minimum share of images with the same top-1 class, in addition to `MIN_SQNR_DB`.
    """
    rounded = RoundedNetwork(network, samples.images[:_OBSERVED])
    order = [each.name for each in _rank(rounded, samples.images[:_RANKED_ON])]
    images = samples.images[-_JUDGED:]
    expected = rounded(images, ())
    fewest, enough = 0, len(order)
    while fewest < enough:
        middle = (fewest + enough) // 2
        if _preserves_predictions(expected, rounded(images, order[middle:]), min_top1_agreement):
            enough = middle
        else:
            fewest = middle + 1
    return frozenset(order[:enough])


def _rank(rounded: RoundedNetwork, images: np.ndarray) -> list[Sensitivity]:
    expected = rounded(images, ())
    found = [Sensitivity(name=name, sqnr_db=snr_db(expected, rounded(images, [name]))) for name in rounded.layers]
    return sorted(found, key=lambda each: each.sqnr_db)


def _preserves_predictions(expected: np.ndarray, got: np.ndarray, min_top1_agreement: float) -> bool:
    agreement = (expected.argmax(1) == got.argmax(1)).mean()
    return snr_db(expected, got) >= MIN_SQNR_DB and bool(agreement >= min_top1_agreement)
