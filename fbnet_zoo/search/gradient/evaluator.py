"""Accuracy of single networks with their weights in a supernet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from fbnet_zoo.batch_norm import recalibrate
from fbnet_zoo.search.dmasking.resolution import read
from fbnet_zoo.search.gradient.batches import SearchData
from fbnet_zoo.search.gradient.networks import SearchNetwork
from fbnet_zoo.space.encoding import Positions
from fbnet_zoo.train.batches import Batch
from fbnet_zoo.train.evaluate import evaluate_batches
from fbnet_zoo.train.processes import Processes


@dataclass(frozen=True, kw_only=True)
class SupernetEvaluator:
    """An evaluator that extracts networks from a supernet.

    Batch norm statistics of a supernet are those of mixtures and wrong for a single network, so they are recalibrated
    on images of the weights; accuracy is measured on theta's.

    Attributes:
        supernet: trained supernet.
        data: images to recalibrate and evaluate with.
        recalibration_batches: number of batches for batch norm recalibration.
        processes: processes that each hold the supernet; each network is evaluated by one of them, in full precision.
    """

    supernet: SearchNetwork
    data: SearchData
    recalibration_batches: int
    processes: Processes = field(default_factory=Processes)
    about: str = "with the supernet's weights"
    candidates: None = None

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Return the accuracy of each network, percent, the same in all processes."""
        return self.processes.spread(networks, self._top1)

    @property
    def images(self) -> int:
        """Number of images that accuracies are measured on; of a last batch that is smaller, those of a whole one."""
        batch, _ = next(iter(self.data.theta.batches(0, 0)))
        return self.data.theta.steps * len(batch)

    @property
    def recalibration_images(self) -> int:
        """Number of images for batch norm recalibration."""
        return sum(len(images) for images, _ in islice(self.data.weights.batches(0, 0), self.recalibration_batches))

    def _top1(self, positions: Positions) -> float:
        network, device = self.supernet.extract(positions), self.processes.device
        size = network.spec.input_size if network.spec.input_size < self.supernet.encoding.input_size else None
        seen = islice(self.data.weights.batches(0, 0), self.recalibration_batches)
        recalibrate(network, (images.to(device) for images, _ in _sized(seen, size)))
        return evaluate_batches(network, _sized(self.data.theta.batches(0, 0), size), device=device).top1


def _sized(batches: Iterable[Batch], size: int | None) -> Iterable[Batch]:
    """Sub-sample images as the supernet does, for a network with a smaller image size."""
    return batches if size is None else ((read(images, size), classes) for images, classes in batches)
