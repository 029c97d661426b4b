"""A predictor of accuracy that says how sure it is, learned from networks whose accuracy is known.

A Gaussian process (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006), as in ChamNet (Dai et al.,
arXiv:1812.08934): the sum of a linear kernel and an RBF kernel on the features of networks, with noise, all three
weighted by likelihood. The process of `fbnet_zoo.latency` is another one: its features are sums over operators, and it
is differentiable in them.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo._require import require
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.predictive.features import Features, Floats
from fbnet_zoo.space.encoding import Population
from fbnet_zoo.stats import kendall, spearman

FEWEST = 3
"""Fewer networks do not determine the kernels."""

_LINEAR, _SMOOTH, _NOISE = (1e-3, 1e2), (1e-3, 1e2), (1e-3, 1.0)
"""Limits of the weights of the kernels, relative to the variance of the accuracies."""

_LENGTH = (0.3, 50.0)
"""Limits of the length scale of the RBF kernel; two options of one decision are at most 1 apart."""

_SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Predicted accuracies.

    Attributes:
        mean: accuracy of each network, (networks,), percent.
        deviation: standard deviation with which an evaluation will differ from it, (networks,), percent.
    """

    mean: Floats
    deviation: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorErrors:
    """How far predictions are from accuracies that they do not know.

    Attributes:
        networks: number of networks.
        mae: mean absolute error, points.
        spearman: rank correlation of predicted and known accuracies.
        kendall: Kendall's rank correlation (tau-b) of the same.
        within_1: share of errors below one stated standard deviation; 0.68 if the deviations are right.
        within_2: share of errors below two; 0.95 if they are right.
    """

    networks: int
    mae: float
    spearman: float
    kendall: float
    within_1: float
    within_2: float

    @classmethod
    def of(cls, predicted: Prediction, top1: Sequence[float]) -> Self:
        """Return the errors of predictions of known accuracies, percent; there are at least two."""
        errors = np.abs(predicted.mean - np.asarray(top1))
        return cls(
            networks=len(errors),
            mae=float(errors.mean()),
            spearman=spearman(predicted.mean.tolist(), top1),
            kendall=kendall(predicted.mean.tolist(), top1),
            within_1=float((errors <= predicted.deviation).mean()),
            within_2=float((errors <= 2 * predicted.deviation).mean()),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AccuracyPredictor:
    """A fitted process.

    Attributes:
        features: features of networks.
        process: scikit-learn's fitted process of standardized accuracies.
        top1: accuracies that it was fitted to, percent.
        middle: their mean.
        scale: their standard deviation.
    """

    features: Features
    process: Any
    top1: Floats
    middle: float
    scale: float

    @classmethod
    def fitted(cls, features: Features, networks: Population, top1: Sequence[float]) -> Self:
        """Fit a predictor.

        Args:
            features: features of networks.
            networks: networks with known accuracy, (networks, decisions).
            top1: accuracy of each, percent.

        Raises:
            InputError: there are fewer than three networks.
            MissingExtraError: scikit-learn is not installed.
        """
        if len(networks) < FEWEST:
            raise InputError(f"a predictor of accuracy needs at least {FEWEST} networks, got {len(networks)}")
        seen, known = features(networks), np.asarray(top1, dtype=np.float64)
        middle, scale = float(known.mean()), float(known.std())
        scale = scale if scale > _SAME else 1.0
        process = _fitted(seen, (known - middle) / scale)
        return cls(features=features, process=process, top1=known, middle=middle, scale=scale)

    def predict(self, networks: Population) -> Prediction:
        """Return the predicted accuracies of a population, (networks, decisions)."""
        mean, variance, _ = self._posterior(self.features(networks))
        return Prediction(mean=mean * self.scale + self.middle, deviation=np.sqrt(variance + self._noise) * self.scale)

    def score(self, networks: Population, *, exploration: float) -> Floats:
        """Return predicted accuracies plus `exploration` times their standard deviation, without noise, (networks,)."""
        mean, variance, _ = self._posterior(self.features(networks))
        return (mean + exploration * np.sqrt(variance)) * self.scale + self.middle

    def errors(self) -> PredictorErrors:
        """Return the errors of predicting each known network from all others, with the same weights of the kernels.

        Rasmussen and Williams, equations 5.10 to 5.12.
        """
        inverse = np.linalg.inv(self.process.L_ @ self.process.L_.T)
        precision = np.diagonal(inverse)
        targets = (self.top1 - self.middle) / self.scale
        mean = targets - self.process.alpha_ / precision
        found = Prediction(mean=mean * self.scale + self.middle, deviation=np.sqrt(1 / precision) * self.scale)
        return PredictorErrors.of(found, self.top1.tolist())

    def batch(self, networks: Population, count: int, *, exploration: float) -> list[int]:
        """Return the rows of a batch of networks worth evaluating, the most promising first.

        Each has the highest sum of predicted accuracy and `exploration` times its standard deviation, given that those
        before it in the batch are evaluated as predicted: only the deviations change (Desautels et al., Parallelizing
        Exploration-Exploitation Tradeoffs in Gaussian Process Bandit Optimization, 2014).

        Args:
            networks: networks to choose from, (networks, decisions), all different.
            count: number of rows; fewer if there are fewer networks.
            exploration: weight of the deviation; 0 exploits what is known.
        """
        seen = self.features(networks)
        mean, variance, reduced = self._posterior(seen)
        free, rows = np.ones(len(seen), dtype=bool), []
        for _ in range(min(count, len(seen))):
            row = int(np.argmax(np.where(free, mean + exploration * np.sqrt(variance), -np.inf)))
            free[row] = False
            rows.append(row)
            shared = self._kernel(seen, seen[row : row + 1])[:, 0] - reduced.T @ reduced[:, row]
            step = shared / np.sqrt(variance[row] + self._noise)
            reduced, variance = np.vstack((reduced, step)), np.maximum(variance - step**2, 0.0)
        return rows

    def _posterior(self, seen: Floats) -> tuple[Floats, Floats, Floats]:
        """Return mean and variance of standardized accuracies, and the factor that reduces their prior covariance."""
        solve = require("scipy.linalg", extra="train").solve_triangular
        shared = self._kernel(seen, self.process.X_train_)
        reduced = solve(self.process.L_, shared.T, lower=True)
        variance = self._kernel.diag(seen) - (reduced**2).sum(0)
        return shared @ self.process.alpha_, np.maximum(variance, 0.0), reduced

    @property
    def _kernel(self) -> Any:
        return self.process.kernel_.k1

    @property
    def _noise(self) -> float:
        return float(self.process.kernel_.k2.noise_level)


def _fitted(seen: Floats, targets: NDArray[np.float64]) -> Any:
    """Return scikit-learn's process, with the weights of its kernels fitted."""
    library = require("sklearn.gaussian_process", extra="train")
    kernels = require("sklearn.gaussian_process.kernels", extra="train")
    linear = kernels.ConstantKernel(1.0, _LINEAR) * kernels.DotProduct(0, "fixed")
    smooth = kernels.ConstantKernel(0.3, _SMOOTH) * kernels.RBF(np.sqrt(seen.shape[1]), _LENGTH)
    process = library.GaussianProcessRegressor(linear + smooth + kernels.WhiteKernel(0.1, _NOISE))
    with warnings.catch_warnings():  # of weights at their limits
        warnings.simplefilter("ignore")
        return process.fit(seen, targets)
