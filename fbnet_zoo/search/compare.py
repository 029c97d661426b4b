"""Networks sampled from P(theta), compared with the weights that they have in the supernet."""

from collections.abc import Iterable, Sequence
from itertools import islice

import torch
from torch import nn

from fbnet_zoo.search.batches import SearchData
from fbnet_zoo.search.config import SearchConfig
from fbnet_zoo.search.networks import Metric, Positions, SearchNetwork
from fbnet_zoo.search.processes import Processes
from fbnet_zoo.search.record import NetworkRecord
from fbnet_zoo.search.resolution import read
from fbnet_zoo.search.sampling import draw_positions, excess, log_probabilities, log_probability, project
from fbnet_zoo.space import Choices
from fbnet_zoo.train.batches import Batch, seed_of


def compare_networks(
    supernet: SearchNetwork,
    data: SearchData,
    metrics: Sequence[Metric],
    config: SearchConfig,
    *,
    processes: Processes | None = None,
) -> tuple[NetworkRecord, ...]:
    """Return the most probable network and `config.samples` drawn from P(theta), each once and within the limits.

    Args:
        supernet: after the search.
        data: batch norm is recalibrated on images of the weights, accuracy is that on theta's.
        metrics: that the limits name; all are reported.
        config: of the search.
        processes: that have the supernet, each where it computes; they share the networks out, and each is seen by
            one of them, in full precision. One on a CPU when not said.

    Returns:
        To all of them the same; first those within the limits, the most accurate of them first.
    """
    known = {metric.name: metric for metric in metrics}
    logs = log_probabilities(supernet.theta)
    together = processes or Processes()
    device = together.device

    def compared(drawn: tuple[Positions, bool]) -> NetworkRecord:
        positions, projected = drawn
        network, definition = supernet.extract(positions), supernet.definition(positions)
        size = definition.input_size if definition.input_size < supernet.input_size else None
        seen = islice(data.weights.batches(0, 0), config.recalibration_batches)
        used = recalibrate(network, _sized(seen, size), device=device)
        return NetworkRecord(
            name=definition.name,
            choices=supernet.choices(positions),
            positions=positions,
            log_probability=log_probability(logs, positions),
            projected=projected,
            costs={name: metric.of(positions) for name, metric in known.items()},
            within_limits=not excess(positions, known, config.limits),
            top1=top1(network, _sized(data.theta.batches(0, 0), size), device=device),
            recalibrated_images=used,
        )

    found = together.spread(tuple(_drawn(supernet, known, config).items()), compared)
    return tuple(sorted(found, key=lambda each: (not each.within_limits, -each.top1, -each.log_probability)))


def _sized(batches: Iterable[Batch], size: int | None) -> Iterable[Batch]:
    """Sub-sample images as the supernet does, for a network that decided for smaller ones."""
    return batches if size is None else ((read(images, size), classes) for images, classes in batches)


def _drawn(supernet: SearchNetwork, metrics: dict[str, Metric], config: SearchConfig) -> dict[Positions, bool]:
    """Return different networks, and whether each was changed to keep the limits."""
    logs = log_probabilities(supernet.theta)
    generator = torch.Generator().manual_seed(seed_of(config.seed))
    drawn = [tuple(layer.index(max(layer)) for layer in logs)]
    drawn += [draw_positions(supernet.theta, generator) for _ in range(config.samples)]
    kept: dict[Choices, tuple[Positions, bool]] = {}  # positions may differ in what a skip does not take
    for positions in drawn:
        found = positions
        if excess(positions, metrics, config.limits):
            found = project(logs, positions, metrics, config.limits) or positions
        kept.setdefault(supernet.choices(found), (found, found != positions))
    return dict(kept.values())


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Batch], *, device: str = "cpu") -> int:
    """Set the statistics of batch norm anew, to their means over some batches; return the number of images.

    Those of the supernet are of mixtures, and wrong for a single network. The network is left in evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which averages over all batches
    network.train()
    images = 0
    for batch, _ in batches:
        network(batch.to(device))
        images += len(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return images


@torch.inference_mode()
def top1(network: nn.Module, batches: Iterable[Batch], *, device: str = "cpu") -> float:
    """Return the share of images whose most probable class is theirs, percent, of a network in evaluation mode."""
    correct = images = 0
    for batch, classes in batches:
        correct += int((network(batch.to(device)).argmax(1).cpu() == classes.cpu()).sum())
        images += len(classes)
    return 100 * correct / images
