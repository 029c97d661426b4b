"""Differentiable search with masks of channels and resolution (FBNetV2, Wan et al., arXiv:2004.05565)."""

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.cost import CostMetric
from fbnet_zoo.search.dmasking.cost import MaskedCost
from fbnet_zoo.search.dmasking.supernet import MaskedSupernet, require_single_blocks
from fbnet_zoo.search.gradient.method import GradientMethod
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.layers import words


class Dmasking(GradientMethod):
    """FBNetV2's method: searches block, expansion and channels of every layer, and the image size."""

    def encoding(self, job: SearchJob) -> Encoding:
        """Return an encoding with all decisions of the space."""
        require_single_blocks(job.space)
        sizes = job.space.spec.input_size
        if job.input_size not in {None, sizes[-1]}:
            raise InputError(
                f"dmasking searches at the image sizes of the space, {words(sizes)} px for {job.space.name}, not at "
                f"{job.input_size} px; omit the size, or change the space"
            )
        return Encoding(job.space)

    def supernet(self, job: SearchJob) -> MaskedSupernet:
        """Return the masked supernet."""
        return MaskedSupernet(job.space, num_classes=len(job.searched.classes))

    def expected_cost(self, metric: CostMetric) -> MaskedCost:
        """Return the cost as an expectation over the masks of all decisions."""
        return MaskedCost(metric=metric)
