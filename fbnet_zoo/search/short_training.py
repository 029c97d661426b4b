"""Accuracy of networks after a short training, on training images set aside for selection."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fbnet_zoo import arch_file
from fbnet_zoo.datasets import ImageDataset, Subset
from fbnet_zoo.search.images import split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.train.loop import Progress
from fbnet_zoo.train.runs import train

CANDIDATES, DEFINITION, TRAINING = "candidates", "network.yaml", "training"


@dataclass(frozen=True, kw_only=True)
class ShortTraining:
    """An evaluator that trains each network on most of a search's images and evaluates it on the others.

    Attributes:
        job: the search.
        dataset: its data set.
        encoding: encoding of the space.
        folder: parent folder of the trainings, where interrupted ones are resumed.
        epochs: epochs of each training.
        device: device to train on.
        progress: called after every epoch.
    """

    job: SearchJob
    dataset: ImageDataset
    encoding: Encoding
    folder: Path
    epochs: int
    device: str = "cpu"
    progress: Progress | None = None
    candidates: None = None

    @property
    def about(self) -> str:
        """How accuracy is determined, in words."""
        return f"after {self.epochs} epoch{'s' if self.epochs > 1 else ''} of training"

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Train each network and return its accuracy, percent."""
        return [self._train(positions) for positions in networks]

    def _train(self, positions: Positions) -> float:
        definition = finished(self.job, self.encoding.definition(positions))
        folder = self.folder / definition.name
        folder.mkdir(parents=True, exist_ok=True)
        arch_file.save(definition, folder / DEFINITION)
        own, others = split(self.dataset, self.job.loading)
        train_images = self.dataset.train
        parts = replace(self.dataset, train=Subset(train_images, own), held_out=Subset(train_images, others))
        trained = train(
            folder / DEFINITION,
            parts,
            self.job.recipe.model_copy(update={"epochs": self.epochs, "evaluate_epochs": self.epochs}),
            folder / TRAINING,
            resume=True,
            device=self.device,
            progress=self.progress,
        )
        return trained.metrics.top1 or 0.0
