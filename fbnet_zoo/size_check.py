"""An error of ours for images that are too small for a network, instead of one from inside a convolution."""

import torch
from torch import Tensor, nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]

from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import NetworkPlan, smallest_size


class SizeCheck(nn.Module):
    """Images as they are; those that are too small are refused.

    Args:
        name: name of the network.
        smallest: smallest side of an image, px.
    """

    def __init__(self, name: str, smallest: int) -> None:
        super().__init__()
        self.name, self.smallest = name, smallest

    def forward(self, x: Tensor) -> Tensor:
        return require_size(x, self.name, self.smallest)


def size_check(name: str, plan: NetworkPlan) -> nn.Module:
    """Return the check of images for a network; the identity if none is too small."""
    smallest = smallest_size(plan)
    return SizeCheck(name, smallest) if smallest > 1 else nn.Identity()


def require_size(x: Tensor, name: str, smallest: int) -> Tensor:
    """Return images `(N, C, H, W)` as they are.

    A traced or scripted network does not check.

    Raises:
        InputError: the height or the width is less than `smallest`.
    """
    if not is_scripting() and not is_tracing():
        height, width = x.shape[-2:]
        if height < smallest or width < smallest:
            raise InputError(
                f"an image of {width} x {height} px is too small for {name}; expected at least {smallest} px on "
                "each side"
            )
    return x


torch.fx.wrap("require_size")  # one node for symbolic tracing, which cannot compare sizes
