"""A search space that takes no time, with every kind of candidate that mixing treats apart."""

import torch
from torch import Tensor

from fbnet_zoo.search.supernet import Supernet
from fbnet_zoo.space import Space
from fbnet_zoo.space.files import parse

NANO = """\
name: nano
family: fbnet
summary: A space for tests of the search.
input_size: 16
defaults: {op: ir, act: relu}
candidates:
  k3_e2: {k: 3, e: 2}
  k3_e1_g2: {k: 3, e: 1, g: 2}
  k5_e2_se: {k: 5, e: 2, se: 0.25}
  fused: {op: fused_ir, k: 3, e: 1}
  skip: {op: skip}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {c: 8, candidates: [k3_e2, k3_e1_g2, skip]}
  4:
    - {c: 12, s: 2, candidates: [k3_e2, fused, skip]}
    - {c: 12, candidates: [k5_e2_se, skip]}
head: {op: conv, k: 1, c: 16}
"""
POINTS = [(a, b, c) for a in range(3) for b in range(3) for c in range(2)]


def nano_space() -> Space:
    return parse(NANO, "nano.yaml")


def nano_supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(nano_space(), num_classes=4)


def random_masks(supernet: Supernet, seed: int = 0, images: int | None = None) -> list[Tensor]:
    """Weights that add up to 1, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (theta.shape if images is None else (images, *theta.shape) for theta in supernet.theta)
    return [torch.randn(shape, generator=generator).softmax(-1).requires_grad_() for shape in shapes]
