"""The base class of methods that train a supernet and theta by gradients."""

from abc import ABC, abstractmethod

import torch

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.gradient.base_supernet import check_size
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.expectation import PredictedCost
from fbnet_zoo.search.gradient.images import search_data
from fbnet_zoo.search.gradient.loop import search
from fbnet_zoo.search.gradient.networks import ExpectedCost, SearchNetwork
from fbnet_zoo.search.gradient.objective import check_objective
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Costs
from fbnet_zoo.search.method import Context, SearchResult
from fbnet_zoo.search.predicted import PredictedMetric
from fbnet_zoo.space.encoding import Encoding


class GradientMethod(ABC):
    """A method with a supernet."""

    @abstractmethod
    def encoding(self, job: SearchJob) -> Encoding:
        """Return the encoding of the decisions that the method searches."""

    @abstractmethod
    def supernet(self, job: SearchJob) -> SearchNetwork:
        """Return the supernet, with weights drawn from PyTorch's global random numbers."""

    @abstractmethod
    def expected_cost(self, metric: CostMetric) -> ExpectedCost:
        """Return the differentiable form of a cost."""

    def check(self, job: SearchJob, context: Context) -> None:
        """Refuse a job that cannot be run."""
        config = self._config(job)
        if job.dataset is None or any(each is not None for each in (job.oracle, job.supernet, job.evaluate)):
            raise InputError(
                f"the method {config.method} requires a data set, and accepts no oracle, no supernet and no evaluator"
            )
        check_size(self.encoding(job))
        check_objective(_metrics(context.costs), config.penalty, config.limits)
        search_data(job.searched, job.loading)  # a batch may be larger than a part of the images

    def run(self, job: SearchJob, context: Context) -> SearchResult:
        """Search the space."""
        config, dataset = self._config(job), job.searched
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(config.seed)
            supernet = self.supernet(job)
        found = search(
            supernet,
            search_data(dataset, job.loading),
            [self._expected(metric) for metric in _metrics(context.costs)],
            config,
            folder=context.folder,
            processes=context.processes,
            progress=context.progress,
        )
        return SearchResult(networks=found.networks, history=found.epochs, judged="with the supernet's weights")

    def _expected(self, metric: CostMetric | PredictedMetric) -> ExpectedCost:
        return PredictedCost(metric=metric) if isinstance(metric, PredictedMetric) else self.expected_cost(metric)

    def _config(self, job: SearchJob) -> GradientConfig:
        assert isinstance(job.config, GradientConfig)  # noqa: S101 - `METHODS` pairs method and config
        return job.config


def _metrics(costs: Costs) -> list[CostMetric | PredictedMetric]:
    return [cost for cost in costs.values() if isinstance(cost, CostMetric | PredictedMetric)]
