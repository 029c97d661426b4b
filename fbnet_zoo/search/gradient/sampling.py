"""Networks drawn from P(theta), and their projection to limits on cost."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fbnet_zoo.search.limits import Costs, Limits, excess
from fbnet_zoo.space.encoding import Positions, neighbors

LogProbabilities = Sequence[Sequence[float]]
"""Log-probability of each candidate of each layer."""


def log_probabilities(theta: Sequence[Tensor]) -> LogProbabilities:
    """Return log softmax(theta) of each layer, in double precision."""
    return [each.detach().double().log_softmax(-1).tolist() for each in theta]


def most_probable(logs: LogProbabilities) -> Positions:
    """Return the most probable network."""
    return tuple(layer.index(max(layer)) for layer in logs)


def draw_positions(theta: Sequence[Tensor], generator: torch.Generator) -> Positions:
    """Return a random network: in each layer, a candidate drawn with its probability."""
    shares = (each.detach().double().softmax(-1).cpu() for each in theta)
    return tuple(int(torch.multinomial(share, 1, generator=generator)) for share in shares)


def log_probability(logs: LogProbabilities, positions: Sequence[int]) -> float:
    """Return log P of a network."""
    return sum(layer[position] for layer, position in zip(logs, positions, strict=True))


def project(
    logs: LogProbabilities,
    positions: Sequence[int],
    costs: Costs,
    limits: Limits,
) -> Positions | None:
    """Return a probable network near some positions that satisfies the limits.

    One layer is changed at a time: while a limit is exceeded, the change that loses the least log-probability per cost
    saved; then, within the limits, those that gain the most. If no single change saves cost, as between skips that need
    equal channels, it continues from the network of lowest cost. A single reachable limit is always satisfied; several
    at once may not be, even if some network satisfies them.

    Returns:
        The positions; `None` if no single change brings the network closer to the limits.
    """
    found, counts = tuple(positions), [len(layer) for layer in logs]
    cheapest = iter([costs[name].cheapest for name in limits])
    while over := excess(found, costs, limits):
        moves = [(other, over - excess(other, costs, limits)) for other in neighbors(found, counts)]
        saving = [(_loss(logs, found, other) / saved, other) for other, saved in moves if saved > 0]
        nearer = min(saving)[1] if saving else next(cheapest, None)
        if nearer is None:
            return None
        found = nearer
    while gaining := [
        (gain, other)
        for other in neighbors(found, counts)
        if (gain := -_loss(logs, found, other)) > 0 and not excess(other, costs, limits)
    ]:
        found = max(gaining)[1]
    return found


def _loss(logs: LogProbabilities, positions: Positions, other: Positions) -> float:
    """Return the log-probability lost by a change; negative for a gain."""
    lost = log_probability(logs, positions) - log_probability(logs, other)
    return lost if math.isfinite(lost) else math.inf
