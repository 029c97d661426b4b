"""Smaller images on the grid of the largest: nearest-neighbor sub-sampling, and placing back.

The resolution search of FBNetV2 (Wan et al., arXiv:2004.05565, section 3.2): a layer reads its input at the smaller
size, runs at that size, so its kernels see the same pixels as in the smaller network, and its output is placed back on
the grid, so that outputs of several sizes can be added. Pixel i of n is read at floor(i N / n) of the grid's N, and
placed at the pixels from there up to that of i + 1: reading is the exact inverse of placing, for any ratio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedRun:
    """One size at which a layer runs.

    Attributes:
        before: side of the layer's input, px.
        after: side of the layer's output, px.
        weight: weight of this size, (1,) or (N, 1).
    """

    before: int
    after: int
    weight: Tensor


def at_sizes(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, sizes: Sequence[SizedRun], *, placed: bool) -> Tensor:
    """Return the sum of a layer's outputs over sizes, on the grid of the largest.

    Args:
        run: the layer, called with its input and the weight of its output.
        x: feature maps (N, C, H, W), with H = W if there are several sizes.
        sizes: sizes to run at, the largest last; a single one is the size of `x`.
        placed: whether to place outputs on the grid; not needed for pooled outputs.
    """
    if len(sizes) == 1:
        return run(x, sizes[0].weight)
    outputs = [run(read(x, size.before), size.weight) for size in sizes]
    return torch.stack([place(y, sizes[-1].after) for y in outputs]).sum(0) if placed else torch.stack(outputs).sum(0)


def read(x: Tensor, size: int) -> Tensor:
    """Return images (N, C, H, H) sub-sampled to `size` px, at most H.

    >>> read(torch.arange(7.0).expand(1, 1, 7, 7), 5)[0, 0, 0]
    tensor([0., 1., 2., 4., 5.])
    """
    return x if size == x.shape[-1] else _taken(x, _read_at(x.shape[-1], size, x.device))


def place(x: Tensor, size: int) -> Tensor:
    """Return images (N, C, h, h) placed on a grid of `size` px, at least h.

    >>> place(torch.arange(5.0).expand(1, 1, 5, 5), 7)[0, 0, 0]
    tensor([0., 1., 2., 2., 3., 4., 4.])
    """
    return x if size == x.shape[-1] else _taken(x, _placed_from(size, x.shape[-1], x.device))


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """Return rows and columns of images, in the channels-last layout that a search uses."""
    return x.permute(0, 2, 3, 1).index_select(1, index).index_select(2, index).permute(0, 3, 1, 2)


@lru_cache(maxsize=1024)
def _read_at(grid: int, size: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # cached indices are used in training, too
        return torch.arange(size, device=device) * grid // size


@lru_cache(maxsize=1024)
def _placed_from(grid: int, size: int, device: torch.device) -> Tensor:
    """Return, for each pixel of the grid, the last i with floor(i grid / size) at or before it."""
    with torch.inference_mode(False):
        return ((torch.arange(grid, device=device) + 1) * size - 1) // grid
