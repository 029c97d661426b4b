"""What to search for: a space, images, costs and a method, as one record."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fbnet_zoo.complexity import cost
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.cost import latency_cost, macs_cost, memory_cost, params_cost
from fbnet_zoo.search.images import Loading
from fbnet_zoo.search.limits import Costs, NetworkCost
from fbnet_zoo.search.oracle import Oracle
from fbnet_zoo.space import Choices, Space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import ArchSpec, CountsSpec, PreprocessSpec
from fbnet_zoo.train import Inputs, Recipe
from fbnet_zoo.train.runs import preprocess_of

_CHANNELS = 3
"""Of the networks that a search makes: grey images are repeated."""

_CLASSES = 1000
"""Of a search without images."""


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """What to search for.

    Attributes:
        space: of the networks.
        dataset: images that the networks classify; only a search in a table of accuracies goes without.
        config: of the method, and which method it is.
        recipe: how the best network is trained from scratch; its augmentation and its workers are the search's, too.
        batch_size: images of a step of the search.
        table: of the device that the networks are for; without one, latency is not known.
        table_classes: outputs of the classifier that the table was measured with (default: the data set's classes).
        input_size: of the image, px (default: the space's).
        name: of the network (default: the space's name and a digest).
        oracle: known accuracies that stand for training, for methods that evaluate networks.
        supernet: folder of a search by gradients whose weights stand for training, likewise.
    """

    space: Space
    dataset: ImageDataset | None
    config: MethodConfig
    recipe: Recipe
    batch_size: int
    table: LatencyTable | None = None
    table_classes: int | None = None
    input_size: int | None = None
    name: str | None = None
    oracle: Oracle | None = None
    supernet: Path | None = None

    @property
    def required_dataset(self) -> ImageDataset:
        """The data set.

        Raises:
            InputError: there is none.
        """
        if self.dataset is None:
            raise InputError(f"the method {self.config.method} needs images; name a data set")
        return self.dataset

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""
        return _CLASSES if self.dataset is None else len(self.dataset.classes)

    def costs(self, encoding: Encoding) -> Costs:
        """Return what networks cost by name: latency where there is a table, MACs, parameters, columns of the oracle.

        Peak memory takes long to tabulate, and is there only where a limit names it.

        Raises:
            InputError: the table lacks an operator of the space.
        """
        classes = self.num_classes
        known: list[NetworkCost] = []
        if self.table is not None:
            known.append(latency_cost(encoding, self.table, num_classes=self.table_classes or classes))
        known += [macs_cost(encoding, num_classes=classes), params_cost(encoding, num_classes=classes)]
        if "memory" in self.config.limits:
            known.append(memory_cost(encoding, num_classes=classes))
        return {each.name: each for each in (*known, *(self.oracle.costs() if self.oracle else ()))}

    @cached_property
    def preprocess(self) -> PreprocessSpec:
        """How images become the input of the supernet: of the largest size, where that is open."""
        size = self.input_size or self.space.spec.input_size[-1]
        frame = self.space.frame.model_copy(update={"input_size": size})
        return preprocess_of(frame, None, self.required_dataset)

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
    update: dict[str, Any] = {"counts": CountsSpec(params=counted.params, macs=counted.macs)}
    if job.dataset is not None:
        update["preprocess"] = preprocess_of(definition, None, job.dataset)
    return definition.model_copy(
        update=update | ({"name": name} if name else {}) | ({"summary": summary} if summary else {})
    )
