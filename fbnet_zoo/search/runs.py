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
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.search import tensorboard
from fbnet_zoo.search.history import HistoryRecord
from fbnet_zoo.search.images import split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.search.method import Context, Progress, SearchResult
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.record import DataRecord, MetricRecord, SearchRecord, TrainedRecord, save_record
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import BESIDE, ArchSpec, WeightsSpec
from fbnet_zoo.train import RunFolder, train
from fbnet_zoo.train.loop import Progress as TrainingProgress
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.runs import WEIGHTS

RECORD, DEFINITION, TRAINING = "search.json", "result.yaml", "training"
"""What a search leaves in its folder, beside the files of every run."""

TAG, LICENSE = "searched", "not stated"
"""Of the weights of its best network: they are whose images they learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """A search that has ended.

    Attributes:
        folder: that holds it.
        record: of it.
        definition: of the best network.
        history: records of its epochs or networks.
    """

    folder: Path
    record: SearchRecord
    definition: ArchSpec
    history: tuple[HistoryRecord, ...]

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

    The folder holds `config.json`, `metrics.jsonl` with a line per epoch or network, `tensorboard/`, what the method
    keeps, and at the end `search.json` and `result.yaml`, the definition of the best network.

    Args:
        job: what to search for.
        out: the folder.
        resume: resume a search that the folder may hold; the result is the same as without the interruption.
        processes: that search together (default: one on a CPU). Only the main one reads and writes the folder.
        progress: called with every record of the history, in the main process.

    Raises:
        InputError: a value makes no sense, no network of the space keeps a limit, or the folder holds another run.
        MissingExtraError: a library is missing.
        TrainingError: a value became NaN or infinite; the last good checkpoint stays.
    """
    method = METHODS[job.config.method].load()
    encoding = method.encoding(job)
    costs = job.costs(encoding)
    method.check(job, costs)  # before there is a folder
    folder, together = RunFolder(out), processes or Processes()
    together.on_main(lambda: folder.begin(_config(job, together), _versions(), resume=resume))
    with _board(out, encoding, folder, together) as note:

        def progressed(record: HistoryRecord) -> None:
            note(record)
            if progress:
                progress(record)

        context = Context(encoding=encoding, costs=costs, folder=folder, processes=together, progress=progressed)
        result = method.run(job, context)
    best = encoding.definition(result.best.positions)
    definition = finished(job, best, name=job.name, summary=_summary(job))
    record = together.on_main(lambda: _record(job, context, result))
    if together.is_main:
        arch_file.save(definition, out / DEFINITION)
        save_record(record, out / RECORD)
    return SearchRun(folder=out, record=record, definition=definition, history=tuple(result.history))


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
        TrainingError: the loss or a weight became NaN or infinite; the last good checkpoint stays.
    """
    trained = train(
        run.folder / DEFINITION,
        job.required_dataset,
        job.recipe,
        run.folder / TRAINING,
        resume=resume,
        device=device,
        progress=progress,
    )
    content = trained.weights.read_bytes()
    write_atomically(run.folder / WEIGHTS, content)
    spec = run.definition.model_copy(update={"weights": (_weights(content),)})
    arch_file.save(spec, run.folder / DEFINITION)
    found = TrainedRecord(weights=WEIGHTS, recipe=job.recipe, top1=trained.metrics.top1 or 0.0)
    return update_record(replace(run, definition=spec), run.record.model_copy(update={"trained": found}))


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


def update_record(run: SearchRun, record: SearchRecord) -> SearchRun:
    """Write another record to the folder of a run; return the run with it."""
    save_record(record, run.folder / RECORD)
    return replace(run, record=record)


def _summary(job: SearchJob) -> str:
    data = f" with {job.dataset.name}" if job.dataset else ""
    target = f", for the latencies of {job.table.name}" if job.table else ""
    return f"Found by {job.config.method} in the search space {job.space.name}{data}{target}."


@contextmanager
def _board(
    out: Path, encoding: Encoding, folder: RunFolder, processes: Processes
) -> Iterator[Callable[[HistoryRecord], None]]:
    """Open TensorBoard's files, in the main process only."""
    if not processes.is_main:
        yield lambda _: None
        return
    done, names = sum(1 for _ in folder.records()), [decision.name for decision in encoding.decisions]
    with tensorboard.opened(out / tensorboard.FOLDER, names, first=done) as note:
        yield note


def _config(job: SearchJob, processes: Processes) -> dict[str, Any]:
    """Return what the result depends on."""
    data = _data(job)
    return {
        "method": job.config.method,
        "space": job.space.name,
        "input_size": job.input_size,
        # "theta", as earlier versions named it: their runs can be resumed
        "data": data and {"theta": data.selection, **data.model_dump(exclude={"selection"})},
        "table": job.table.model_dump(mode="json", exclude_defaults=True) if job.table else None,
        "table_classes": job.table_classes,
        "device": processes.kind,
        "precision": processes.precision,
        "batch_size": job.batch_size,
        "search": job.config.model_dump(mode="json", exclude={"method", "checkpoint_steps"}),
        "augmentation": job.recipe.augmentation.model_dump(mode="json"),
        "definition": arch_file.dump(job.space.frame),
        **_judge(job),
    }


def _judge(job: SearchJob) -> dict[str, Any]:
    """Return what stands for training, where something does."""
    if job.oracle is not None:
        return {"oracle": {"name": job.oracle.name, "networks": len(job.oracle.known), "top1": sum(job.oracle.known)}}
    return {"supernet": str(job.supernet)} if job.supernet is not None else {}


def _data(job: SearchJob) -> DataRecord | None:
    if job.dataset is None:
        return None
    own, others = split(job.dataset, job.loading)
    return DataRecord(
        name=job.dataset.name,
        classes=len(job.dataset.classes),
        weights=len(own),
        selection=len(others),
        held_out=len(job.dataset.held_out.labels),
        split=job.dataset.split,
    )


def _record(job: SearchJob, context: Context, result: SearchResult) -> SearchRecord:
    config: Any = job.config  # one of those that the record may have, as it tells when it is made
    return SearchRecord(
        space=job.space.name,
        input_size=context.encoding.input_size,
        config=config,
        metrics=tuple(_metric(job, cost) for cost in context.costs.values()),
        data=_data(job),
        decisions=context.encoding.decisions,
        judged=result.judged,
        networks=result.networks,
        met=result.met,
        processes=context.processes.count,
        device=context.processes.device,
        seconds=_seconds(result.history),
        date=datetime.now(UTC),
        versions=_versions(),
    )


def _metric(job: SearchJob, cost: NetworkCost) -> MetricRecord:
    table = job.table if cost.name == "latency" else None
    return MetricRecord(
        name=cost.name,
        unit=cost.unit,
        base=cost.least,
        table=table.name if table else None,
        device=(table.device.model or table.device.soc or table.device.kind) if table else None,
    )


def _seconds(history: Sequence[HistoryRecord]) -> float:
    """Return the time of all records: each has the time since the search was started or resumed."""
    ends = [*(record.seconds for record in history), 0.0]
    return sum(end for end, following in pairwise(ends) if following < end)


def _versions() -> dict[str, str]:
    return {"fbnet_zoo": __version__, "torch": torch.__version__}
