"""Recalibration of batch norm statistics."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the batch norm statistics to their means over some batches; return the number of images.

    The network is left in evaluation mode.

    Args:
        network: any module.
        batches: images (N, C, H, W), on the network's device.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # averages over all batches
    network.train()
    images = 0
    for batch in batches:
        network(batch)
        images += len(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return images
