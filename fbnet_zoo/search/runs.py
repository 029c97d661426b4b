"""A whole search, in a folder: from images, costs and limits to a definition that `create` builds, with weights."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from fbnet_zoo import __version__, arch_file
from fbnet_zoo.own_zoo import BESIDE
from fbnet_zoo.search import board
from fbnet_zoo.search.health import SearchEpoch
from fbnet_zoo.search.images import search_data, split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.loop import Progress, SearchResult, search
from fbnet_zoo.search.methods import METHODS, build
from fbnet_zoo.search.networks import Metric, SearchNetwork
from fbnet_zoo.search.objective import check_objective
from fbnet_zoo.search.processes import Processes
from fbnet_zoo.search.record import (
    DataRecord,
    MetricRecord,
    SearchRecord,
    TrainedRecord,
    save_record,
)
from fbnet_zoo.spec import ArchSpec, WeightsSpec
from fbnet_zoo.train import RunFolder, train
from fbnet_zoo.train.loop import Progress as TrainingProgress
from fbnet_zoo.train.run_folder import write_whole
from fbnet_zoo.train.runs import WEIGHTS

RECORD, DEFINITION, TRAINING = "search.json", "result.yaml", "training"
"""What a search leaves in its folder, beside the files of every run."""

TAG, LICENSE = "searched", "not stated"
"""Of the weights of its best network: they are whose images they learnt from."""


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
    job: SearchJob,
    out: Path,
    *,
    resume: bool = False,
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> SearchRun:
    """Search a space, and write the run to a folder.

    The folder holds `config.json`, `metrics.jsonl` with a line per epoch, `tensorboard/`, `checkpoint.pt`, and at the
    end `search.json` and `result.yaml`, the definition of the best network.

    Args:
        job: what to search for.
        out: the folder.
        resume: go on with a search that the folder may hold; the result is the same as without the interruption.
        processes: that search together; one on a CPU when not said. Only the main one reads and writes the folder.
        progress: called after every epoch, in the main process.

    Raises:
        InputError: a value makes no sense, no network of the space keeps a limit, or the folder holds another run.
        MissingExtraError: a library is missing.
        TrainingError: a value became infinite or no number; the last good checkpoint stays.
    """
    supernet = build(job.method, job.task, seed=job.config.seed)
    metrics, data = METHODS[job.method].metrics(job.task), search_data(job.dataset, job.loading)
    check_objective(metrics, job.config.penalty, job.config.limits)  # before there is a folder
    folder, together = RunFolder(out), processes or Processes()
    together.on_main(lambda: folder.begin(_config(job, together), _versions(), resume=resume))
    with _board(out, supernet, folder, together) as note:

        def told(epoch: SearchEpoch) -> None:
            note(epoch)
            if progress:
                progress(epoch)

        result = search(supernet, data, metrics, job.config, folder=folder, processes=together, progress=told)
    definition = finished(job, supernet.definition(result.best.positions), name=job.name, summary=_summary(job))
    record = together.on_main(lambda: _record(job, supernet, metrics, result, together))
    if together.is_main:
        arch_file.save(definition, out / DEFINITION)
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
    trained = train(
        run.folder / DEFINITION,
        job.dataset,
        job.recipe,
        run.folder / TRAINING,
        resume=resume,
        device=device,
        progress=progress,
    )
    content = trained.weights.read_bytes()
    write_whole(run.folder / WEIGHTS, lambda file: file.write(content))
    spec = run.definition.model_copy(update={"weights": (_weights(content),)})
    arch_file.save(spec, run.folder / DEFINITION)
    found = TrainedRecord(weights=WEIGHTS, recipe=job.recipe, top1=trained.metrics.top1 or 0.0)
    return updated(replace(run, definition=spec), run.record.model_copy(update={"trained": found}))


def _weights(content: bytes) -> WeightsSpec:
    """Return what a definition says of the weights that lie beside it."""
    return WeightsSpec(
        tag=TAG,
        source=f"{BESIDE}{WEIGHTS}",
        layout="fbnet_zoo",
        license=LICENSE,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def updated(run: SearchRun, record: SearchRecord) -> SearchRun:
    """Return a run with another record, which is written to its folder."""
    save_record(record, run.folder / RECORD)
    return replace(run, record=record)


def _summary(job: SearchJob) -> str:
    target = f", for the latencies of {job.table.name}" if job.table else ""
    return f"Found by {job.method} in the search space {job.space.name} with {job.dataset.name}{target}."


@contextmanager
def _board(
    out: Path, supernet: SearchNetwork, folder: RunFolder, processes: Processes
) -> Iterator[Callable[[SearchEpoch], None]]:
    """Open TensorBoard's files, in the main process only."""
    if not processes.is_main:
        yield lambda _: None
        return
    done = sum(1 for _ in folder.records())
    with board.opened(out / board.FOLDER, supernet.decisions, first=done) as note:
        yield note


def _config(job: SearchJob, processes: Processes) -> dict[str, Any]:
    """Return what the result depends on."""
    return {
        "method": job.method,
        "space": job.space.name,
        "input_size": job.input_size,
        "data": _data(job).model_dump(),
        "table": job.table.model_dump(mode="json", exclude_defaults=True) if job.table else None,
        "table_classes": job.table_classes,
        "device": processes.kind,
        "precision": processes.precision,
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
    job: SearchJob, supernet: SearchNetwork, metrics: Sequence[Metric], result: SearchResult, processes: Processes
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
        networks=result.networks,
        met=result.met,
        processes=processes.count,
        device=processes.device,
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


def _seconds(epochs: Sequence[SearchEpoch]) -> float:
    """Return the time of all epochs: each says it since the search was begun or gone on with."""
    ends = [*(epoch.seconds for epoch in epochs), 0.0]
    return sum(end for end, following in pairwise(ends) if following < end)


def _versions() -> dict[str, str]:
    return {"fbnet_zoo": __version__, "torch": torch.__version__}
