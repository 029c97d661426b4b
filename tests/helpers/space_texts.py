"""A small search space with something of everything, and ways to walk through a space."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from fbnet_zoo.planner import plan
from fbnet_zoo.plans import BlockPlan, IdentityPlan, NetworkPlan
from fbnet_zoo.space import Choices, Space
from fbnet_zoo.spec import ArchSpec

SMALL = """\
name: small
family: fbnet
summary: A space for tests.
input_size: [32, 48]
defaults: {op: ir, act: relu}
candidates:
  k3: {k: 3}
  k5_g2: {k: 5, g: 2}
  skip: {op: skip}
stem: {op: conv, k: 3, c: [8, 16], s: 2}
stages:
  2:
    - {layers: 2, e: [1, 2.5], c: 16}
  4:
    - {c: {first: 16, last: 32, step: 16}, e: 2, s: 2, candidates: [k3, skip]}
    - {op: ir, k: [3, 5], e: 3, c: 24, r: [2, 3], se: 0.25, rest: {e: [1, 2]}}
head: {op: conv, k: 1, c: 32}
variants:
  wide: {head: {op: conv, k: 1, c: 64}}
recipe:
  optimizer: [sgd, adamw]
  lr: {first: 0.1, last: 0.3, step: 0.1}
"""
SMALL_SIZE = 2 * 2 * (2 + 2 + 1) ** 2 * (2 * 2) * (2 * 2 * 2)
"""Image, stem; two layers of 2 blocks in 2 expansions and skip; 2 blocks, 2 widths; 2 kernels, depths, expansions."""

SQUEEZED = """\
name: squeezed
family: mobilenet
summary: Squeeze-excite left open in equal blocks, among candidates, and in the blocks after the first.
input_size: 12
defaults: {op: ir, act: relu, se_of: input, se_act: hard_swish, se_gate: sigmoid}
candidates:
  k3: {k: 3}
  fused: {op: fused_ir, k: 3}
  skip: {op: skip}
stem: {op: conv, k: 3, c: 4, s: 2}
stages:
  2:
    - {op: ir, k: [3, 5], e: [1, 2], se: [0, 0.25], c: 4, r: [1, 2]}
    - {e: 2, se: [0, 0.5], c: [4, 8]}
  4:
    - {op: ir, k: 3, e: 2, se: [0.25, 0.5], c: 8, s: 2, r: [2, 3], rest: {k: 5, se: {first: 0, last: 0.5, step: 0.25}}}
head: {op: conv, k: 1, c: 8}
"""
SQUEEZED_SIZE = (2 * 2 * 2 * 2) * (2 * 2 + 2 * 2 + 2) * (2 * 2 * 3)
"""Kernels, expansions, ratios, depths; two blocks and skip, in two widths; ratios, depths, ratios of the rest."""


def every_point(space: Space) -> Iterator[Choices]:
    """Every point once: the picks are counted up like the digits of a number, the last one fastest."""
    digits: list[int] = []
    while True:
        limits: list[int] = []
        yield space.draw(partial(_pick, digits, limits))
        digits += [0] * (len(limits) - len(digits))
        while digits and digits[-1] + 1 == limits[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1


def _pick(digits: Sequence[int], limits: list[int], options: Sequence[Any]) -> Any:
    """Take what the next digit says, and note how many options there were."""
    limits.append(len(options))
    return options[digits[len(limits) - 1] if len(limits) <= len(digits) else 0]


def network(arch: ArchSpec) -> tuple[NetworkPlan, tuple[BlockPlan, ...], int]:
    """What a definition builds: stem, head and classifier, the blocks that do something, and the image's size."""
    resolved = plan(arch)
    blocks = tuple(block for stage in resolved.stages for block in stage.blocks if not isinstance(block, IdentityPlan))
    ends = NetworkPlan(
        stem=resolved.stem, stages=(), head=resolved.head, classifier=resolved.classifier, num_classes=1000
    )
    return ends, blocks, arch.input_size
