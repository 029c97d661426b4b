"""The training of one candidate of a search: a task that any process can do, given the images and the folder."""

from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.datasets.shipping import Shipped
from fbnet_zoo.folders import claimed
from fbnet_zoo.search.evaluator import Outcome
from fbnet_zoo.train import Recipe
from fbnet_zoo.train.runs import train

DEFINITION, TRAINING = "network.yaml", "training"
"""Files of a candidate."""

_WAIT_S = 60
"""How long to wait for a worker of a search that was killed to notice it, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate to train.

    Attributes:
        folder: its folder, which holds its definition; an interrupted training is resumed.
        images: images to train and to evaluate it on.
        recipe: training settings; the number of threads is given, so that results are the same in every process.
        epochs: number of epochs to train it for, of those of the recipe.
        device: device to train on.
    """

    folder: Path
    images: Shipped
    recipe: Recipe
    epochs: int
    device: str

    def __str__(self) -> str:
        return f"the training of {self.folder.name}"


def train_candidate(candidate: Candidate) -> Outcome:
    """Train a candidate and return its accuracy.

    Raises:
        InputError: an image cannot be read, or the folder holds another run, or is in use by one.
        TrainingError: the loss or a weight is NaN or infinite; the last good checkpoint is kept.
    """
    with claimed(candidate.folder / TRAINING, wait_s=_WAIT_S):
        trained = train(
            candidate.folder / DEFINITION,
            candidate.images.dataset,
            candidate.recipe,
            candidate.folder / TRAINING,
            resume=True,
            device=candidate.device,
            until=candidate.epochs,
        )
    stopped = candidate.epochs < candidate.recipe.epochs
    return Outcome(top1=trained.metrics.top1 or 0.0, epochs=candidate.epochs if stopped else None)
