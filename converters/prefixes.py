"""Find the first part that a format computes differently, for runtimes that expose no intermediate tensors."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fbnet_zoo.converters.parity import Runner, snr_db
from fbnet_zoo.networks import Network

Lower = Callable[[nn.Module, int], Runner]
"""Converts a network with the given number of outputs, and loads the result."""


class Prefix(nn.Module):
    """The first parts of a network, with flattened output: `(N, C, S, S)` to `(N, values)`."""

    def __init__(self, parts: Sequence[nn.Module], values: int) -> None:
        super().__init__()
        self.parts, self.values = nn.Sequential(*parts), values

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x).reshape(-1, self.values)


def first_divergent_part(network: Network, lower: Lower, images: np.ndarray, min_snr_db: float) -> str | None:
    """Return the name of the first part whose output the converted network gets wrong; `None` if there is none.

    Prefixes of the network are converted in a binary search over its parts: about five conversions.

    Args:
        network: the deploy form, in float32.
        lower: the conversion.
        images: a batch that the file accepts.
        min_snr_db: minimum signal-to-noise ratio of a part's output, dB.
    """
    named = _parts(network)
    good, bad = 0, len(named) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        snr = _snr_of_prefix([part for _, part in named[:middle]], lower, images)
        good, bad = (middle, bad) if snr >= min_snr_db else (good, middle)
    return named[good][0] if good < len(named) else None


def _parts(network: Network) -> list[tuple[str, nn.Module]]:
    blocks = (f"stages.{stage}.{name}" for stage, parts in network.stages.items() for name, _ in parts.named_children())
    names = ("stem", *blocks, *(name for name in ("head", "pool", "flatten", "classifier") if hasattr(network, name)))
    modules = ((name, network.get_submodule(name)) for name in names)
    return [(name, module) for name, module in modules if not isinstance(module, nn.Identity)]


@torch.no_grad()
def _snr_of_prefix(parts: Sequence[nn.Module], lower: Lower, images: np.ndarray) -> float:
    expected = nn.Sequential(*parts)(torch.from_numpy(images)).flatten(1)  # (N, values)
    values = expected.shape[1]
    runner = lower(copy.deepcopy(Prefix(parts, values)), values)
    return snr_db(expected, runner(images))
