"""Latency prediction for devices where operators do not add up, learned from a few measured networks.

A Gaussian process on features of the definition (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, algorithm 2.1). Each group of features has its own linear kernel; all totals together have an RBF kernel. A few
networks do not determine the kernel weights, so predictions are averaged over weights sampled by their likelihood
(section 5.2, with a random walk). The walk starts, and is pulled to, where latency follows the logarithms of the
multiply-accumulates and of other devices' latencies: what else matters, networks must show.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.operator_costs import operator_cost
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.stats import mape, spearman

FEWEST = 10
"""Fewer networks do not determine the weights of the kernels."""

_MOST_FOR_WEIGHTS = 200  # enough for the weights; the cost of sampling them is cubic in this number
_USUAL = {"macs": 0.3, "prior": 0.3, "noise": -0.7}  # log10 of the weights at the start of the walk
_USUAL_OTHER = -1.5
_LEAST, _MOST = -4.0, 1.5  # limits of the walk
_PULL = 1.0  # strength of the prior that pulls the walk to its start
_ROUNDS, _FAR = 3, 2.5  # measurements of phones have outliers: rounds, and standard deviations that are far
_DEVIATIONS_OF_MAD = 1.4826  # of a normal distribution: its standard deviation over its median absolute deviation
_STEPS, _STRIDE, _STEP, _SEED = 400, 10, 0.3, 0

Network = Sequence[Operator]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A fitted predictor.

    Attributes:
        weights: kernel name (or `noise`) to the log10 of its weight, averaged over the samples.
        predict: function that returns the latency of networks, ms.
    """

    weights: dict[str, float]
    predict: Callable[[Sequence[Network]], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorEvaluation:
    """Accuracy of a predictor on held-out networks.

    Attributes:
        samples: number of networks that it was fitted on.
        held_out: number of networks that it was tested on.
        spearman: rank correlation of predicted and measured latency, for each seed.
        mape: mean absolute error, percent, for each seed.
    """

    samples: int
    held_out: int
    spearman: tuple[float, ...]
    mape: tuple[float, ...]


def fit_predictor(
    networks: Sequence[Network], measured_ms: Sequence[float], *, priors: Sequence[LatencyTable] = ()
) -> Predictor:
    """Fit a predictor.

    Args:
        networks: operators of each network.
        measured_ms: measured latency of each network on the device.
        priors: latency tables of other devices with all these operators, whose sums become features.

    Raises:
        InputError: there are fewer than ten networks, a latency is not positive, or a table lacks an operator.
    """
    measured = np.asarray(measured_ms, dtype=np.float64)
    if len(networks) != len(measured) or len(networks) < FEWEST or not (measured > 0).all():
        raise InputError(f"a predictor needs at least {FEWEST} networks, each with a latency above 0 ms")
    features = _Features(networks, priors)
    known, logs = features(networks), np.log(measured)
    middle, scale = float(logs.mean()), float(logs.std()) or 1.0
    targets = (logs - middle) / scale
    kernels = _kernels(known, known)
    names = (*known, "curved", "noise")
    start = np.array([_USUAL.get(name, _USUAL_OTHER) for name in names])
    drawn = _plausible(kernels, targets, start)
    for _ in range(_ROUNDS):
        targets, before = _without_outliers(drawn, kernels, targets), targets
        if (targets == before).all():
            break
        drawn = _plausible(kernels, targets, start)
    shares = [10.0 ** weights[:-1, None] * np.linalg.solve(_gram(weights, kernels), targets) for weights in drawn]
    factors = np.mean(shares, axis=0)

    def predict(others: Sequence[Network]) -> Floats:
        logs = np.einsum("kij,kj->i", _kernels(features(others), known), factors)
        return np.exp(logs * scale + middle)

    return Predictor(weights=dict(zip(names, drawn.mean(axis=0).tolist(), strict=True)), predict=predict)


def evaluate(
    networks: Sequence[Network],
    measured_ms: Sequence[float],
    *,
    samples: int,
    seeds: Sequence[int] = range(5),
    priors: Sequence[LatencyTable] = (),
) -> PredictorEvaluation:
    """Fit on `samples` random networks and test on all others, once for each seed.

    Raises:
        InputError: there are too few networks.
    """
    if len(networks) < samples + 2:
        raise InputError(f"{len(networks)} networks are too few to fit on {samples} and test on the others")
    measured = np.asarray(measured_ms, dtype=np.float64)
    scores = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(networks))
        chosen, others = order[:samples], order[samples:]
        predictor = fit_predictor([networks[at] for at in chosen], measured[chosen].tolist(), priors=priors)
        predicted = predictor.predict([networks[at] for at in others]).tolist()
        held_out = measured[others].tolist()
        scores.append((spearman(predicted, held_out), mape(predicted, held_out)))
    return PredictorEvaluation(
        samples=samples,
        held_out=len(networks) - samples,
        spearman=tuple(rank for rank, _ in scores),
        mape=tuple(error for _, error in scores),
    )


class _Features:
    """Features of networks in named groups, standardized on the given networks."""

    def __init__(self, networks: Sequence[Network], priors: Sequence[LatencyTable]) -> None:
        self._priors = priors
        self._places = sorted({operator.place for network in networks for operator in network})
        self._scaling = {name: _scaling(values) for name, values in self._raw(networks).items()}

    def __call__(self, networks: Sequence[Network]) -> dict[str, Floats]:
        raw = self._raw(networks)
        return {name: (raw[name] - middle) * factor for name, (middle, factor) in self._scaling.items()}

    def _raw(self, networks: Sequence[Network]) -> dict[str, Floats]:
        costs = np.array([_costs(network) for network in networks])
        groups = {
            "macs": np.log(costs[:, :1]),
            "total": np.array([self._total(network) for network in networks]),
            "place": np.array([self._by_place(network) for network in networks]),
            "cost": costs,
        }
        if self._priors:
            sums = [[table.sum_ms(network) for table in self._priors] for network in networks]
            groups["prior"] = np.log(sums)
        return groups

    def _total(self, network: Network) -> Floats:
        return np.sum([_traits(operator) for operator in network], axis=0)

    def _by_place(self, network: Network) -> Floats:
        counts = {place: np.zeros(_TRAITS) for place in self._places}
        for operator in network:
            if operator.place in counts:
                counts[operator.place] += _traits(operator)
        return np.concatenate([counts[place] for place in self._places])


_TRAITS = 5


def _traits(operator: Operator) -> Floats:
    """Return the features of a block: an indicator, kernel, expansion, groups and squeeze-excite."""
    if operator.middle_channels is None:
        return np.zeros(_TRAITS)
    kernel, se = (operator.kernel_size - 3) / 2, float(operator.se_channels > 0)
    return np.array([1.0, kernel, np.log(operator.expansion), np.log2(operator.groups), se])


def _costs(network: Network) -> Floats:
    costs = [operator_cost(operator) for operator in network]
    counts = [(cost.macs, cost.pointwise_macs, cost.depthwise_macs, cost.weights, cost.activations) for cost in costs]
    return np.sum(counts, axis=0, dtype=np.float64)


def _scaling(values: Floats) -> tuple[Floats, Floats]:
    """Return offset and factor that give the whole group unit variance."""
    spread = values.std(axis=0)
    varies = spread > 1e-9 * np.abs(values).max(axis=0, initial=1e-30)
    factor = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    return values.mean(axis=0), factor / np.sqrt(max(1, varies.sum()))


def _kernels(left: dict[str, Floats], right: dict[str, Floats]) -> Floats:
    """Return the kernels, one matrix (len(left), len(right)) for each group, and the RBF kernel of the totals."""
    linear = [left[name] @ right[name].T for name in left]
    totals = [name for name in left if name in {"total", "cost", "prior"}]
    first, second = (np.concatenate([side[name] for name in totals], axis=1) for side in (left, right))
    distances = (first**2).sum(1)[:, None] + (second**2).sum(1)[None, :] - 2 * first @ second.T
    return np.stack([*linear, np.exp(-distances / (2 * len(totals)))])


def _plausible(kernels: Floats, targets: Floats, start: Floats) -> Floats:
    """Return samples of log10 of the weights of the kernels and the noise, (samples, kernels + 1), from a start on."""
    kept = slice(0, _MOST_FOR_WEIGHTS)
    kernels, targets = kernels[:, kept, kept], targets[kept]
    generator, weights, drawn = np.random.default_rng(_SEED), start, []
    cost = _cost_of(weights, kernels, targets, start)
    for step in range(_STEPS):
        trial = np.clip(weights + generator.normal(0, _STEP, len(weights)), _LEAST, _MOST)
        trial_cost = _cost_of(trial, kernels, targets, start)
        if np.log(generator.random()) < cost - trial_cost:
            weights, cost = trial, trial_cost
        if step >= _STEPS // 4 and step % _STRIDE == 0:
            drawn.append(weights)
    return np.array(drawn)


def _without_outliers(drawn: Floats, kernels: Floats, targets: Floats) -> Floats:
    """Return targets brought nearer to what all others predict for them (section 5.4.2), where they are far from it."""
    inverses = [np.linalg.inv(_gram(weights, kernels)) for weights in drawn]
    errors = np.mean([inverse @ targets / np.diag(inverse) for inverse in inverses], axis=0)
    usual = _DEVIATIONS_OF_MAD * float(np.median(np.abs(errors - np.median(errors))))
    return targets - np.sign(errors) * np.maximum(0.0, np.abs(errors) - _FAR * usual)


def _cost_of(weights: Floats, kernels: Floats, targets: Floats, start: Floats) -> float:
    """Return the negative log posterior: likelihood of the targets, and the prior that pulls to the start."""
    lower = np.linalg.cholesky(_gram(weights, kernels))
    white = np.linalg.solve(lower, targets)
    pull = _PULL * float(((weights - start) ** 2).sum())
    return 0.5 * float(white @ white) + float(np.log(np.diag(lower)).sum()) + pull


def _gram(weights: Floats, kernels: Floats) -> Floats:
    return np.tensordot(10.0 ** weights[:-1], kernels, 1) + 10.0 ** weights[-1] * np.eye(kernels.shape[1])
