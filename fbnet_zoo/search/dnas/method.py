"""Differentiable search among candidate blocks (FBNet, Wu et al., arXiv:1812.03443)."""

from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.dnas.cost import CandidateCost
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.method import GradientMethod
from fbnet_zoo.search.job import SearchJob


class Dnas(GradientMethod):
    """FBNet's method: searches a block for every layer."""

    def encoding(self, job: SearchJob) -> CandidateEncoding:
        """Return an encoding of the blocks of all layers, at one image size."""
        return CandidateEncoding(job.space, job.input_size)

    def supernet(self, job: SearchJob) -> Supernet:
        """Return the stochastic supernet."""
        return Supernet(job.space, input_size=job.input_size, num_classes=len(job.searched.classes))

    def expected_cost(self, metric: CostMetric) -> CandidateCost:
        """Return the cost as an expectation over the masks of candidates."""
        return CandidateCost(metric=metric)
