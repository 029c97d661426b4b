"""ChamNet and NARS: a predictor of accuracy chooses the networks to evaluate, batch by batch.

ChamNet (Dai et al., arXiv:1812.08934): a Gaussian process, samples chosen by Bayesian optimization, and a genetic
search within the limits. NARS (Dai et al., arXiv:2006.02049): an encoder pretrained on costs, pairs of architecture and
recipe, samples chosen from a quasi-random pool, and a genetic search for the last of them.
"""

from fbnet_zoo._require import require
from fbnet_zoo.search.cost import CostMetric, macs_cost, params_cost
from fbnet_zoo.search.evaluator import Evaluations
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.joint import JointEncoding
from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.search.method import Context
from fbnet_zoo.search.predicted import PredictedMetric
from fbnet_zoo.search.predictive.chooser import Chooser
from fbnet_zoo.search.predictive.config import NarsConfig, PredictiveConfig
from fbnet_zoo.search.predictive.encoder import EncoderFeatures
from fbnet_zoo.search.predictive.features import DecisionFeatures, StatisticFeatures, joined
from fbnet_zoo.search.predictive.pools import Candidates
from fbnet_zoo.search.random_search import RandomSearch
from fbnet_zoo.space.encoding import Encoding


class Chamnet(RandomSearch):
    """Evaluates networks in batches, each chosen by what is known of all before."""

    def check(self, job: SearchJob, context: Context) -> None:
        """Refuse a job that cannot be run, and limits that too few networks satisfy."""
        require("sklearn.gaussian_process", extra="train")
        super().check(job, context)

    def ask(self, evaluations: Evaluations, job: SearchJob) -> None:
        """Evaluate networks until the budget is spent, the target is reached, or no network is left."""
        config = job.config
        assert isinstance(config, PredictiveConfig)  # noqa: S101 - `METHODS` pairs method and config
        chooser = self.chooser(evaluations, config)
        last = False
        while not last:
            batch = chooser.next(evaluations.done)
            evaluations.top1_of([tuple(row) for row in batch.networks.tolist()], batch.predicted)
            last = batch.last or not len(batch.networks)

    def chooser(self, evaluations: Evaluations, config: PredictiveConfig) -> Chooser:
        """Return what chooses the networks of a search."""
        statistics = StatisticFeatures.of(evaluations.encoding, _free(evaluations), seed=config.seed)
        features = joined(DecisionFeatures.of(evaluations.encoding), statistics)
        return Chooser(candidates=_candidates(evaluations, config), features=features, config=config, pool=None)


class Nars(Chamnet):
    """The same for pairs of architecture and recipe, with a pretrained encoder and a quasi-random pool."""

    def encoding(self, job: SearchJob) -> Encoding:
        """Return an encoding with all decisions of the space, and of its recipe if networks are trained."""
        trained = job.oracle is None and job.supernet is None and job.evaluate is None
        return JointEncoding(job.space, job.input_size) if trained else super().encoding(job)

    def chooser(self, evaluations: Evaluations, config: PredictiveConfig) -> Chooser:
        """Return what chooses the pairs of a search."""
        assert isinstance(config, NarsConfig)  # noqa: S101 - `METHODS` pairs method and config
        encoder = EncoderFeatures.pretrained(evaluations.encoding, _free(evaluations), seed=config.seed)
        features = joined(DecisionFeatures.of(evaluations.encoding), encoder)
        candidates = _candidates(evaluations, config)
        pool = candidates.quasi_random(config.pool, seed=config.seed)
        return Chooser(candidates=candidates, features=features, config=config, pool=pool)


def _candidates(evaluations: Evaluations, config: PredictiveConfig) -> Candidates:
    encoding, among = evaluations.encoding, evaluations.evaluator.candidates
    return Candidates(encoding=encoding, costs=evaluations.costs, limits=config.limits, among=among)


def _free(evaluations: Evaluations) -> list[NetworkCost]:
    """Return costs that are known without training; a column of a table of accuracies may tell too much."""
    encoding = evaluations.encoding
    counted = {"macs": macs_cost(encoding), "params": params_cost(encoding)}
    known = {name: each for name, each in evaluations.costs.items() if isinstance(each, CostMetric | PredictedMetric)}
    return [each for each in (counted | known).values() if each.least > 0]
