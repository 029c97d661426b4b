"""Rewrite the layers of a network into the deploy form, which `fbnet_zoo.converters.program` explains."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo.model import FBNet
from fbnet_zoo.modules import plain_classifier


class StaticChannelShuffle(blocks.ChannelShuffle):
    """A channel shuffle that does not read the batch size."""

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        return x.view(-1, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous().view(-1, c, h, w)


class StaticFlatten(nn.Module):
    """A flattening module that does not read the batch size."""

    def forward(self, x: Tensor) -> Tensor:
        return _flattened(x)


class StaticConvClassifier(nn.Conv2d):
    """A classifier as a 1x1 convolution, which does not read the batch size: `(N, C, 1, 1)` to `(N, classes)`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, 1)

    def reset_parameters(self) -> None:
        """Keep the values: they are set later."""

    def forward(self, x: Tensor) -> Tensor:
        return _flattened(super().forward(x))


def _flattened(x: Tensor) -> Tensor:
    return x if x.ndim == 2 else x.view(-1, math.prod(x.shape[1:]))


def respell(network: nn.Module) -> None:
    """Rewrite the layers inside a network, or a part of one, as converters need them; batch norm must be folded."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            setattr(parent, name, _deployed(child))
        if isinstance(parent, blocks.SqueezeExcitation) and isinstance(parent.gate, nn.Hardsigmoid):
            _fold_gate(parent)
    _make_contiguous(network)


def respell_end(network: FBNet) -> None:
    """Keep the end 4-D, with a single flatten; a classifier that is no single layer remains as it is."""
    if isinstance(network.head, blocks.PoolHead):
        network.set_submodule("pool", nn.Identity())
    layer = plain_classifier(network.classifier)
    if layer is not None and layer.weight[0].numel() == network.head_hidden_size:
        network.flatten, network.classifier = nn.Identity(), _as_convolution(layer)
    elif isinstance(network.flatten, nn.Identity):
        network.classifier = nn.Sequential(network.classifier, StaticFlatten())
    network.flatten_logits = nn.Identity()


def _make_contiguous(network: nn.Module) -> None:
    """Undo the channels-last layout of fused weights: XNNPACK rejects it, and pooling would be exported as a gather.

    Weights are cloned, since a 1x1 kernel counts as contiguous in either layout and would keep its strides.
    """
    for parameter in network.parameters():
        parameter.data = parameter.detach().clone(memory_format=torch.contiguous_format)


def _deployed(module: nn.Module) -> nn.Module:
    match module:
        case nn.ReLU() | nn.ReLU6() | nn.Hardswish() | nn.SiLU():
            return type(module)()
        case nn.Dropout() | blocks.DropPath():
            return nn.Identity()
        case nn.Flatten(start_dim=1, end_dim=-1):
            return StaticFlatten()
        case blocks.ChannelShuffle():
            return StaticChannelShuffle(module.groups)
        case _:
            return module


def _as_convolution(classifier: nn.Linear | nn.Conv2d) -> StaticConvClassifier:
    """Return a classifier, linear or a 1x1 convolution, in the form that converters need."""
    weight = classifier.weight.detach()
    conv = StaticConvClassifier(weight.shape[1], weight.shape[0])
    conv.weight = nn.Parameter(weight.reshape(*weight.shape[:2], 1, 1), requires_grad=False)
    conv.bias = classifier.bias
    return conv


@torch.no_grad()
def _fold_gate(se: blocks.SqueezeExcitation) -> None:
    """Replace `hard_sigmoid(expand(x))` by a clamp of a scaled `expand`, computed in float64."""
    dtype = se.expand.weight.dtype
    for parameter in se.expand.double().parameters():
        parameter.div_(6)
    cast(Tensor, se.expand.bias).add_(0.5)
    se.expand.to(dtype)
    se.gate = nn.Hardtanh(0.0, 1.0)
