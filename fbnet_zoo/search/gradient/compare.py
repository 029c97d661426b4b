"""Comparison of networks with their weights in the supernet: those drawn from P(theta), then others near the limits."""

import torch

from fbnet_zoo.search.gradient.batches import SearchData
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.evaluator import SupernetEvaluator
from fbnet_zoo.search.gradient.exploration import Exploration
from fbnet_zoo.search.gradient.near_limits import Region, preferred
from fbnet_zoo.search.gradient.networks import SearchNetwork
from fbnet_zoo.search.gradient.sampling import (
    draw_positions,
    log_probabilities,
    log_probability,
    most_probable,
    project,
)
from fbnet_zoo.search.limits import Costs, excess
from fbnet_zoo.search.networks import NetworkRecord, best_first, network_record
from fbnet_zoo.space.encoding import Positions
from fbnet_zoo.train.batches import seed_of
from fbnet_zoo.train.processes import Processes


def compare_networks(
    supernet: SearchNetwork,
    data: SearchData,
    costs: Costs,
    config: GradientConfig,
    *,
    processes: Processes | None = None,
) -> tuple[NetworkRecord, ...]:
    """Return networks within the limits, without duplicates, compared by the accuracy of their weights in the supernet.

    First come the most probable network and `config.samples` drawn from P(theta). Where there are limits, more follow
    until `config.candidates` are compared: those with the highest accuracy by a model of all before, near the limits.

    Args:
        supernet: trained supernet.
        data: images; batch norm is recalibrated on those of the weights, accuracy is measured on theta's.
        costs: costs to report, including those named by the limits.
        config: configuration of the search.
        processes: processes that each hold the supernet and share the networks (default: one on a CPU).

    Returns:
        Records sorted by limits, then accuracy, but the preferred network first (`near_limits.preferred`); the same in
        all processes.
    """
    together = processes or Processes()
    drawn, logs = _drawn(supernet, costs, config), log_probabilities(supernet.theta)
    evaluator = SupernetEvaluator(
        supernet=supernet, data=data, recalibration_batches=config.recalibration_batches, processes=together
    )
    accuracies = dict(zip(drawn, evaluator.top1(list(drawn)), strict=True))
    chosen = None
    if config.limits:
        exploration = Exploration(evaluator=evaluator, costs=costs, seed=config.seed)
        accuracies = exploration.extended(accuracies, config.limits, total=config.candidates)
        region = Region(encoding=supernet.encoding, costs=costs, limits=config.limits)
        chosen = preferred(accuracies, region, evaluator.images)
    images = evaluator.recalibration_images
    found = []
    for positions, top1 in accuracies.items():
        record = network_record(supernet.encoding, positions, costs, config.limits, top1=top1)
        update = {
            "log_probability": log_probability(logs, positions),
            "projected": drawn.get(positions, False),
            "proposed": positions not in drawn,
            "recalibrated_images": images,
        }
        found.append(record.model_copy(update=update))
    return tuple(sorted(best_first(found), key=lambda each: each.positions != chosen))


def _drawn(supernet: SearchNetwork, costs: Costs, config: GradientConfig) -> dict[Positions, bool]:
    """Return different networks, and whether each was changed to satisfy the limits."""
    logs = log_probabilities(supernet.theta)
    generator = torch.Generator().manual_seed(seed_of(config.seed))
    drawn = [most_probable(logs)]
    drawn += [draw_positions(supernet.theta, generator) for _ in range(config.samples)]
    kept: dict[bytes, tuple[Positions, bool]] = {}  # positions may differ in values that a skip does not have
    for positions in drawn:
        found = positions
        if excess(positions, costs, config.limits):
            found = project(logs, positions, costs, config.limits) or positions
        kept.setdefault(supernet.encoding.canonical([found]).tobytes(), (found, found != positions))
    return dict(kept.values())
