"""Costs of the networks of a space by a predictor, for devices where the costs of operators do not add up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo.latency.predictor import Predictor
from fbnet_zoo.search.cost import CostMetric, cost_metric, macs_cost
from fbnet_zoo.search.prices import PredictorValues
from fbnet_zoo.search.terms import Term
from fbnet_zoo.space.encoding import Encoding, Positions, neighbors

MARGIN = 1.0
"""Standard deviations between a prediction and the cost that counts: a network exceeds it with 16 % probability."""

_TOGETHER = 1000
"""Networks that are predicted at once, as memory grows with their number."""


@dataclass(frozen=True, kw_only=True)
class PredictedMetric:
    """The latency or energy that a network stays below with a probability of 84 %, by a predictor.

    The standard deviation of the prediction is added to it, so that a limit has a margin where the predictor knows
    little.

    Attributes:
        predictor: predictor of the device.
        values: the values that it adds up, for the parts of each network.
    """

    predictor: Predictor
    values: CostMetric

    @property
    def name(self) -> str:
        """Name of the cost."""
        return self.predictor.cost

    @property
    def unit(self) -> str:
        """Unit of all values."""
        return self.predictor.unit

    @property
    def encoding(self) -> Encoding:
        """Encoding of the space."""
        return self.values.encoding

    @property
    def size(self) -> int:
        """Number of values of a part."""
        return self.values.terms[0].values.shape[-1]

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of one network."""
        return float(self.population([positions])[0])

    def population(self, population: ArrayLike) -> NDArray[np.float64]:
        """Return the costs of a population, (networks,), given as (networks, decisions)."""
        rows = np.asarray(population, dtype=np.int64)
        parts = [rows[start : start + _TOGETHER] for start in range(0, len(rows), _TOGETHER)]
        return np.concatenate([self._predicted(part) for part in parts]) if parts else np.zeros(0)

    @cached_property
    def cheapest(self) -> Positions:
        """Positions of a network of low cost: none that differs in one decision has a lower one."""
        here = macs_cost(self.encoding).cheapest
        while True:
            near = np.array([here, *neighbors(here, self.encoding.counts)])
            best = tuple(near[self.population(near).argmin()].tolist())
            if best == here:
                return here
            here = best

    @property
    def least(self) -> float:
        """The cost of that network."""
        return self.of(self.cheapest)

    def log(self, sums: Any) -> Any:
        """Return the logarithms of costs, (networks,), for sums of `values`: an array, or a tensor."""
        mean, deviation = self.predictor.log_ms(sums)
        return mean + MARGIN * deviation

    @cached_property
    def _tables(self) -> tuple[Term, ...]:
        return tuple(term.of_decisions(self.encoding.decided) for term in self.values.terms)

    def _predicted(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        sums = np.zeros((len(rows), self.size))
        for term in self._tables:
            for at, values in enumerate(term.columns(rows.T)):  # several operators, one after another
                sums[:, at % self.size] += values
        return np.exp(self.log(sums))


def predicted_metric(
    encoding: Encoding, predictor: Predictor, *, num_classes: int = 1000, in_channels: int = 3
) -> PredictedMetric:
    """Return the cost of a space's networks that a predictor is for, in its unit.

    Args:
        encoding: encoding of the space.
        predictor: predictor of the device, fitted on networks of the space.
        num_classes: number of outputs of the classifier, as in these networks.
        in_channels: number of image channels.

    Raises:
        InputError: a table that the predictor starts from lacks an operator of the space.
    """
    values = PredictorValues(predictor=predictor, in_channels=in_channels, num_classes=num_classes)
    return PredictedMetric(predictor=predictor, values=cost_metric(encoding, values))
