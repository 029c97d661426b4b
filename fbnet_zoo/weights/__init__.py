"""Weights of networks: loaded from files, caches and the Hub, saved, or drawn from a seed."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.weights.checkpoints import Checkpoint
    from fbnet_zoo.weights.layouts import LAYOUTS
    from fbnet_zoo.weights.loading import RANDOM, fill, load, randomize, read, save

__all__ = [
    "LAYOUTS",
    "RANDOM",
    "Checkpoint",
    "fill",
    "load",
    "randomize",
    "read",
    "save",
]

__getattr__, __dir__ = public_names(
    __name__,
    checkpoints=("Checkpoint",),
    layouts=("LAYOUTS",),
    loading=(
        "RANDOM",
        "fill",
        "load",
        "randomize",
        "read",
        "save",
    ),
)
