"""What shall be searched for: a space, images, costs and a method, as one record."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fbnet_zoo.benchmarks.latency_table import LatencyTable
from fbnet_zoo.complexity import cost
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.search.config import SearchConfig
from fbnet_zoo.search.images import Loading
from fbnet_zoo.search.methods import Task
from fbnet_zoo.search.record import MethodName
from fbnet_zoo.space import Choices, Space
from fbnet_zoo.spec import ArchSpec, CountsSpec, PreprocessSpec
from fbnet_zoo.train import Inputs, Recipe
from fbnet_zoo.train.runs import preprocess_of

_CHANNELS = 3
"""Of the networks that a search makes: grey images are repeated."""


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """What shall be searched for.

    Attributes:
        space: where.
        dataset: what the networks shall tell apart.
        method: how.
        config: of the method; its limits and its penalty name metrics.
        recipe: how the best network is trained from scratch; its augmentation and its workers are the search's, too.
        batch_size: images of a step of the search.
        table: of the device that the networks are for; without one, latency is not known.
        table_classes: outputs of the classifier whose latency counts, where the table is for no other number.
        input_size: of the image, px; what the space says if not said.
        name: of the network; the space's name and a digest if not said.
    """

    space: Space
    dataset: ImageDataset
    method: MethodName
    config: SearchConfig
    recipe: Recipe
    batch_size: int
    table: LatencyTable | None = None
    table_classes: int | None = None
    input_size: int | None = None
    name: str | None = None

    @cached_property
    def task(self) -> Task:
        """What the networks are for."""
        classes = len(self.dataset.classes)
        return Task(
            space=self.space,
            table=self.table,
            input_size=self.input_size,
            num_classes=classes,
            table_classes=self.table_classes or classes,
        )

    @cached_property
    def preprocess(self) -> PreprocessSpec:
        """How images become the input of the supernet: of the largest size, where that is open."""
        size = self.input_size or self.space.spec.input_size[-1]
        frame = self.space.frame.model_copy(update={"input_size": size})
        return preprocess_of(frame, None, self.dataset)

    @cached_property
    def loading(self) -> Loading:
        """How images become the batches of the search."""
        return Loading(
            inputs=Inputs(preprocess=self.preprocess, channels=_CHANNELS),
            augmentation=self.recipe.augmentation,
            batch_size=self.batch_size,
            seed=self.config.seed,
            workers=self.recipe.workers,
        )

    def definition(self, choices: Choices, *, name: str | None = None) -> ArchSpec:
        """Return the network of some choices, for images of `input_size` where that was said.

        Raises:
            InputError: the space does not offer these choices.
        """
        arch = self.space.decode(choices, name=name)
        return arch.model_copy(update={"input_size": self.input_size or arch.input_size})


def finished(job: SearchJob, definition: ArchSpec, *, name: str | None = None, summary: str | None = None) -> ArchSpec:
    """Return the definition of a network as an entry of the zoo: counted, with its preparation of images."""
    counted = cost(definition)
    update: dict[str, Any] = {
        "counts": CountsSpec(params=counted.params, macs=counted.macs),
        "preprocess": preprocess_of(definition, None, job.dataset),
    }
    return definition.model_copy(
        update=update | ({"name": name} if name else {}) | ({"summary": summary} if summary else {})
    )
