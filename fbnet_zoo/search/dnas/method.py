"""Differentiable search among candidates of blocks (FBNet, Wu et al., arXiv:1812.03443)."""

from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.dnas.cost import CandidateCost
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.method import GradientMethod
from fbnet_zoo.search.job import SearchJob


class Dnas(GradientMethod):
    """FBNet's method: every layer chooses one of several blocks."""

    def encoding(self, job: SearchJob) -> CandidateEncoding:
        """Return the layers' choices, at one image size; of `Method`."""
        return CandidateEncoding(job.space, job.input_size)

    def supernet(self, job: SearchJob) -> Supernet:
        """Return the stochastic supernet; of `GradientMethod`."""
        return Supernet(job.space, input_size=job.input_size, num_classes=job.num_classes)

    def expected_cost(self, metric: CostMetric) -> CandidateCost:
        """Return the cost under masks of candidates; of `GradientMethod`."""
        return CandidateCost(metric=metric)
