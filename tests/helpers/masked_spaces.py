"""Small search spaces with ranges, with everything that masks treat apart."""

from itertools import product

import torch
from torch import Tensor

from fbnet_zoo.search.dmasking.supernet import MaskedSupernet
from fbnet_zoo.space import Space, load_space
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse

NANO = """\
name: nano_masked
family: fbnetv2
summary: Middle channels that round to the input's (6 to 8), fused blocks, skips at equal and at other channels.
input_size: [11, 16]
zero_init_residual: true
defaults: {op: ir, act: relu, divisor: 4, se_gate: hard_sigmoid}
candidates:
  k3: {k: 3}
  k3_se_hs: {k: 3, se: 0.25, act: hard_swish}
  fused: {op: fused_ir, k: 3}
  skip: {op: skip}
stem: {op: conv, k: 3, c: [4, 8], s: 2, act: hard_swish, bias: true}
stages:
  2:
    - {e: [0.75, 1.5], c: [4, 8], candidates: [k3, skip]}
  4:
    - {e: [0.75, 2], c: [8, 12], s: 2, candidates: [k3_se_hs, fused, skip]}
    - {op: ir, k: [3, 5], e: [0.75, 1.5], c: [8, 12], se: 0.5, se_of: input}
head: {op: ir_pool, e: 2, c: [12, 16], act: hard_swish, se: 0.25}
"""

PLAIN = """\
name: plain_masked
family: fbnetv2
summary: One image size; groups where nothing else is open, convolutions, linear and repeated depthwise, a plain head.
input_size: 12
classifier: conv
defaults: {op: ir, act: relu}
candidates:
  k3_g2: {k: 3, e: 2, g: 2}
  kept: {k: 3, e: 1, keep_expand: true}
  linear: {k: 5, e: 3, linear_depthwise: true}
  twice: {k: 3, e: 2, dw: 2}
  direct: {op: fused_ir, k: 3, e: 1}
  conv: {op: conv, k: 3}
  skip: {op: skip}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2:
    - {c: 8, candidates: [k3_g2, skip]}
    - {c: [6, 8, 10], candidates: [kept, linear, twice, skip]}
  4:
    - {c: [8, 10], s: 2, candidates: [direct, conv]}
    - {c: 8, candidates: [direct, skip]}
head: {op: conv, k: 1, c: [12, 16]}
"""

SMALL = """\
name: small_masked
family: fbnetv2
summary: Few enough networks to count each.
input_size: [8, 12]
defaults: {op: ir, act: relu, divisor: 4}
candidates:
  k3: {k: 3}
  k5_se: {k: 5, se: 0.25}
  skip: {op: skip}
stem: {op: conv, k: 3, c: [4, 8], s: 2}
stages:
  2:
    - {e: [0.75, 2], c: [4, 8], candidates: [k3, skip]}
    - {e: 1, c: [4, 8], candidates: [k5_se, skip]}
head: {op: ir_pool, e: 2, c: [8, 12]}
"""


def masked_space(name: str) -> Space:
    text = {"nano": NANO, "plain": PLAIN, "small": SMALL}.get(name)
    return load_space(name) if text is None else parse(text, f"{name}.yaml")


def masked_supernet(name: str = "nano", *, seed: int = 0, classes: int = 4) -> MaskedSupernet:
    """A supernet whose values, statistics and affine batch norms included, are all random."""
    torch.manual_seed(seed)
    supernet = MaskedSupernet(masked_space(name), num_classes=classes)
    with torch.no_grad():
        for key, value in supernet.state_dict().items():
            if key.endswith(("running_var", "bn.weight")):
                value.uniform_(0.5, 1.5)
            elif key.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
    return supernet


def masked_images(supernet: MaskedSupernet, count: int = 6) -> Tensor:
    size = supernet.encoding.input_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def every_position(encoding: Encoding) -> list[Positions]:
    return list(product(*map(range, encoding.counts)))
