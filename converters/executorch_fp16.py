"""The fp16 program for ExecuTorch's backends.

Two spellings of the float32 program do not survive in fp16:

- swish is lowered to a sigmoid in float32 between two casts that no backend takes; `x * sigmoid(x)` stays whole;
- XNNPACK multiplies by 1/6 in hard-swish, and the nearest fp16 number is 0.024 % smaller. In a deep network that adds
  up to more than all rounding together: fbnetv3_a with seeded weights keeps 38 dB on x86, PyTorch's own fp16 47 dB. So
  the weights that follow are made larger by as much, before they are rounded: 46 dB, at no cost when it runs.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.fx import Node

from fbnet_zoo.converters.program import Program, of_network

HARD_SWISH_GAIN = 6 * float(torch.tensor(1 / 6, dtype=torch.float16))
"""What XNNPACK's fp16 hard-swish returns, as a share of what it should."""

_aten = torch.ops.aten
_CARRIERS = {_aten.mul.Tensor, _aten.adaptive_avg_pool2d.default, _aten.view.default, _aten.transpose.int}
"""Operators that hand a factor on: what they return is proportional to their input."""


class Swish(nn.Module):
    """The activation, of two operators."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


@torch.no_grad()
def half_program(program: Program, *, xnnpack: bool) -> Program:
    """Return the fp16 form of a float32 program.

    Args:
        program: is not changed.
        xnnpack: make up for its hard-swish.

    Raises:
        ConversionError: PyTorch cannot export it.
    """
    network = copy.deepcopy(program.module.get_submodule("network"))
    if xnnpack:
        for name in _shrunk_weights(program):
            network.get_parameter(name.removeprefix("network.")).div_(HARD_SWISH_GAIN)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.SiLU):
                setattr(parent, name, Swish())
    return of_network(replace(program, precision="fp16"), network, program.num_classes)


def _shrunk_weights(program: Program) -> Iterator[str]:
    """Yield the names of the weights that meet a value which XNNPACK's hard-swish made smaller.

    A sum ends it, as only one side may be smaller: the other would be made too large.
    """
    parameters = program.exported.graph_signature.inputs_to_parameters
    smaller: set[Node] = set()
    for node in program.exported.graph.nodes:
        carries = node.target in _CARRIERS and not smaller.isdisjoint(node.all_input_nodes)
        if carries or node.target is _aten.hardswish.default:
            smaller.add(node)
        elif node.target is _aten.conv2d.default and node.args[0] in smaller:
            yield parameters[node.args[1].name]
