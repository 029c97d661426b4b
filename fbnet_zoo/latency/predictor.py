"""Prediction of latency, or energy, on devices where operators do not add up, learned from a few measured networks.

A Gaussian process on features of the definition (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, algorithm 2.1). Each group of features has its own linear kernel; all totals together have an RBF kernel. A few
networks do not determine the kernel weights, so predictions are averaged over weights sampled by their likelihood
(section 5.2, with a random walk). The walk starts, and is pulled to, where latency follows the logarithms of the
multiply-accumulates and of other devices' latencies: what else matters, networks must show.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

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
Groups = dict[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictor:
    """A fitted predictor, of networks or of sums over the vectors of their operators.

    Latencies are in ms; another cost has a unit of its own, in which all values are, those called ms included.

    Attributes:
        name: name of the device or of the measurements.
        weights: kernel name (or `noise`) to the log10 of its weight, averaged over the samples.
        features: features that sums of vectors are turned into.
        known: features of the networks that it was fitted on.
        factors: factor of each kernel and network, (kernels, networks).
        precision: inverse of the kernel matrix with the averaged weights, (networks, networks).
        middle: mean of the logarithms of the latencies in ms.
        scale: their standard deviation.
        error: mean absolute error, percent, of predicting each of these networks from all others.
        cost: name of the predicted cost.
        unit: its unit.
    """

    name: str
    weights: dict[str, float]
    features: "Features"
    known: "Groups"
    factors: Floats
    precision: Floats
    middle: float
    scale: float
    error: float
    cost: str = "latency"
    unit: str = "ms"

    @property
    def networks(self) -> int:
        """Number of networks that it was fitted on."""
        return len(self.precision)

    @property
    def priors(self) -> tuple[str, ...]:
        """Names of the tables that it started from."""
        return tuple(table.name for table in self.features.priors)

    @property
    def about(self) -> dict[str, Any]:
        """What tells predictors apart, as plain values."""
        own = {"name": self.name, "networks": self.networks, "priors": list(self.priors)}
        return {**own, "weights": self.weights, "middle": self.middle}

    def predict(self, networks: Sequence[Network]) -> Floats:
        """Return the latency of networks, ms."""
        return np.exp(self.log_ms(self.features.sums(networks))[0])

    def log_ms(self, sums: Any) -> tuple[Any, Any]:
        """Return the logarithms of latencies in ms, and their standard deviations, both (networks,).

        Args:
            sums: sums of `features.vector` over the operators of networks, (networks, values): an array, or a tensor,
                in which the result is differentiable.
        """
        library, like = _library(sums), _like(sums)
        own, known = self.features(sums), {name: like(each) for name, each in self.known.items()}
        kernels = _kernels(own, known)
        mean = library.einsum("kij,kj->i", kernels, like(self.factors))
        *shares, noise = (10.0**each for each in self.weights.values())
        near = library.einsum("kij,k->ij", kernels, like(np.array(shares)))
        itself = sum(share * (own[name] ** 2).sum(1) for name, share in zip(own, shares, strict=False)) + shares[-1]
        variance = itself + noise - ((near @ like(self.precision)) * near).sum(1)
        deviation = abs(variance) ** 0.5  # below 0 only by rounding
        return mean * self.scale + self.middle, deviation * self.scale


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
    networks: Sequence[Network],
    measured_ms: Sequence[float],
    *,
    priors: Sequence[LatencyTable] = (),
    name: str = "predictor",
    cost: str = "latency",
    unit: str = "ms",
) -> Predictor:
    """Fit a predictor.

    Args:
        networks: operators of each network.
        measured_ms: measured latency of each network on the device, or another cost in `unit`.
        priors: latency tables of other devices with all these operators, whose sums become features.
        name: name of the device or of the measurements (default: `predictor`).
        cost: name of the cost (default: `latency`).
        unit: unit of the cost (default: `ms`).

    Raises:
        InputError: there are fewer than ten networks, a value is not positive, or a table lacks an operator.
    """
    measured = np.asarray(measured_ms, dtype=np.float64)
    if len(networks) != len(measured) or len(networks) < FEWEST or not (measured > 0).all():
        article = "an" if cost[0] in "aeiou" else "a"
        raise InputError(f"a predictor needs at least {FEWEST} networks, each with {article} {cost} above 0 {unit}")
    features = Features(networks, priors)
    known, logs = features(features.sums(networks)), np.log(measured)
    middle, scale = float(logs.mean()), float(logs.std()) or 1.0
    measured_targets = targets = (logs - middle) / scale
    kernels = _kernels(known, known)
    kinds = (*known, "curved", "noise")
    start = np.array([_USUAL.get(name, _USUAL_OTHER) for name in kinds])
    drawn = _plausible(kernels, targets, start)
    for _ in range(_ROUNDS):
        targets, before = _without_outliers(drawn, kernels, targets), targets
        if (targets == before).all():
            break
        drawn = _plausible(kernels, targets, start)
    shares = [10.0 ** weights[:-1, None] * np.linalg.solve(_gram(weights, kernels), targets) for weights in drawn]
    average = drawn.mean(axis=0)
    precision: Floats = np.linalg.inv(_gram(average, kernels)).astype(np.float64)
    left_out = precision @ targets / np.diag(precision) + measured_targets - targets
    return Predictor(
        name=name,
        weights=dict(zip(kinds, average.tolist(), strict=True)),
        features=features,
        known=known,
        factors=np.mean(shares, axis=0),
        precision=precision,
        middle=middle,
        scale=scale,
        error=100 * float(np.abs(np.expm1(-left_out * scale)).mean()),
        cost=cost,
        unit=unit,
    )


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


class Features:
    """Features of networks in named groups, standardized on the given networks.

    Every operator has a vector of values that add up over a network: costs, traits, traits at its place, and latency by
    each prior. Features are functions of these sums.

    Args:
        networks: operators of each network.
        priors: latency tables of other devices.

    Raises:
        InputError: a table lacks an operator, or is relative to other networks.
    """

    def __init__(self, networks: Sequence[Network], priors: Sequence[LatencyTable]) -> None:
        self.priors = priors
        self._bases = np.array([table.base_ms or 0.0 for table in priors])
        for table, network in product(priors, networks):
            table.sum_ms(network)  # refuses networks that a relative table is not for
        seen = Counter(place for network in networks for place in {operator.place for operator in network})
        usual = sorted(place for place, count in seen.items() if count >= _USUAL_PLACE * len(networks))
        self._places = {place: at for at, place in enumerate(usual)}
        self._known: dict[Operator, Floats] = {}
        self._scaling = {name: _scaling(values) for name, values in self._raw(self.sums(networks)).items()}

    def vector(self, operator: Operator) -> Floats:
        """Return the values of an operator, (values,).

        Raises:
            InputError: a prior lacks the operator.
        """
        if operator not in self._known:
            traits, places = _traits(operator), np.zeros((len(self._places), _TRAITS))
            if operator.place in self._places:
                places[self._places[operator.place]] = traits
            prior = [table.operator_ms(operator) for table in self.priors]
            self._known[operator] = np.concatenate([_costs(operator), traits, places.ravel(), prior])
        return self._known[operator]

    def sums(self, networks: Sequence[Network]) -> Floats:
        """Return the sums of the vectors of networks, (networks, values)."""
        return np.array([np.sum([self.vector(operator) for operator in network], axis=0) for network in networks])

    def __call__(self, sums: Any) -> dict[str, Any]:
        """Return the features by group, each (networks, features), for an array or a tensor of sums."""
        like, raw = _like(sums), self._raw(sums)
        return {name: (raw[name] - like(middle)) * like(factor) for name, (middle, factor) in self._scaling.items()}

    def _raw(self, sums: Any) -> dict[str, Any]:
        library, last = _library(sums), _COSTS + _TRAITS * (1 + len(self._places))
        groups = {
            "macs": library.log(sums[:, :1]),
            "total": sums[:, _COSTS : _COSTS + _TRAITS],
            "place": sums[:, _COSTS + _TRAITS : last],
            "cost": sums[:, :_COSTS],
        }
        if self.priors:
            groups["prior"] = library.log(sums[:, last:] + _like(sums)(self._bases))
        return groups


_COSTS = 5
_USUAL_PLACE = 0.5  # share of networks with a place; where channels are open, most places are in hardly any network
_TRAITS = 5


def _traits(operator: Operator) -> Floats:
    """Return the features of a block: an indicator, kernel, expansion, groups and squeeze-excite."""
    if operator.middle_channels is None:
        return np.zeros(_TRAITS)
    kernel, se = (operator.kernel_size - 3) / 2, float(operator.se_channels > 0)
    return np.array([1.0, kernel, np.log(operator.expansion), np.log2(operator.groups), se])


def _costs(operator: Operator) -> Floats:
    cost = operator_cost(operator)
    counts = (cost.macs, cost.pointwise_macs, cost.depthwise_macs, cost.weights, cost.activations)
    return np.array(counts, dtype=np.float64)


def _library(values: Any) -> Any:
    """Return the library of an array, NumPy or PyTorch, which agree on all functions used here."""
    return np if isinstance(values, np.ndarray) else import_module("torch")


def _like(values: Any) -> Callable[[Floats], Any]:
    """Return a function that turns an array into one of the library, on the device of an array."""
    return np.asarray if isinstance(values, np.ndarray) else partial(_library(values).asarray, device=values.device)


def _scaling(values: Floats) -> tuple[Floats, Floats]:
    """Return offset and factor that give the whole group unit variance."""
    spread = values.std(axis=0)
    varies = spread > 1e-9 * np.abs(values).max(axis=0, initial=1e-30)
    factor = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    return values.mean(axis=0), factor / np.sqrt(max(1, varies.sum()))


def _kernels(left: Mapping[str, Any], right: Mapping[str, Any]) -> Any:
    """Return the kernels, one matrix (len(left), len(right)) for each group, and the RBF kernel of the totals."""
    library = _library(left["macs"])
    linear = [left[name] @ right[name].T for name in left]
    totals = [name for name in left if name in {"total", "cost", "prior"}]
    first, second = (library.concatenate([side[name] for name in totals], axis=1) for side in (left, right))
    distances = (first**2).sum(1)[:, None] + (second**2).sum(1)[None, :] - 2 * first @ second.T
    return library.stack([*linear, library.exp(-distances / (2 * len(totals)))])


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
