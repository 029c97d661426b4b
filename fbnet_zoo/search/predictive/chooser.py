"""The next networks to evaluate, by what is known of those before."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fbnet_zoo.search.history import EvaluatedNetwork, PredictedTop1
from fbnet_zoo.search.predictive.accuracy import FEWEST, AccuracyPredictor, Prediction
from fbnet_zoo.search.predictive.config import PredictiveConfig
from fbnet_zoo.search.predictive.features import Features
from fbnet_zoo.search.predictive.pools import Candidates
from fbnet_zoo.space.encoding import Population, Positions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Networks to evaluate.

    Attributes:
        networks: different networks, none of them evaluated before; empty if none is left.
        predicted: their predicted accuracies; empty where nothing could be predicted.
        last: whether the search ends with this batch.
    """

    networks: Population
    predicted: dict[Positions, PredictedTop1]
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chooser:
    """Chooses networks.

    Attributes:
        candidates: networks that may be chosen.
        features: what the predictor sees of them.
        config: budget, batches, and how much they explore.
        pool: networks that all batches but the last are chosen from, the first ones first; `None` if each batch is
            chosen among networks bred for it.
    """

    candidates: Candidates
    features: Features
    config: PredictiveConfig
    pool: Population | None

    def next(self, done: Sequence[EvaluatedNetwork]) -> Batch:
        """Return the batch that follows some evaluated networks."""
        known, left = self._rows(done), self.config.budget - len(done)
        judged = [each for each in done if each.whole is not None]
        if len(judged) < FEWEST:
            networks = self._drawn(known)[: min(self.config.batch_size, left)]
            return Batch(networks=networks, predicted={}, last=len(networks) == left)
        top1 = [each.whole for each in judged if each.whole is not None]
        predictor = AccuracyPredictor.fitted(self.features, self._rows(judged), top1)
        last = left <= self.config.batch_size or self._is_reached(predictor)
        exploration = 0.0 if last else self.config.exploration
        pool = self._pool(predictor, known, exploration, last=last)
        networks = pool[predictor.batch(pool, min(left, self.config.batch_size), exploration=exploration)]
        return Batch(networks=networks, predicted=_recorded(networks, predictor.predict(networks)), last=last)

    def _drawn(self, known: Population) -> Population:
        if self.pool is not None:
            return self.candidates.new(self.pool, known)
        return self.candidates.random(known, seed=self.config.seed)

    def _pool(self, predictor: AccuracyPredictor, known: Population, exploration: float, *, last: bool) -> Population:
        if self.pool is not None and not last:
            return self.candidates.new(self.pool, known)
        seed = self.config.seed + len(known)

        def score(networks: Population) -> np.ndarray:
            return predictor.score(networks, exploration=exploration)

        drawn = self.candidates.random(known, seed=seed) if self.pool is None else self.candidates.new(self.pool, known)
        return self.candidates.new(np.concatenate((self.candidates.bred(score, known, seed=seed), drawn)), known)

    def _is_reached(self, predictor: AccuracyPredictor) -> bool:
        target = self.config.target_error
        return target is not None and predictor.errors().mae <= target

    def _rows(self, networks: Sequence[EvaluatedNetwork]) -> Population:
        decisions = len(self.candidates.encoding.counts)
        rows = np.array([each.positions for each in networks], dtype=np.int64).reshape(-1, decisions)
        return self.candidates.encoding.canonical(rows)


def _recorded(networks: Population, predicted: Prediction) -> dict[Positions, PredictedTop1]:
    pairs = zip(predicted.mean.tolist(), predicted.deviation.tolist(), strict=True)
    records = (PredictedTop1(mean=round(mean, 4), deviation=round(deviation, 4)) for mean, deviation in pairs)
    return dict(zip(map(tuple, networks.tolist()), records, strict=True))
