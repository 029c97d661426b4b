"""Blocks: each row of a definition against layers written out by hand, run by a naive interpreter."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo.model import FBNet
from fbnet_zoo.plans import ConvPlan
from fbnet_zoo.spec import LETTERS, ArchSpec
from tests.helpers import layer_rows

SIZE, CHANNELS, EPS = 10, 16, 1e-3


def spec_of(row: dict[str, Any], defaults: dict[str, Any]) -> ArchSpec:
    """A network of one block, whose input has CHANNELS channels and SIZE pixels."""
    spelled = {LETTERS.get(key, key): value for key, value in row.items()}
    return ArchSpec.model_validate(
        {
            "name": "one_block",
            "family": "fbnet",
            "summary": "One block.",
            "input_size": SIZE,
            "bn_eps": EPS,
            "defaults": defaults,
            "stem": {"op": "conv", "kernel_size": 1, "out_channels": CHANNELS},
            "stages": ({"output_stride": spelled.get("stride", 1), "blocks": (spelled,)},),
            "head": {"op": "conv", "kernel_size": 1, "out_channels": 8},
        }
    )


def built(spec: ArchSpec) -> nn.Module:
    """The block of the network, every value of it random."""
    (block,) = next(iter(FBNet(spec).stages.values()))
    generator = torch.Generator().manual_seed(0)
    for name, value in block.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=generator) if "var" in name else value.normal_(
                0, 0.5, generator=generator
            )
    return block.eval()


def run(rows: list[str], block: nn.Module, x: Tensor) -> Tensor:
    """Do what the rows say with the block's values, taken in their order."""
    values = iter([value for value in block.state_dict().values() if value.ndim])
    entered = kept = x
    for row in rows:
        kind, *words = row.split()
        if kind == "conv":
            x = convolve(x, words, values)
        elif kind == "gap":
            kept, x = x, x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        elif kind == "mul":
            x = kept * x
        elif kind == "add":
            x = entered + x
        elif kind == "shuffle":
            groups, width = int(words[1][1:]), int(words[0]) // int(words[1][1:])
            x = torch.stack([x[:, group * width + index] for index in range(width) for group in range(groups)], 1)
    assert next(values, None) is None, "the block has values that the rows do not use"
    return x


def convolve(x: Tensor, words: list[str], values: Any) -> Tensor:
    form = {word[0]: int(word[1:]) for word in words if word[0] in "kspg" and word[1:].isdigit()}
    into, out = map(int, words[0].split(">"))
    weight = next(values)
    assert weight.shape == (out, into // form.get("g", 1), form.get("k", 1), form.get("k", 1))
    bias = next(values) if "bias" in words else None
    x = F.conv2d(x, weight, bias, form.get("s", 1), form.get("p", 0), 1, form.get("g", 1))
    if "bn" in words:
        gamma, beta, mean, var = (next(values).view(1, -1, 1, 1) for _ in range(4))
        x = gamma * (x - mean) / (var + EPS).sqrt() + beta
    return ACTIVATIONS.get(words[-1], lambda same: same)(x)


ACTIVATIONS = {
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: x.clip(0, 6),
    "hard_swish": lambda x: x * (x + 3).clip(0, 6) / 6,
    "swish": lambda x: x / (1 + torch.exp(-x)),
    "hard_sigmoid": lambda x: (x + 3).clip(0, 6) / 6,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "inverted residual": (
        {"k": 3, "e": 3, "c": 16},
        {},
        ["conv 16>48 10>10 bn relu", "conv 48>48 k3 p1 g48 10>10 bn relu", "conv 48>16 10>10 bn", "add 16 10"],
    ),
    "other channels": (
        {"k": 5, "e": 2, "c": 24},
        {"bias": True},
        ["conv 16>32 bias 10>10 bn relu", "conv 32>32 k5 p2 g32 bias 10>10 bn relu", "conv 32>24 bias 10>10 bn"],
    ),
    "stride": (
        {"k": 5, "e": 2, "c": 16, "s": 2},
        {"act": "hard_swish"},
        ["conv 16>32 10>10 bn hard_swish", "conv 32>32 k5 s2 p2 g32 10>5 bn hard_swish", "conv 32>16 5>5 bn"],
    ),
    "padding": (
        {"k": 5, "e": 2, "c": 16, "s": 2, "pad": 1},
        {"act": "swish"},
        ["conv 16>32 10>10 bn swish", "conv 32>32 k5 s2 p1 g32 10>4 bn swish", "conv 32>16 4>4 bn"],
    ),
    "expansion 1": (
        {"k": 3, "e": 1, "c": 16},
        {"act": "relu6"},
        ["conv 16>16 k3 p1 g16 10>10 bn relu6", "conv 16>16 10>10 bn", "add 16 10"],
    ),
    "expansion 1, kept": (
        {"k": 3, "e": 1, "c": 16, "keep_expand": True},
        {},
        ["conv 16>16 10>10 bn relu", "conv 16>16 k3 p1 g16 10>10 bn relu", "conv 16>16 10>10 bn", "add 16 10"],
    ),
    "narrowing": (
        {"k": 3, "e": 0.5, "c": 16},
        {},
        ["conv 16>8 10>10 bn relu", "conv 8>8 k3 p1 g8 10>10 bn relu", "conv 8>16 10>10 bn", "add 16 10"],
    ),
    "fraction, rounded": (
        {"k": 3, "e": 1.7, "c": 24},
        {"divisor": 8},  # 27.2 -> 24, which loses over 5 % -> 32
        ["conv 16>32 10>10 bn relu", "conv 32>32 k3 p1 g32 10>10 bn relu", "conv 32>24 10>10 bn"],
    ),
    "groups": (
        {"k": 3, "e": 2, "c": 24, "g": 4},
        {},
        [
            "conv 16>32 g4 10>10 bn relu",
            "shuffle 32 g4 10",
            "conv 32>32 k3 p1 g32 10>10 bn relu",
            "conv 32>24 g4 10>10 bn",
        ],
    ),
    "groups, expansion 1": (
        {"k": 3, "e": 1, "c": 16, "g": 2},
        {},
        ["shuffle 16 g2 10", "conv 16>16 k3 p1 g16 10>10 bn relu", "conv 16>16 g2 10>10 bn", "add 16 10"],
    ),
    "two depthwise": (
        {"k": 5, "e": 1, "c": 8, "s": 2, "pad": 1, "dw": 2},
        {},
        ["conv 16>16 k5 s2 p1 g16 10>4 bn relu", "conv 16>16 k5 p2 g16 4>4 bn relu", "conv 16>8 4>4 bn"],
    ),
    "groups of the depthwise": (
        {"k": 3, "e": 1, "c": 8, "dwg": 4},
        {},
        ["conv 16>16 k3 p1 g4 10>10 bn relu", "conv 16>8 10>10 bn"],
    ),
    "linear depthwise": (
        {"k": 3, "e": 2, "c": 8, "linear_depthwise": True},
        {"bias": True},
        ["conv 16>32 bias 10>10 bn relu", "conv 32>32 k3 p1 g32 10>10", "conv 32>8 bias 10>10 bn"],
    ),
    "squeeze-excite of the expanded": (
        {"k": 3, "e": 2, "c": 16, "se": 0.25},
        {"act": "hard_swish"},
        [
            "conv 16>32 10>10 bn hard_swish",
            "conv 32>32 k3 p1 g32 10>10 bn hard_swish",
            "gap 32 10>1",
            "conv 32>8 bias 1>1 hard_swish",
            "conv 8>32 bias 1>1 hard_sigmoid",
            "mul 32 10",
            "conv 32>16 10>10 bn",
            "add 16 10",
        ],
    ),
    "squeeze-excite of the input": (
        {"k": 3, "e": 2, "c": 8, "s": 2, "se": 0.5, "se_gate": "sigmoid", "se_act": "relu"},
        {"act": "swish", "se_of": "input"},
        [
            "conv 16>32 10>10 bn swish",
            "conv 32>32 k3 s2 p1 g32 10>5 bn swish",
            "gap 32 5>1",
            "conv 32>8 bias 1>1 relu",
            "conv 8>32 bias 1>1 sigmoid",
            "mul 32 5",
            "conv 32>8 5>5 bn",
        ],
    ),
    "squeeze-excite of little": (
        {"k": 3, "e": 1, "c": 8, "se": 0.01},
        {},
        [
            "conv 16>16 k3 p1 g16 10>10 bn relu",
            "gap 16 10>1",
            "conv 16>1 bias 1>1 relu",
            "conv 1>16 bias 1>1 hard_sigmoid",
            "mul 16 10",
            "conv 16>8 10>10 bn",
        ],
    ),
    "fused": (
        {"op": "fused_ir", "k": 3, "e": 2, "c": 16},
        {},
        ["conv 16>32 k3 p1 10>10 bn relu", "conv 32>16 10>10 bn", "add 16 10"],
    ),
    "fused, expansion 1": (
        {"op": "fused_ir", "k": 3, "e": 1, "c": 24, "s": 2, "se": 0.25},
        {},
        [
            "conv 16>24 k3 s2 p1 10>5 bn relu",
            "gap 24 5>1",
            "conv 24>6 bias 1>1 relu",
            "conv 6>24 bias 1>1 hard_sigmoid",
            "mul 24 5",
        ],
    ),
    "fused, expansion 1, residual": (
        {"op": "fused_ir", "k": 3, "e": 1, "c": 16},
        {},
        ["conv 16>16 k3 p1 10>10 bn relu", "add 16 10"],
    ),
    "convolution": ({"op": "conv", "k": 3, "c": 8, "g": 2}, {}, ["conv 16>8 k3 p1 g2 10>10 bn relu"]),
    "skip": ({"op": "skip", "c": 16}, {"act": "swish"}, []),
    "skip, other channels": ({"op": "skip", "c": 24}, {"act": "swish", "bias": True}, ["conv 16>24 10>10 bn relu"]),
    "skip, stride": ({"op": "skip", "c": 16, "s": 2}, {}, ["conv 16>16 s2 10>5 bn relu"]),
}


@pytest.mark.parametrize(("row", "defaults", "rows"), CASES.values(), ids=CASES)
def test_block(row: dict[str, Any], defaults: dict[str, Any], rows: list[str]) -> None:
    spec = spec_of(row, defaults)
    image = torch.randn(2, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    block = built(spec)
    with torch.no_grad():
        torch.testing.assert_close(block(image.clone()), run(rows, block, image), rtol=1e-4, atol=1e-4)
    inside = layer_rows.of_definition(spec, SIZE)[1:-3]  # between the stem and the head
    assert inside == rows


def test_repeats_have_the_stride_once() -> None:
    spec = spec_of({"k": 3, "e": 1, "c": 16, "s": 2, "r": 3}, {})
    assert [row.split()[-3] for row in layer_rows.of_definition(spec, SIZE) if " k3 " in row] == ["10>5", "5>5", "5>5"]


def test_a_folded_convolution_computes_the_same() -> None:
    torch.manual_seed(0)
    unit = blocks.ConvBNAct(ConvPlan(in_channels=8, out_channels=12, kernel_size=3, groups=4, act="relu"), bn_eps=1e-3)
    for value in unit.state_dict().values():
        value.uniform_(0.5, 1.5) if value.is_floating_point() else value.fill_(1)
    image = torch.randn(2, 8, 6, 6)
    unit.eval()
    with torch.no_grad():
        expected = unit(image)
        unit.fold()
        torch.testing.assert_close(unit(image), expected, rtol=1e-6, atol=1e-5)
    assert not [module for module in unit.modules() if isinstance(module, nn.BatchNorm2d)]
    assert unit.conv.weight.dtype == torch.float32
