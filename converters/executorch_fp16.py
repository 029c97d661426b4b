"""The fp16 program for ExecuTorch's backends.

Two operators of the float32 program need a different form in fp16:

- swish would be lowered to a float32 sigmoid between two casts that no backend delegates; `x * sigmoid(x)` is;
- XNNPACK multiplies by 1/6 in hard-swish, and the nearest fp16 number is 0.024 % smaller. In a deep network the error
  exceeds that of all rounding: fbnetv3_a with seeded weights reaches 38 dB on x86, PyTorch's own fp16 47 dB. Scaling
  the weights that follow by the inverse, before they are rounded, gives 46 dB at no cost at run time.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.fx import Node

from fbnet_zoo.converters.program import Program, of_network

HARD_SWISH_GAIN = 6 * float(torch.tensor(1 / 6, dtype=torch.float16))
"""Ratio of the output of XNNPACK's fp16 hard-swish to the exact value."""

_aten = torch.ops.aten
_CARRIERS = {_aten.mul.Tensor, _aten.adaptive_avg_pool2d.default, _aten.view.default, _aten.transpose.int}
"""Operators whose output is proportional to their input, so that they propagate a factor."""


class Swish(nn.Module):
    """Swish as two operators."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


@torch.no_grad()
def half_program(program: Program, *, xnnpack: bool) -> Program:
    """Return the fp16 form of a float32 program.

    Args:
        program: the float32 program; not modified.
        xnnpack: compensate for the factor in XNNPACK's hard-swish.

    Raises:
        ConversionError: PyTorch cannot export it.
    """
    network = copy.deepcopy(program.module.get_submodule("network"))
    if xnnpack:
        for name in _weights_after_hard_swish(program):
            network.get_parameter(name.removeprefix("network.")).div_(HARD_SWISH_GAIN)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.SiLU):
                setattr(parent, name, Swish())
    return of_network(replace(program, precision="fp16"), network, program.num_classes)


def _weights_after_hard_swish(program: Program) -> Iterator[str]:
    """Yield the names of the weights applied to a value that XNNPACK's hard-swish has made too small.

    Sums are not followed: often only one of their inputs is too small, and the other must not be scaled.
    """
    parameters = program.exported.graph_signature.inputs_to_parameters
    too_small: set[Node] = set()
    for node in program.exported.graph.nodes:
        carries = node.target in _CARRIERS and not too_small.isdisjoint(node.all_input_nodes)
        if carries or node.target is _aten.hardswish.default:
            too_small.add(node)
        elif node.target is _aten.conv2d.default and node.args[0] in too_small:
            yield parameters[node.args[1].name]
