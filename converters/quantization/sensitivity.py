"""Which layers suffer from 8 bits, found by simulation before anything is converted."""

import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from torch import nn

from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.quantization.calibration import Samples
from fbnet_zoo.converters.quantization.simulation import RoundedNetwork
from fbnet_zoo.errors import UnknownNameError, did_you_mean

MIN_SQNR_DB = 20.0
"""What `choose` asks of the simulated logits, dB: noise of a tenth of their size."""

_RANKED_ON, _OBSERVED, _JUDGED = 4, 24, 24
"""Images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What a layer costs.

    Attributes:
        name: of its module.
        sqnr_db: of the logits, dB, when this layer alone is in 8 bits.
    """

    name: str
    sqnr_db: float


def resolve(network: nn.Module, patterns: Iterable[str]) -> frozenset[str]:
    """Return the modules that are meant by names such as `stages.16.0` and patterns such as `*.se`.

    A module stands for all below it, which are left out.

    Args:
        network: in the deploy form.
        patterns: what the user named.

    Raises:
        UnknownNameError: a name fits no module.
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


def rank(network: nn.Module, samples: Samples) -> list[Sensitivity]:
    """Return the layers, the most sensitive first.

    Args:
        network: in the deploy form; it is not changed.
        samples: 24 of them give the ranges, four of them the logits.
    """
    return _rank(RoundedNetwork(network, samples.images[:_OBSERVED]), samples.images[:_RANKED_ON])


def choose(network: nn.Module, samples: Samples, *, min_top1_agreement: float) -> frozenset[str]:
    """Return as few layers as it takes, kept as they are, for the others in 8 bits to leave the answers alone.

    They are the most sensitive ones; how many, is found by halving.

    Args:
        network: in the deploy form; it is not changed.
        samples: 24 of them give the ranges, the last 24 the logits.
        min_top1_agreement: smallest share of them whose best class stays, beside `MIN_SQNR_DB` of the logits.
    """
    rounded = RoundedNetwork(network, samples.images[:_OBSERVED])
    order = [each.name for each in _rank(rounded, samples.images[:_RANKED_ON])]
    images = samples.images[-_JUDGED:]
    expected = rounded(images, ())
    fewest, enough = 0, len(order)
    while fewest < enough:
        middle = (fewest + enough) // 2
        if _is_faithful(expected, rounded(images, order[middle:]), min_top1_agreement):
            enough = middle
        else:
            fewest = middle + 1
    return frozenset(order[:enough])


def _rank(rounded: RoundedNetwork, images: np.ndarray) -> list[Sensitivity]:
    expected = rounded(images, ())
    found = [Sensitivity(name=name, sqnr_db=snr_db(expected, rounded(images, [name]))) for name in rounded.layers]
    return sorted(found, key=lambda each: each.sqnr_db)


def _is_faithful(expected: np.ndarray, got: np.ndarray, min_top1_agreement: float) -> bool:
    agreement = (expected.argmax(1) == got.argmax(1)).mean()
    return snr_db(expected, got) >= MIN_SQNR_DB and bool(agreement >= min_top1_agreement)
