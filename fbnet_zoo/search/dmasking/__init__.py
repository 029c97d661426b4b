"""FBNetV2's method: a supernet with masks over channels, expansions and image sizes."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.search.dmasking.cost import MaskedCost
    from fbnet_zoo.search.dmasking.supernet import MaskedSupernet

__all__ = [
    "MaskedCost",
    "MaskedSupernet",
]

__getattr__, __dir__ = public_names(
    __name__,
    cost=("MaskedCost",),
    supernet=("MaskedSupernet",),
)
