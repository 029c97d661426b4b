"""Accuracy of networks after a short training, on training images set aside for selection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from fbnet_zoo import arch_file
from fbnet_zoo._require import require
from fbnet_zoo.datasets import ImageDataset, Subset
from fbnet_zoo.datasets.shipping import Shipped
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.candidate import DEFINITION, Candidate, train_candidate
from fbnet_zoo.search.config import Halving
from fbnet_zoo.search.evaluator import Outcome
from fbnet_zoo.search.halving import halved
from fbnet_zoo.search.images import split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.joint import recipe_of
from fbnet_zoo.search.workers.pool import Here, Pool
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.train import Recipe

CANDIDATES = "candidates"


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
        halving: when and how the poorer networks of a batch are stopped early (default: never).
        pool: what trains them (default: this process, one after the other).
    """

    job: SearchJob
    dataset: ImageDataset
    encoding: Encoding
    folder: Path
    epochs: int
    device: str = "cpu"
    halving: Halving | None = None
    pool: Pool = field(default_factory=Here)
    candidates: None = None

    @property
    def about(self) -> str:
        """How accuracy is determined, in words."""
        most = "up to " if self.halving else ""
        return f"after {most}{self.epochs} epoch{'s' if self.epochs > 1 else ''} of training"

    def check(self) -> None:
        """Refuse what cannot be run, before the folder of the search is created.

        Raises:
            InputError: networks would be compared after their whole training.
            MissingExtraError: Ray is asked for, and not installed.
        """
        if self.halving is not None and self.halving.epochs >= self.epochs:
            raise InputError(
                f"successive halving compares networks after {self.halving.epochs} epochs, but they are trained for "
                f"{self.epochs}; lower --halving, or train for longer"
            )
        if self.job.workers.ray_address is not None:
            require("ray", extra="ray")

    def top1(self, networks: Sequence[Positions]) -> Iterator[Outcome]:
        """Train each network and yield what became of it, in order."""
        prepared = [self._prepared(positions) for positions in networks]
        if self.halving is None:
            yield from self._trained(prepared, self.epochs)
            return

        def train(places: Sequence[int], epochs: int) -> Iterator[Outcome]:
            return self._trained([prepared[place] for place in places], epochs)

        yield from halved(len(networks), self.epochs, self.halving, train)

    def _trained(self, candidates: Sequence[Candidate], epochs: int) -> Iterator[Outcome]:
        tasks = [replace(candidate, epochs=epochs) for candidate in candidates]
        for answer in self.pool.answers(train_candidate, tasks):
            yield Outcome(failed=answer.failed) if answer.failed else answer.value

    def _prepared(self, positions: Positions) -> Candidate:
        definition = finished(self.job, self.encoding.definition(positions))
        folder = self.folder.resolve() / definition.name
        folder.mkdir(parents=True, exist_ok=True)
        arch_file.save(definition, folder / DEFINITION)
        recipe = recipe_of(self.encoding, positions, self.recipe)
        return Candidate(folder=folder, images=self.images, recipe=recipe, epochs=self.epochs, device=self.device)

    @cached_property
    def recipe(self) -> Recipe:
        """Recipe of all trainings, apart from what is searched; with the threads of this process if it says nothing."""
        rhythm = self.halving.epochs if self.halving else self.epochs
        threads = self.job.recipe.threads or torch.get_num_threads()
        update = {"epochs": self.epochs, "evaluate_epochs": rhythm, "threads": threads}
        return self.job.recipe.model_copy(update=update)

    @cached_property
    def images(self) -> Shipped:
        """The images to train on, and those to evaluate with."""
        own, others = split(self.dataset, self.job.loading)
        train_images = self.dataset.train
        return Shipped(replace(self.dataset, train=Subset(train_images, own), held_out=Subset(train_images, others)))
