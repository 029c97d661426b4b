"""What a predictor of accuracy sees of a network: its decisions, and statistics that cost no training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.space.encoding import Decision, Encoding, Population

Floats = NDArray[np.float64]

Features = Callable[[Population], Floats]
"""Returns the features of a population, (networks, features), given its positions, (networks, decisions)."""

_DRAWN = 1000
"""Random networks by which statistics are standardized."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionFeatures:
    """The decisions of a network: numbers from -1/2 to 1/2, one-hot for others.

    The options of a decision are at most 1 apart, whether they are numbers or words.

    Attributes:
        encoding: encoding of the space.
        columns: for each decision, the features of its options, (options, features).
    """

    encoding: Encoding
    columns: tuple[Floats, ...]

    @classmethod
    def of(cls, encoding: Encoding) -> Self:
        """Return the features of a space."""
        return cls(encoding=encoding, columns=tuple(map(_options, encoding.decisions)))

    def __call__(self, networks: Population) -> Floats:
        """Return the features of a population, (networks, features)."""
        rows = self.encoding.canonical(networks)
        return np.concatenate([each[rows[:, at]] for at, each in enumerate(self.columns)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StatisticFeatures:
    """Logarithms of costs that are known without training, with mean 0 and variance 1 over the space.

    Attributes:
        costs: the costs.
        middle: mean of each logarithm.
        scale: standard deviation of each.
    """

    costs: tuple[NetworkCost, ...]
    middle: Floats
    scale: Floats

    @classmethod
    def of(cls, encoding: Encoding, costs: Sequence[NetworkCost], *, seed: int) -> Self:
        """Return the features by some costs; the networks that standardize them are drawn with a seed."""
        logs = _logs(costs, random_networks(encoding, _DRAWN, generator=np.random.default_rng(seed)))
        return cls(costs=tuple(costs), middle=logs.mean(0), scale=np.where(logs.std(0) > 0, logs.std(0), 1.0))

    def __call__(self, networks: Population) -> Floats:
        """Return the features of a population, (networks, features)."""
        return (_logs(self.costs, networks) - self.middle) / self.scale


def joined(*parts: Features) -> Features:
    """Return the features of all parts, side by side."""
    return lambda networks: np.concatenate([part(networks) for part in parts], axis=1)


def random_networks(encoding: Encoding, count: int, *, generator: np.random.Generator) -> Population:
    """Return random networks, (count, decisions); every option of a decision is equally likely."""
    return np.stack([generator.integers(options, size=count) for options in encoding.counts], axis=1)


def _options(decision: Decision) -> Floats:
    try:
        numbers = np.array([float(option) for option in decision.options])
    except ValueError:
        return np.eye(len(decision.options)) / np.sqrt(2)
    return ((numbers - numbers.min()) / np.ptp(numbers) - 0.5)[:, None]


def _logs(costs: Sequence[NetworkCost], networks: Population) -> Floats:
    return np.log(np.stack([each.population(networks) for each in costs], axis=1))
