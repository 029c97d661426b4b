"""Accuracy by a short training of each network, on images that neither it nor the final training is judged on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fbnet_zoo import arch_file
from fbnet_zoo.search.images import Chosen, split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.train.loop import Progress
from fbnet_zoo.train.runs import train

CANDIDATES, DEFINITION, TRAINING = "candidates", "network.yaml", "training"


@dataclass(frozen=True, kw_only=True)
class ShortTraining:
    """An evaluator that trains each network on most of a search's images, and judges it on the others.

    Attributes:
        job: of the search.
        encoding: of the space.
        folder: in which each network has a folder of its own; an interrupted training is resumed there.
        epochs: of each training.
        device: where to train.
        progress: called after every epoch.
    """

    job: SearchJob
    encoding: Encoding
    folder: Path
    epochs: int
    device: str = "cpu"
    progress: Progress | None = None
    candidates: None = None

    @property
    def about(self) -> str:
        """How networks are judged, in words."""
        return f"after {self.epochs} epoch{'s' if self.epochs > 1 else ''} of training"

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        """Train each network, and return its accuracy, percent."""
        return [self._train(positions) for positions in networks]

    def _train(self, positions: Positions) -> float:
        definition = finished(self.job, self.encoding.definition(positions))
        folder = self.folder / definition.name
        folder.mkdir(parents=True, exist_ok=True)
        arch_file.save(definition, folder / DEFINITION)
        dataset = self.job.required_dataset
        own, others = split(dataset, self.job.loading)
        parts = replace(dataset, train=Chosen(dataset.train, own), held_out=Chosen(dataset.train, others))
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
