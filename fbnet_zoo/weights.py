"""Weights of a network: drawn from a seed, or taken from a checkpoint."""

import math

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo.model import FBNet

_CALIBRATION_SHAPE = (8, 128)
"""Images and their size (px) from which running statistics of a random network are taken."""

_BRANCH_SCALE = 0.2
"""Of gamma at the end of residual branches: larger makes a random deep network amplify rounding errors."""


@torch.no_grad()
def randomize(model: FBNet, seed: int) -> None:
    """Draw every parameter and running statistic from a seed, so that no part of the network is silent.

    Unlike the training init, gamma is nowhere 0 (a zero would hide every error inside a residual
    branch) and running statistics are those of seeded noise images passing through: every layer then
    varies with the image, as in a trained network, and a wrong one shows in the logits.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, blocks.Conv2d | blocks.LinearClassifier):
            module.weight.normal_(0, math.sqrt(1 / module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.7, 1.3, generator=generator)
            module.bias.normal_(0, 0.2, generator=generator)
    for module in model.modules():
        if isinstance(module, blocks.ResidualInvertedResidual) and isinstance(module.project, blocks.ConvBNAct):
            module.project.bn.weight.mul_(_BRANCH_SCALE)
    _set_running_statistics(model, _noise_images(model.plan.stem.in_channels, generator))


def _noise_images(channels: int, generator: torch.Generator) -> Tensor:
    """Return `(N, channels, S, S)` images of coarse and fine noise, about normalised like photographs."""
    count, size = _CALIBRATION_SHAPE
    waves = [(1, 0.8), (4, 0.6), (16, 0.5), (size, 0.3)]  # pixels of the noise, amplitude
    images = [
        amplitude
        * nn.functional.interpolate(
            torch.randn(count, channels, pixels, pixels, generator=generator), size=(size, size), mode="bilinear"
        )
        for pixels, amplitude in waves
    ]
    return torch.stack(images).sum(0)


def _set_running_statistics(model: FBNet, images: Tensor) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches, here of one
    model.train()(images)
    model.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
