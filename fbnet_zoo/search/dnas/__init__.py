"""FBNet's method: a stochastic supernet with all candidate blocks of every layer."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.search.dnas.cost import CandidateCost
    from fbnet_zoo.search.dnas.supernet import Supernet

__all__ = [
    "CandidateCost",
    "Supernet",
]

__getattr__, __dir__ = public_names(
    __name__,
    cost=("CandidateCost",),
    supernet=("Supernet",),
)
