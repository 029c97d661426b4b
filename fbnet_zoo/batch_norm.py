"""The running statistics of batch norms: estimated again, or left alone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the batch norm statistics to their means over some batches; return the number of images.

    Everything else is as in evaluation, so that nothing is dropped at random; the network is left in that mode.

    Args:
        network: any module.
        batches: images (N, C, H, W), on the network's device.
    """
    norms = _norms(network)
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # averages over all batches
        norm.train()
    images = 0
    for batch in batches:
        network(batch)
        images += len(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return images


@contextmanager
def constant_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the batch norm statistics as they are, even in training."""
    norms = _norms(module)
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def _norms(module: nn.Module) -> list[nn.BatchNorm2d | nn.SyncBatchNorm]:
    return [each for each in module.modules() if isinstance(each, nn.BatchNorm2d | nn.SyncBatchNorm)]
