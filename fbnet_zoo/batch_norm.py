"""Statistics of batch norm, found anew."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the statistics of batch norm to their means over some batches; return the number of images.

    The network is left in evaluation mode.

    Args:
        network: of any kind.
        batches: images (N, C, H, W), where the network is.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which averages over all batches
    network.train()
    images = 0
    for batch in batches:
        network(batch)
        images += len(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return images
