"""What to search for, as one record: a space, images, costs and a method."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fbnet_zoo.complexity import cost
from fbnet_zoo.datasets import ImageDataset, some_classes
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.predictor import Predictor
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.search.config import LATENCY, MethodConfig
from fbnet_zoo.search.cost import latency_cost, macs_cost, memory_cost, params_cost
from fbnet_zoo.search.images import Loading
from fbnet_zoo.search.limits import Costs, NetworkCost
from fbnet_zoo.search.oracle import Oracle
from fbnet_zoo.search.predicted import predicted_metric
from fbnet_zoo.search.workers.settings import HERE, Workers
from fbnet_zoo.space import Choices, Space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import ArchSpec, CountsSpec, PreprocessSpec
from fbnet_zoo.train import Inputs, Recipe
from fbnet_zoo.train.matching import preprocess_of

_CHANNELS = 3
"""Input channels of searched networks; gray images are repeated."""

_CLASSES = 1000
"""Number of classes of a search without images."""


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """What to search for.

    Attributes:
        space: the search space.
        dataset: images to classify; optional only with `oracle` and `evaluate`.
        classes: number of classes, drawn with `config.split_seed`, whose images are searched with; the best network is
            trained with all (default: all). The FBNet paper searches with 100 classes of ImageNet.
        config: configuration of the method, which also selects the method.
        recipe: training recipe of the best network; its augmentation and workers also apply to the search.
        batch_size: images per search step.
        table: latency table of the target device; without one, latency is unknown.
        other_tables: latency tables of other devices, each for a cost `latency_<name of the table>`.
        predictor: predictor of the latency of the target device, instead of a table.
        other_predictors: predictors of further costs, such as energy.
        table_classes: number of classes the tables or the predictors' networks were measured with (default: the data
            set's).
        input_size: side of the image, px (default: the space's).
        name: network name (default: the space's name and a digest).
        oracle: table of known accuracies that replaces training, for methods that evaluate networks.
        metrics: own costs, which limits can name: functions from the encoding of the space to a cost, such as
            `lambda encoding: additive_cost(encoding, energy, name="energy", unit="mJ")`.
        evaluate: returns the accuracy of a network, percent; replaces training, for methods that evaluate networks.
        workers: where the networks that are evaluated by training are trained.
        supernet: folder of a `dnas` or `dmasking` run whose supernet replaces training, for the same methods.
    """

    space: Space
    dataset: ImageDataset | None
    config: MethodConfig
    recipe: Recipe
    batch_size: int
    table: LatencyTable | None = None
    other_tables: tuple[LatencyTable, ...] = ()
    predictor: Predictor | None = None
    other_predictors: tuple[Predictor, ...] = ()
    table_classes: int | None = None
    input_size: int | None = None
    name: str | None = None
    oracle: Oracle | None = None
    workers: Workers = HERE
    supernet: Path | None = None
    metrics: tuple[Callable[[Encoding], NetworkCost], ...] = ()
    evaluate: Callable[[ArchSpec], float] | None = None
    classes: int | None = None

    @property
    def required_dataset(self) -> ImageDataset:
        """The data set.

        Raises:
            InputError: the job has no data set.
        """
        if self.dataset is None:
            raise InputError(f"the method {self.config.method} needs images; give a data set")
        return self.dataset

    @cached_property
    def searched(self) -> ImageDataset:
        """The images of the search: those of some classes, or of all.

        Raises:
            InputError: the job has no data set, or one with fewer classes.
        """
        dataset = self.required_dataset
        return dataset if self.classes is None else some_classes(dataset, self.classes, seed=self.config.split_seed)

    @property
    def num_classes(self) -> int:
        """Number of outputs of the classifier of the networks that are searched for."""
        return _CLASSES if self.dataset is None else len(self.dataset.classes)

    @property
    def tables(self) -> tuple[tuple[str, LatencyTable], ...]:
        """The latency tables, each with the name of its cost."""
        own = ((LATENCY, self.table),) if self.table else ()
        return (*own, *((f"{LATENCY}_{each.name}", each) for each in self.other_tables))

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """The predictors of all costs."""
        return ((self.predictor,) if self.predictor else ()) + self.other_predictors

    def costs(self, encoding: Encoding) -> Costs:
        """Return the costs of networks by name: of devices if known, MACs, parameters, own ones, columns of the oracle.

        Peak memory is slow to tabulate, so it is included only if a limit names it.

        Raises:
            InputError: the table lacks an operator of the space, or an own cost has the name of another.
        """
        classes = self.num_classes
        measured = self.table_classes or classes
        known: list[NetworkCost] = [
            latency_cost(encoding, table, num_classes=measured, name=name) for name, table in self.tables
        ]
        known += [predicted_metric(encoding, each, num_classes=measured) for each in self.predictors]
        known.sort(key=lambda each: each.name != LATENCY)  # the target device comes first
        known += [macs_cost(encoding, num_classes=classes), params_cost(encoding, num_classes=classes)]
        if "memory" in self.config.limits:
            known.append(memory_cost(encoding, num_classes=classes))
        known += [make(encoding) for make in self.metrics]
        found = {each.name: each for each in known}
        if len(found) < len(known):
            raise InputError(
                f"two costs have the same name, among {', '.join(each.name for each in known)}; rename one"
            )
        columns = self.oracle.costs(self.config.limits) if self.oracle else ()
        return found | {each.name: each for each in columns}

    @cached_property
    def preprocess(self) -> PreprocessSpec:
        """Preprocessing of the supernet's images, at the largest size if the size is open."""
        size = self.input_size or self.space.spec.input_size[-1]
        frame = self.space.frame.model_copy(update={"input_size": size})
        return preprocess_of(frame, None, self.required_dataset)

    @cached_property
    def loading(self) -> Loading:
        """How images are loaded into the batches of the search."""
        return Loading(
            inputs=Inputs(preprocess=self.preprocess, channels=_CHANNELS),
            augmentation=self.recipe.augmentation,
            batch_size=self.batch_size,
            seed=self.config.seed,
            split_seed=self.config.split_seed,
            workers=self.recipe.workers,
        )

    def definition(self, choices: Choices, *, name: str | None = None) -> ArchSpec:
        """Return the definition of the network with some choices, at `input_size` if given.

        Raises:
            InputError: the space does not offer these choices.
        """
        arch = self.space.decode(choices, name=name)
        return arch.model_copy(update={"input_size": self.input_size or arch.input_size})


def finished(job: SearchJob, definition: ArchSpec, *, name: str | None = None, summary: str | None = None) -> ArchSpec:
    """Return the definition of a network as a zoo entry: with counts and preprocessing."""
    counted = cost(definition)
    update: dict[str, Any] = {"counts": CountsSpec(params=counted.params, macs=counted.macs)}
    if job.dataset is not None:
        update["preprocess"] = preprocess_of(definition, None, job.dataset)
    return definition.model_copy(
        update=update | ({"name": name} if name else {}) | ({"summary": summary} if summary else {})
    )
