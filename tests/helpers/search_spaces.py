"""A search space that takes no time, with every kind of candidate that mixing treats apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.space import Space
from fbnet_zoo.space.encoding import Encoding
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
TWINS = """\
name: twins
family: fbnet
summary: A space for tests of the search, whose candidates differ only in size.
input_size: 16
defaults: {op: ir, act: relu, keep_expand: true}
candidates:
  k3_e1: {k: 3, e: 1}
  k3_e1_g2: {k: 3, e: 1, g: 2}
  k3_e3_g4: {k: 3, e: 3, g: 4}
  k5_e1: {k: 5, e: 1}
  k5_e2_g2: {k: 5, e: 2, g: 2}
  skip: {op: skip}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {c: 8}
  4:
    - {c: 12, s: 2}
    - {c: 12}
  8:
    - {c: 16, s: 2}
head: {op: conv, k: 1, c: 16}
"""
POINTS = [(a, b, c) for a in range(3) for b in range(3) for c in range(2)]


def nano_space() -> Space:
    return parse(NANO, "nano.yaml")


def nano_supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(nano_space(), num_classes=4)


def twins_supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    supernet = Supernet(parse(TWINS, "twins.yaml"), num_classes=4)
    for module in supernet.modules():  # no two channels alike, so that none can stand for another
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(value, 0.5, 1.5)
    return supernet


def random_masks(supernet: Supernet, seed: int = 0, images: int | None = None) -> list[Tensor]:
    """Weights that add up to 1, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (theta.shape if images is None else (images, *theta.shape) for theta in supernet.theta)
    return [torch.randn(shape, generator=generator).softmax(-1).requires_grad_() for shape in shapes]


def one_hot(encoding: Encoding, positions: Sequence[int]) -> list[Tensor]:
    """Return masks that are 1 for one option of each decision and 0 for the others."""
    return [torch.eye(count)[position] for count, position in zip(encoding.counts, positions, strict=True)]
