"""How near to the best network within a limit a search by gradients comes, where the best is known.

Seven decisions of six options are enumerated. A network's loss comes from a formula instead of training: each option
adds utility and cost, with diminishing returns, and neighbors interact. 0 is the average network within the limit, 1 is
the best one. `python -m fbnet_zoo.benchmarks.suites.constrained_optimum --seeds 8` prints the table of docs/search.md.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from fbnet_zoo.search.gradient.batches import SearchData
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.gradient.loop import search
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.files import parse

DECISIONS, OPTIONS = 7, 6
NETWORKS = np.array(list(itertools.product(range(OPTIONS), repeat=DECISIONS)))
IMAGES, BATCH = 1440, 64

STRENGTHS: Mapping[str, float] = {"strong": 1.0, "gentle": 0.1}
"""How much of a network's utility shows in its logits, and so in the gradients."""

SHARES = (0.15, 0.35)
"""Limits, as shares of the range of costs."""

SPACE = """\
name: constrained_optimum
family: fbnet
summary: "Seven decisions of six options."
input_size: 16
defaults: {op: ir, act: relu}
candidates:
  a: {k: 3, e: 1}
  b: {k: 3, e: 2}
  c: {k: 3, e: 3}
  d: {k: 5, e: 1}
  e: {k: 5, e: 2}
  f: {k: 5, e: 3}
stem: {op: conv, k: 3, c: 8, s: 2}
stages:
  2: [{c: 8}, {c: 9}, {c: 10}, {c: 11}, {c: 12}, {c: 13}, {c: 14}]
head: {op: conv, k: 1, c: 16}
"""


@dataclass(frozen=True)
class Problem:
    """Costs and utilities of all networks, by a seed."""

    seed: int

    @cached_property
    def _drawn(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        generator = np.random.default_rng(self.seed)
        cost = np.sort(generator.uniform(0.2, 3.0, (DECISIONS, OPTIONS)), axis=1)
        cost *= generator.uniform(0.5, 2, (DECISIONS, 1))
        gain = generator.uniform(0.5, 2.0, (DECISIONS, 1))
        growth = (cost / cost.max(1, keepdims=True)) ** generator.uniform(0.3, 1.0, (DECISIONS, 1))
        utility = gain * (growth + generator.normal(0, 0.15, (DECISIONS, OPTIONS)))
        return cost, utility, generator.normal(0, 0.1, (DECISIONS - 1, OPTIONS, OPTIONS))

    @property
    def cost(self) -> NDArray[np.float64]:
        """Cost of each option, (decisions, options)."""
        return self._drawn[0]

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """Cost of each of `NETWORKS`."""
        return self.cost[np.arange(DECISIONS), NETWORKS].sum(1)

    @cached_property
    def utilities(self) -> NDArray[np.float64]:
        """Utility of each of `NETWORKS`."""
        _, utility, pairs = self._drawn
        single = utility[np.arange(DECISIONS), NETWORKS].sum(1)
        return single + pairs[np.arange(DECISIONS - 1), NETWORKS[:, :-1], NETWORKS[:, 1:]].sum(1)

    def utility(self, masks: Sequence[Tensor]) -> Tensor:
        """Return the utility at some masks in standard deviations above the mean, (images) or ()."""
        _, utility, pairs = (torch.from_numpy(each).float() for each in self._drawn)
        total = sum((mask @ options for mask, options in zip(masks, utility, strict=True)), torch.zeros(()))
        for pair, left, right in zip(pairs, masks, masks[1:], strict=False):
            total = total + torch.einsum("...i,ij,...j->...", left, pair, right)
        return (total - self.utilities.mean()) / self.utilities.std()

    def limit(self, share: float) -> float:
        """Return the limit at a share of the range of costs."""
        return float(self.costs.min() + share * np.ptp(self.costs))

    def score(self, positions: Sequence[int], limit: float) -> tuple[float, float]:
        """Return the score of a network, and the share of the limit that it uses."""
        within = self.utilities[self.costs <= limit]
        at = int((np.array(positions) == NETWORKS).all(1).argmax())
        score = (self.utilities[at] - within.mean()) / (within.max() - within.mean())
        return float(score), float(self.costs[at] / limit)


@dataclass(frozen=True)
class Latency:
    """The cost of a problem's networks, as the search knows it."""

    problem: Problem
    name: str = "latency"
    unit: str = "ms"

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network."""
        return float(self.population([positions])[0])

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of several networks."""
        return self.problem.cost[np.arange(DECISIONS), np.asarray(population)].sum(1)

    @property
    def cheapest(self) -> tuple[int, ...]:
        """The network of lowest cost."""
        return tuple(self.problem.cost.argmin(1).tolist())

    @property
    def least(self) -> float:
        """The lowest cost."""
        return self.of(self.cheapest)


@dataclass(frozen=True)
class ExpectedLatency:
    """The expectation of the cost."""

    metric: Latency

    def expected(self, masks: Sequence[Tensor]) -> Tensor:
        """Return the mean cost of networks drawn from masks."""
        costs = torch.from_numpy(self.metric.problem.cost)
        return torch.stack([(mask @ cost.to(mask.dtype)).mean() for mask, cost in zip(masks, costs, strict=True)]).sum()


@dataclass(eq=False)
class FormulaNetwork(nn.Module):
    """Logits of two classes by a network's utility and an image's difficulty, its only value between -1 and 1."""

    problem: Problem
    strength: float
    positions: Sequence[int] = ()
    spec: Any = field(default_factory=lambda: SimpleNamespace(input_size=16))

    def __post_init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        return self.at(images, [torch.eye(OPTIONS)[position] for position in self.positions])

    def at(self, images: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return logits at some masks, (N, 2)."""
        right = self.strength * (self.problem.utility(masks) - 3 * images.flatten(1)[:, 0])
        return torch.stack([right, torch.zeros_like(right)], 1)


class FormulaSupernet(nn.Module):
    """A supernet without weights to train."""

    num_classes = 2

    def __init__(self, problem: Problem, strength: float) -> None:
        super().__init__()
        self.network, self.encoding = FormulaNetwork(problem, strength), Encoding(parse(SPACE, "space.yaml"))
        self.thetas = nn.ParameterList(torch.zeros(OPTIONS) for _ in range(DECISIONS))
        self.weight = nn.Parameter(torch.zeros(1))  # optimizers need one

    @property
    def theta(self) -> tuple[nn.Parameter, ...]:
        return tuple(self.thetas)

    def weight_parameters(self) -> tuple[nn.Parameter, ...]:
        return (self.weight,)

    def logits(self, images: Tensor, masks: Sequence[Tensor], _form: str) -> Tensor:
        return self.network.at(images, masks) + 0 * self.weight

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        yield

    def extract(self, positions: Sequence[int], *, name: str | None = None) -> FormulaNetwork:
        return FormulaNetwork(self.network.problem, self.network.strength, positions)


def searched(problem: Problem, *, share: float, strength: float, candidates: int) -> tuple[float, float]:
    """Return the score of the network that is found, and the share of the limit that it uses.

    The configuration is the default for digits but for the number of compared networks.
    """
    images = 2 * torch.rand(IMAGES, 1, 1, 1, generator=torch.Generator().manual_seed(problem.seed)) - 1
    classes = torch.zeros(IMAGES, dtype=torch.long)
    limit = problem.limit(share)
    found = search(
        FormulaSupernet(problem, strength),  # type: ignore[arg-type]
        SearchData.of_tensors(images, classes, batch_size=BATCH, seed=problem.seed),
        [ExpectedLatency(Latency(problem))],
        DnasConfig.usual("digits").model_copy(
            update={"penalty": None, "limits": {"latency": limit}, "candidates": candidates, "seed": problem.seed}
        ),
    )
    return problem.score(found.best.positions, limit)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="number of problems for each row (default: 8)")
    usual = DnasConfig().candidates
    parser.add_argument(
        "--candidates", type=int, default=usual, help=f"networks compared at the end; 1: those drawn (default: {usual})"
    )
    asked = parser.parse_args()
    sys.stdout.write("| gradients | limit | score: mean | lowest | limit used: mean | lowest | highest |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for (name, strength), share in itertools.product(STRENGTHS.items(), SHARES):
        given = {"share": share, "strength": strength, "candidates": asked.candidates}
        scores, used = np.transpose([searched(Problem(seed), **given) for seed in range(asked.seeds)])
        figures = (scores.mean(), scores.min(), used.mean(), used.min(), used.max())
        sys.stdout.write(f"| {name} | {share:.0%} | {' | '.join(f'{each:.3f}' for each in figures)} |\n")


if __name__ == "__main__":
    main()
