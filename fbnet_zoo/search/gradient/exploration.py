"""Exploration of the networks near some limits with the weights of a supernet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fbnet_zoo.search.gradient.accuracy_model import AccuracyModel
from fbnet_zoo.search.gradient.evaluator import SupernetEvaluator
from fbnet_zoo.search.gradient.near_limits import Accuracies, Region, proposed, standard_error
from fbnet_zoo.search.gradient.sampling import LogProbabilities, log_probabilities, most_probable, project
from fbnet_zoo.search.limits import Costs, Limits
from fbnet_zoo.space.encoding import Positions

ROUND = 6
"""Networks that are evaluated before the model of accuracies is fitted again."""


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Evaluates more and more networks of a supernet.

    Attributes:
        evaluator: evaluator of networks, in all processes.
        costs: known costs.
        seed: seed of the proposals.
    """

    evaluator: SupernetEvaluator
    costs: Costs
    seed: int

    def extended(self, known: Accuracies, limits: Limits, *, total: int) -> dict[Positions, float]:
        """Return known accuracies, and those of others within the limits, until there are `total` or no other is near.

        The others are those with the highest accuracy by a model of all before, near the limits.

        Args:
            known: evaluated networks; at least one.
            limits: at least one.
            total: number of accuracies.
        """
        region = Region(encoding=self.evaluator.supernet.encoding, costs=self.costs, limits=limits)
        logs, images = log_probabilities(self.evaluator.supernet.theta), self.evaluator.images
        generator, accuracies = np.random.default_rng(self.seed), dict(known)

        def propose() -> list[Positions]:
            return _proposed(accuracies, logs, region, images, min(total - len(accuracies), ROUND), generator)

        while len(accuracies) < total and (new := self.evaluator.processes.on_main(propose)):
            accuracies |= self._evaluated(new)
        return accuracies

    def started(self, known: Accuracies, limits: Limits) -> dict[Positions, float]:
        """Return known accuracies, and that of the most probable network, changed to be within the limits."""
        logs = log_probabilities(self.evaluator.supernet.theta)
        start = project(logs, most_probable(logs), self.costs, limits)
        return {**known, **self._evaluated([start] if start and start not in known else [])}

    def _evaluated(self, networks: Sequence[Positions]) -> dict[Positions, float]:
        return dict(zip(networks, self.evaluator.top1(networks), strict=True))


def _proposed(
    accuracies: Accuracies,
    logs: LogProbabilities,
    region: Region,
    images: int,
    count: int,
    generator: np.random.Generator,
) -> list[Positions]:
    canonical = map(tuple, region.encoding.canonical(list(accuracies)).tolist())
    known = dict(zip(canonical, accuracies.values(), strict=True))
    noise = standard_error(float(np.mean(list(known.values()))), images) / 2
    model = AccuracyModel.fitted(logs, list(known), list(known.values()), noise=noise)
    return proposed(model, known, region, count=count, generator=generator)
