"""Smaller images inside the grid of the largest: nearest-neighbour sub-sampling, and placing back.

The resolution search of FBNetV2 (Wan et al., arXiv:2004.05565, section 3.2): a layer reads its input at the smaller
size, runs at that size, where its kernels see what they would see in the smaller network, and its output is placed back
on the grid, so that outputs of several sizes can be added up. Pixel i of n is read at floor(i N / n) of the grid's N,
and placed at the pixels from there to that of i + 1: reading what was placed gives it back, whatever the ratio.
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
        before: side of its input, px.
        after: side of its output, px.
        weight: of this size, (1,) or (N, 1).
    """

    before: int
    after: int
    weight: Tensor


def at_sizes(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, sizes: Sequence[SizedRun], *, placed: bool) -> Tensor:
    """Return the sum over sizes of what a layer puts out, on the grid of the largest.

    Args:
        run: the layer: takes its input and the weight that its output gets.
        x: (N, C, H, W), H = W where there are several sizes.
        sizes: the last is the largest; a single one is the size that `x` has.
        placed: whether outputs are placed on the grid; pooled ones need it not.
    """
    if len(sizes) == 1:
        return run(x, sizes[0].weight)
    outputs = [run(read(x, size.before), size.weight) for size in sizes]
    return torch.stack([place(y, sizes[-1].after) for y in outputs]).sum(0) if placed else torch.stack(outputs).sum(0)


def read(x: Tensor, size: int) -> Tensor:
    """Sub-sample images (N, C, H, H) to `size` px, at most H.

    >>> read(torch.arange(7.0).expand(1, 1, 7, 7), 5)[0, 0, 0]
    tensor([0., 1., 2., 4., 5.])
    """
    return x if size == x.shape[-1] else _taken(x, _read_at(x.shape[-1], size, x.device))


def place(x: Tensor, size: int) -> Tensor:
    """Place images (N, C, h, h) on a grid of `size` px, at least h.

    >>> place(torch.arange(5.0).expand(1, 1, 5, 5), 7)[0, 0, 0]
    tensor([0., 1., 2., 2., 3., 4., 4.])
    """
    return x if size == x.shape[-1] else _taken(x, _placed_from(size, x.shape[-1], x.device))


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """Take rows and columns of images, whose channels come out last in memory, as a search has them."""
    return x.permute(0, 2, 3, 1).index_select(1, index).index_select(2, index).permute(0, 3, 1, 2)


@lru_cache(maxsize=1024)
def _read_at(grid: int, size: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept indices are for training too
        return torch.arange(size, device=device) * grid // size


@lru_cache(maxsize=1024)
def _placed_from(grid: int, size: int, device: torch.device) -> Tensor:
    """Return of each pixel of the grid the last i with floor(i grid / size) at or before it."""
    with torch.inference_mode(False):
        return ((torch.arange(grid, device=device) + 1) * size - 1) // grid
