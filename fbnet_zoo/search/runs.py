"""A whole search, in a folder: from images, costs and limits to a definition that `create` builds, with weights."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from fbnet_zoo import __version__, arch_file
from fbnet_zoo.benchmarks.latency_table import LatencyTable
from fbnet_zoo.complexity import cost
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.search import board
from fbnet_zoo.search.compare import SampledNetwork
from fbnet_zoo.search.config import SearchConfig
from fbnet_zoo.search.health import SearchEpoch
from fbnet_zoo.search.images import Loading, search_data, split
from fbnet_zoo.search.loop import Progress, SearchResult, search
from fbnet_zoo.search.methods import METHODS, Task, build
from fbnet_zoo.search.networks import Metric, SearchNetwork
from fbnet_zoo.search.record import (
    DataRecord,
    MethodName,
    MetricRecord,
    NetworkRecord,
    SearchRecord,
    TrainedRecord,
    save_record,
)
from fbnet_zoo.space import Space
from fbnet_zoo.spec import ArchSpec, CountsSpec, PreprocessSpec
from fbnet_zoo.train import Inputs, Recipe, RunFolder, train
from fbnet_zoo.train.loop import Progress as TrainingProgress
from fbnet_zoo.train.runs import WEIGHTS, preprocess_of

RECORD, DEFINITION, TRAINING = "search.json", "result.yaml", "training"
"""What a search leaves in its folder, beside the files of every run."""

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
        """How images become the input of the networks."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """A search that came to its end.

    Attributes:
        folder: that holds it.
        record: of it.
        definition: of the best network.
        epochs: of the search.
    """

    folder: Path
    record: SearchRecord
    definition: ArchSpec
    epochs: tuple[SearchEpoch, ...]

    @property
    def weights(self) -> Path | None:
        """The weights of the best network, if it was trained."""
        return self.folder / self.record.trained.weights if self.record.trained else None


def run_search(
    job: SearchJob, out: Path, *, resume: bool = False, device: str = "cpu", progress: Progress | None = None
) -> SearchRun:
    """Search a space, and write the run to a folder.

    The folder holds `config.json`, `metrics.jsonl` with a line per epoch, `tensorboard/`, `checkpoint.pt`, and at the
    end `search.json` and `result.yaml`, the definition of the best network.

    Args:
        job: what to search for.
        out: the folder.
        resume: go on with a search that the folder may hold; the result is the same as without the interruption.
        device: where to compute.
        progress: called after every epoch.

    Raises:
        InputError: a value makes no sense, no network of the space keeps a limit, or the folder holds another run.
        MissingExtraError: a library is missing.
        TrainingError: a value became infinite or no number; the last good checkpoint stays.
    """
    supernet = build(job.method, job.task, seed=job.config.seed)
    metrics, data = METHODS[job.method].metrics(job.task), search_data(job.dataset, job.loading)
    folder = RunFolder(out)
    folder.begin(_config(job, device), _versions(), resume=resume)
    with board.opened(out / board.FOLDER, supernet.decisions, first=_epochs_done(folder)) as note:

        def told(epoch: SearchEpoch) -> None:
            note(epoch)
            if progress:
                progress(epoch)

        result = search(supernet, data, metrics, job.config, folder=folder, device=device, progress=told)
    definition = finished(job, result.best.definition, name=job.name, summary=_summary(job))
    arch_file.save(definition, out / DEFINITION)
    record = _record(job, supernet, metrics, result, device)
    save_record(record, out / RECORD)
    return SearchRun(folder=out, record=record, definition=definition, epochs=result.epochs)


def train_best(
    run: SearchRun,
    job: SearchJob,
    *,
    resume: bool = False,
    device: str = "cpu",
    progress: TrainingProgress | None = None,
) -> SearchRun:
    """Train the best network of a search from scratch, in the folder `training` of its run.

    `result.yaml` and `search.json` are written again, with the weights and their accuracy on the held-out images.

    Raises:
        InputError: an image cannot be read, or a file not be written.
        TrainingError: loss or weights became infinite or no number; the last good checkpoint stays.
    """
    definition, folder = run.folder / DEFINITION, run.folder / TRAINING
    trained = train(definition, job.dataset, job.recipe, folder, resume=resume, device=device, progress=progress)
    shutil.copyfile(trained.weights, run.folder / WEIGHTS)
    found = TrainedRecord(weights=WEIGHTS, recipe=job.recipe, top1=trained.metrics.top1 or 0.0)
    return updated(run, run.record.model_copy(update={"trained": found}))


def updated(run: SearchRun, record: SearchRecord) -> SearchRun:
    """Return a run with another record, which is written to its folder."""
    save_record(record, run.folder / RECORD)
    return replace(run, record=record)


def finished(job: SearchJob, definition: ArchSpec, *, name: str | None = None, summary: str | None = None) -> ArchSpec:
    """Return the definition of a network as an entry of the zoo: counted, with its preparation of images."""
    counted = cost(definition)
    update: dict[str, Any] = {
        "counts": CountsSpec(params=counted.params, macs=counted.macs),
        "preprocess": job.preprocess,
    }
    return definition.model_copy(
        update=update | ({"name": name} if name else {}) | ({"summary": summary} if summary else {})
    )


def _summary(job: SearchJob) -> str:
    target = f", for the latencies of {job.table.name}" if job.table else ""
    return f"Found by {job.method} in the search space {job.space.name} with {job.dataset.name}{target}."


def _epochs_done(folder: RunFolder) -> int:
    return sum(1 for _ in folder.records())


def _config(job: SearchJob, device: str) -> dict[str, Any]:
    """Return what the result depends on."""
    return {
        "method": job.method,
        "space": job.space.name,
        "input_size": job.input_size,
        "data": _data(job).model_dump(),
        "table": job.table.model_dump(mode="json", exclude_defaults=True) if job.table else None,
        "table_classes": job.table_classes,
        "device": device,
        "batch_size": job.batch_size,
        "search": job.config.model_dump(mode="json", exclude={"checkpoint_steps"}),
        "augmentation": job.recipe.augmentation.model_dump(mode="json"),
        "definition": arch_file.dump(job.space.frame),
    }


def _data(job: SearchJob) -> DataRecord:
    own, others = split(job.dataset, job.loading)
    return DataRecord(
        name=job.dataset.name,
        classes=len(job.dataset.classes),
        weights=len(own),
        theta=len(others),
        held_out=len(job.dataset.held_out.labels),
        split=job.dataset.split,
    )


def _record(
    job: SearchJob, supernet: SearchNetwork, metrics: Sequence[Metric], result: SearchResult, device: str
) -> SearchRecord:
    return SearchRecord(
        method=job.method,
        space=job.space.name,
        input_size=supernet.input_size,
        config=job.config,
        metrics=tuple(_metric(job, metric) for metric in metrics),
        data=_data(job),
        decisions=supernet.decisions,
        options=supernet.options,
        networks=tuple(_network(network) for network in result.networks),
        met=result.met,
        processes=1,
        device=device,
        seconds=_seconds(result.epochs),
        date=datetime.now(UTC),
        versions=_versions(),
    )


def _metric(job: SearchJob, metric: Metric) -> MetricRecord:
    table = job.table if metric.name == "latency" else None
    return MetricRecord(
        name=metric.name,
        unit=metric.unit,
        base=metric.base,
        table=table.name if table else None,
        device=(table.device.model or table.device.soc or table.device.kind) if table else None,
    )


def _network(network: SampledNetwork) -> NetworkRecord:
    return NetworkRecord(
        name=network.definition.name,
        choices=network.choices,
        positions=network.positions,
        log_probability=network.log_probability,
        projected=network.projected,
        costs=network.costs,
        within_limits=network.within_limits,
        top1=network.top1,
        recalibrated_images=network.recalibrated_images,
    )


def _seconds(epochs: Sequence[SearchEpoch]) -> float:
    """Return the time of all epochs: each says it since the search was begun or gone on with."""
    ends = [*(epoch.seconds for epoch in epochs), 0.0]
    return sum(end for end, following in pairwise(ends) if following < end)


def _versions() -> dict[str, str]:
    return {"fbnet_zoo": __version__, "torch": torch.__version__}
