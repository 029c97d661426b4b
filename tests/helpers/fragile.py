"""Networks that do not survive 8 bits, though they compute what sound ones do."""

import copy

import torch
from torch import nn

from fbnet_zoo.blocks import ConvBNAct
from fbnet_zoo.model import FBNet

FRAGILE = {"stages.4.0.project", "stages.4.1.expand", "stages.4.1.project", "stages.8.0.expand"}
"""The layers around values of which one channel is out of all proportion."""

_FACTOR = 1e3


@torch.no_grad()
def fragile(network: FBNet) -> FBNet:
    """Return a copy of the small network that computes the same, but between two blocks has one channel so large that
    in 8 bits the others are nothing beside it.

    No activation is between the layers that write the channel and those that read it.
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
