"""Masks of the supernet's layers: samples of the Gumbel-softmax (Jang et al., arXiv:1611.01144).

m_i = exp((theta_i + g_i) / tau) / sum_j exp((theta_j + g_j) / tau), with g_i from Gumbel(0, 1), as in
FBNet (Wu et al., arXiv:1812.03443). One draw is used for the output and for the cost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def gumbel_noise(
    theta: Sequence[Tensor], generator: torch.Generator, *, images: int | None = None
) -> tuple[Tensor, ...]:
    """Return Gumbel(0, 1) noise for each candidate of each layer.

    Args:
        theta: theta of each layer, (candidates,).
        generator: generator on the CPU, so that every device gets the same draw.
        images: number of images with a draw each, (images, candidates) (default: one draw for the batch).
    """
    return tuple(_noise(each, generator, images) for each in theta)


def draw_masks(theta: Sequence[Tensor], noise: Sequence[Tensor], temperature: float) -> tuple[Tensor, ...]:
    """Return the mask of each layer: candidate weights that add up to 1, in the shape of the noise.

    Args:
        theta: theta of each layer, (candidates,).
        noise: noise of each layer, (candidates,) or (images, candidates).
        temperature: tau; the lower, the closer to one-hot.
    """
    return tuple(((each + drawn) / temperature).softmax(-1) for each, drawn in zip(theta, noise, strict=True))


def _noise(theta: Tensor, generator: torch.Generator, images: int | None) -> Tensor:
    shape = theta.shape if images is None else (images, *theta.shape)
    exponential = torch.empty(shape, dtype=theta.dtype).exponential_(generator=generator)
    return -exponential.log().to(theta.device)
