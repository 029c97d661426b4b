"""What the gradient methods share: the loop, theta and its masks, the objective, and networks drawn from P(theta)."""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig, GradientConfig
    from fbnet_zoo.search.gradient.loop import GradientResult, search
    from fbnet_zoo.search.gradient.networks import ExpectedCost, SearchNetwork

__all__ = [
    "DmaskingConfig",
    "DnasConfig",
    "ExpectedCost",
    "GradientConfig",
    "GradientResult",
    "SearchNetwork",
    "search",
]

__getattr__, __dir__ = public_names(
    __name__,
    config=(
        "DmaskingConfig",
        "DnasConfig",
        "GradientConfig",
    ),
    loop=(
        "GradientResult",
        "search",
    ),
    networks=(
        "ExpectedCost",
        "SearchNetwork",
    ),
)
