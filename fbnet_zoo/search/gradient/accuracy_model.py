"""A model of the accuracies of single networks with a supernet's weights: a sum over decisions, by linear regression.

Its prior follows theta: where nothing has been evaluated, a network is the more accurate the more probable it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.search.gradient.sampling import LogProbabilities
from fbnet_zoo.space.encoding import Positions

Values = list[NDArray[np.float64]]
"""For each decision, what each option adds to the accuracy, (options,), percent."""

_LEAST_SPREAD = 0.5
"""Lowest standard deviation of accuracies that is taken for granted, percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyModel:
    """The posterior of Bayesian linear regression.

    Attributes:
        mean: mean of what each option adds, (options of all decisions,), percent.
        factor: Cholesky factor of its covariance.
        counts: number of options of each decision.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]
    counts: tuple[int, ...]

    @classmethod
    def fitted(
        cls, logs: LogProbabilities, networks: Sequence[Positions], accuracies: Sequence[float], *, noise: float
    ) -> Self:
        """Return the model after some evaluations.

        Args:
            logs: log-probability of each option of each decision.
            networks: evaluated networks.
            accuracies: accuracy of each, percent.
            noise: standard deviation of an accuracy that the model does not explain, percent.
        """
        counts = tuple(len(each) for each in logs)
        rows, y = _one_hot(networks, counts), np.asarray(accuracies)
        rows, y, spread = rows - rows.mean(0), y - y.mean(), max(float(y.std()), _LEAST_SPREAD)
        prior = np.concatenate([np.asarray(each) - np.mean(each) for each in logs])
        probable = rows @ prior
        slope = max(0.0, float(probable @ y) / (float(probable @ probable) + len(y) * 1e-3))
        precision = rows.T @ rows / noise**2 + np.eye(rows.shape[1]) * len(counts) / spread**2
        covariance = np.linalg.inv(precision)
        mean = slope * prior + covariance @ (rows.T @ (y - slope * probable)) / noise**2
        factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance))).astype(np.float64)
        return cls(mean=mean, factor=factor, counts=counts)

    def expected(self) -> Values:
        """Return the mean of what each option adds."""
        return self._split(self.mean)

    def drawn(self, generator: np.random.Generator) -> Values:
        """Return what each option adds, drawn from the posterior (Thompson sampling)."""
        return self._split(self.mean + self.factor @ generator.normal(size=len(self.mean)))

    def _split(self, values: NDArray[np.float64]) -> Values:
        return np.split(values, np.cumsum(self.counts)[:-1])


def _one_hot(networks: Sequence[Positions], counts: Sequence[int]) -> NDArray[np.float64]:
    eyes = [np.eye(count) for count in counts]
    return np.array([np.concatenate([eye[at] for eye, at in zip(eyes, each, strict=True)]) for each in networks])
