"""Networks that fail in 8 bits, though they compute the same as others in float32."""

import copy

import torch
from torch import nn

from fbnet_zoo.blocks import ConvBNAct
from fbnet_zoo.model import FBNet

FRAGILE = {"stages.4.0.project", "stages.4.1.expand", "stages.4.1.project", "stages.8.0.expand"}
"""The layers around values with one channel that is far larger than the others."""

_FACTOR = 1e3


@torch.no_grad()
def fragile(network: FBNet) -> FBNet:
    """Return a copy of the small network with the same output, but with one channel between two blocks so large that
    8-bit rounding erases the others.

    There is no activation between the layers that write the channel and those that read it.
    """
    changed = copy.deepcopy(network)
    for writer in ("stages.4.0.project", "stages.4.1.project"):
        _scale_output(changed.get_submodule(writer))
    grouped, whole = (changed.get_submodule(name).conv.weight for name in ("stages.4.1.expand", "stages.8.0.expand"))
    grouped[: len(grouped) // 2, 0] /= _FACTOR
    whole[:, 0] /= _FACTOR
    return changed


def _scale_output(layer: ConvBNAct) -> None:
    last = layer.bn if isinstance(layer.bn, nn.BatchNorm2d) else layer.conv
    last.weight[0] *= _FACTOR
    last.bias[0] *= _FACTOR
