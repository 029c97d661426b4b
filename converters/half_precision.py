"""What half precision itself keeps of a network: the limit of an fp16 file of a network that rounding hits hard.

The loss of 16-bit arithmetic depends on the network and its weights: in a deep one, or where large values cancel, it
exceeds the default tolerance although the file is right. PyTorch's own fp16 run of the same network on the same images
shows the loss that no converter can avoid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from fbnet_zoo.converters.cases import Case
from fbnet_zoo.converters.parity import FLAT_LENIENCY_DB, ParityReport, Runner, Tolerances, check, joined, tensors
from fbnet_zoo.converters.program import deploy_form
from fbnet_zoo.networks import Network

MARGIN_DB = 6.0
"""How far below PyTorch's fp16 a file may be, dB: runtimes round in other places, which at most doubles the noise."""

LOWEST_DB = 20.0
"""Lowest limit, dB, however little fp16 keeps: beyond, noise exceeds a tenth of the logits."""


@dataclass(frozen=True, slots=True, eq=False)
class HalfRunner(Runner):
    """A network in PyTorch's own half precision."""

    network: Network
    runtime: str = "PyTorch fp16"

    @classmethod
    def of(cls, model: Network) -> Self:
        """Return the runner of a float32 model; the model is not modified."""
        return cls(deploy_form(model).half())

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        outputs = tensors(self.network(torch.from_numpy(images).half()))
        return joined([value.float().numpy() for value in outputs])


def kept_db(half: ParityReport) -> float:
    """Return what fp16 keeps, dB: the highest limit that all cases of its report satisfy."""
    return min(case.snr_db + FLAT_LENIENCY_DB * case.flat for case in half.cases)


def attainable(model: Network, cases: Sequence[Case], tolerances: Tolerances) -> tuple[Tolerances, float]:
    """Return tolerances that PyTorch's own fp16 satisfies with a margin, never tighter than given; and what it keeps.

    The limit of the signal-to-noise ratio is `MARGIN_DB` below PyTorch's, but at least `LOWEST_DB`. That of the largest
    error grows in proportion to the noise.

    Args:
        model: the original float32 model.
        cases: batches that the model accepts.
        tolerances: default tolerances of fp16.
    """
    kept = kept_db(check(model, HalfRunner.of(model), cases, tolerances))
    limit_db = round(min(tolerances.min_snr_db, max(kept - MARGIN_DB, LOWEST_DB)), 1)
    growth = 10 ** ((tolerances.min_snr_db - limit_db) / 20)
    return replace(tolerances, min_snr_db=limit_db, max_error=float(f"{tolerances.max_error * growth:.2g}")), kept
