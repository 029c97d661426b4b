"""A whole search in a run folder: from a job to a definition that `create` builds, with trained weights."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from fbnet_zoo import __version__, arch_file
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.datasets import dataset_digest
from fbnet_zoo.datasets.reading import Track
from fbnet_zoo.folders import claimed, temporary
from fbnet_zoo.latency.predictor import Predictor
from fbnet_zoo.search import tensorboard
from fbnet_zoo.search.evaluation import own_name
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.history import HistoryRecord
from fbnet_zoo.search.images import split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.search.method import Context, Method, Progress, SearchResult
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.record import DataRecord, MetricRecord, PredictorRecord, SearchRecord, TrainedRecord, save_record
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import BESIDE, ArchSpec, WeightsSpec
from fbnet_zoo.train import Recipe, RunFolder, train
from fbnet_zoo.train.loop import Progress as TrainingProgress
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.recipe import recipe_over
from fbnet_zoo.train.runs import WEIGHTS, Trained

RECORD, DEFINITION, TRAINING = "search.json", "result.yaml", "training"
"""Files of a search, beside those of every run folder."""

TAG, LICENSE = "searched", "not stated"
"""Tag and license of the best network's weights; the license depends on the images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """A completed search.

    Attributes:
        folder: run folder.
        record: record of the search.
        definition: definition of the best network.
        history: records of the epochs or evaluated networks.
    """

    folder: Path
    record: SearchRecord
    definition: ArchSpec
    history: tuple[HistoryRecord, ...]

    @property
    def weights(self) -> Path | None:
        """The weights of the best network, if it was trained."""
        return self.folder / self.record.trained.weights if self.record.trained else None


def _nothing() -> None:
    """Do nothing."""


def run_search(
    job: SearchJob,
    out: Path,
    *,
    resume: bool = False,
    processes: Processes | None = None,
    progress: Progress | None = None,
    track: Track | None = None,
    claims: ExitStack | None = None,
    begun: Callable[[], None] = _nothing,
) -> SearchRun:
    """Search a space, write the run to a folder, and return it.

    The folder holds `config.json`, `metrics.jsonl` with a line per epoch or network, `tensorboard/`, files of the
    method, and at the end `search.json` and `result.yaml`, the definition of the best network.

    Args:
        job: what to search for.
        out: run folder.
        resume: whether to resume a search in the folder; the result is the same as without the interruption.
        processes: cooperating processes (default: one on a CPU); only the main one reads and writes the folder.
        progress: called with every history record, in the main process.
        track: reports progress while every image is read once, before the folder is created.
        begun: called when everything has been checked, before the search itself.
        claims: stack that keeps the folder claimed until it is closed (default: it is released at the end).

    Raises:
        InputError: a value is invalid, an image cannot be read, no network of the space satisfies a limit, or the
            folder holds another run, or is in use by one.
        MissingExtraError: a library is missing.
        TrainingError: a value is NaN or infinite; the last good checkpoint is kept.
    """
    method = METHODS[job.config.method].load()
    encoding = method.encoding(job)
    costs = job.costs(encoding)
    folder, together = RunFolder(out), processes or Processes()
    context = Context(encoding=encoding, costs=costs, folder=folder, processes=together, progress=progress or _ignore)
    method.check(job, context)  # before the folder is created
    together.on_main(lambda: folder.require_free(resume=resume))
    data = together.on_main(lambda: _data(job, track))
    claim = folder.claimed(_config(job, data, together), _versions(), resume=resume)
    with ExitStack() as until_the_end:
        together.on_main(partial((claims or until_the_end).enter_context, claim))
        begun()
        result = _searched(method, job, context)
        best = encoding.definition(result.best.positions)
        definition = finished(job, best, name=job.name, summary=_summary(job))
        record = together.on_main(lambda: _record(job, data, context, result))
        if together.is_main:
            arch_file.save(definition, out / DEFINITION)
            save_record(record, out / RECORD)
    return SearchRun(folder=out, record=record, definition=definition, history=tuple(result.history))


def _searched(method: Method, job: SearchJob, context: Context) -> SearchResult:
    """Search, with the progress also in TensorBoard."""
    with _board(context.path, context.encoding, context.folder, context.processes) as note:

        def progressed(record: HistoryRecord) -> None:
            note(record)
            context.progress(record)

        return method.run(job, replace(context, progress=progressed))


def train_best(
    run: SearchRun,
    job: SearchJob,
    *,
    resume: bool = False,
    processes: Processes | None = None,
    progress: TrainingProgress | None = None,
) -> SearchRun:
    """Train the best network of a search from scratch, in the `training` folder of its run.

    `result.yaml` and `search.json` are updated with the weights and their accuracy on the held-out images.

    Args:
        run: the search, as returned to each process.
        job: what was searched for, with the training recipe.
        resume: whether to resume a training in the folder.
        processes: cooperating processes (default: one on a CPU); only the main one reads and writes the folder.
        progress: called after every epoch, in the main process.

    Raises:
        InputError: an image cannot be read, a file cannot be written, or another run uses the folder.
        TrainingError: the loss or a weight is NaN or infinite; the last good checkpoint is kept.
    """
    together = processes or Processes()
    with ExitStack() as until_the_end:
        together.on_main(lambda: until_the_end.enter_context(claimed(run.folder)))
        definition = until_the_end.enter_context(temporary()) / DEFINITION  # other machines do not have the folder
        arch_file.save(run.definition, definition)
        trained = train(
            definition,
            job.required_dataset,
            _recipe(run, job),
            run.folder / TRAINING,
            resume=resume,
            processes=together,
            progress=progress,
        )
        return together.on_main(lambda: _with_weights(run, job, trained))


def _recipe(run: SearchRun, job: SearchJob) -> Recipe:
    """Return the recipe of the best network, with the values that were searched with it."""
    return recipe_over(job.recipe, run.record.best.recipe or {})


def _with_weights(run: SearchRun, job: SearchJob, trained: Trained) -> SearchRun:
    content = trained.weights.read_bytes()
    write_atomically(run.folder / WEIGHTS, content)
    spec = run.definition.model_copy(update={"weights": (_weights(content),)})
    arch_file.save(spec, run.folder / DEFINITION)
    found = TrainedRecord(weights=WEIGHTS, recipe=_recipe(run, job), top1=trained.metrics.top1 or 0.0)
    return update_record(replace(run, definition=spec), run.record.model_copy(update={"trained": found}))


def _weights(content: bytes) -> WeightsSpec:
    """Return the weights entry of a definition for the file beside it."""
    return WeightsSpec(
        tag=TAG,
        source=f"{BESIDE}{WEIGHTS}",
        layout="fbnet_zoo",
        license=LICENSE,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def update_record(run: SearchRun, record: SearchRecord) -> SearchRun:
    """Replace the record in the folder of a run; return the run with it."""
    save_record(record, run.folder / RECORD)
    return replace(run, record=record)


def _ignore(_: HistoryRecord) -> None:
    """Ignore a record."""


def _summary(job: SearchJob) -> str:
    data = f" with {job.dataset.name}" if job.dataset else ""
    device = job.table.name if job.table else job.predictor.name if job.predictor else None
    target = f", for the latencies of {device}" if device else ""
    return f"Found by {job.config.method} in the search space {job.space.name}{data}{target}."


@contextmanager
def _board(
    out: Path, encoding: Encoding, folder: RunFolder, processes: Processes
) -> Iterator[Callable[[HistoryRecord], None]]:
    """Yield a function that writes a history record to TensorBoard, in the main process only."""
    if not processes.is_main:
        yield lambda _: None
        return
    done, names = sum(1 for _ in folder.records()), [decision.name for decision in encoding.decisions]
    with tensorboard.opened(out / tensorboard.FOLDER, names, first=done) as note:
        yield note


def _config(job: SearchJob, data: DataRecord | None, processes: Processes) -> dict[str, Any]:
    """Return everything that the result depends on."""
    return {
        "method": job.config.method,
        "space": job.space.name,
        "input_size": job.input_size,
        # "theta" is its name in earlier versions, whose runs can be resumed
        "data": data and {"theta": data.selection, **data.model_dump(mode="json", exclude={"selection"})},
        "table": job.table.model_dump(mode="json", exclude_defaults=True) if job.table else None,
        "table_classes": job.table_classes,
        **({"predictor": job.predictor.about} if job.predictor else {}),
        **_other_costs(job),
        "device": processes.kind,
        "precision": processes.precision,
        "batch_size": job.batch_size,
        "search": job.config.identity(),
        "augmentation": job.recipe.augmentation.model_dump(mode="json"),
        "definition": arch_file.dump(job.space.frame),
        **_judge(job),
    }


def _other_costs(job: SearchJob) -> dict[str, Any]:
    """Return what gives latencies of other devices and further costs, if anything."""
    tables = [table.model_dump(mode="json", exclude_defaults=True) for table in job.other_tables]
    predictors = {each.cost: each.about for each in job.other_predictors}
    return {key: value for key, value in (("tables", tables), ("predictors", predictors)) if value}


def _judge(job: SearchJob) -> dict[str, Any]:
    """Return what replaces training, if anything."""
    if job.oracle is not None:
        return {"oracle": {"name": job.oracle.name, "networks": len(job.oracle.known), "top1": sum(job.oracle.known)}}
    if job.evaluate is not None:
        return {"evaluate": own_name(job.evaluate)}
    return {"supernet": str(job.supernet)} if job.supernet is not None else {}


def _data(job: SearchJob, track: Track | None) -> DataRecord | None:
    """Return the data of a search; every image is read."""
    if job.dataset is None:
        return None
    dataset = job.searched
    own, others = split(dataset, job.loading)
    return DataRecord(
        name=dataset.name,
        classes=len(dataset.classes),
        weights=len(own),
        selection=len(others),
        held_out=len(dataset.held_out.labels),
        split=dataset.split,
        class_names=dataset.classes,
        images_sha256=dataset_digest(dataset, track),
    )


def _record(job: SearchJob, data: DataRecord | None, context: Context, result: SearchResult) -> SearchRecord:
    config: Any = job.config  # a member of `AnyConfig`, as validated by the record
    return SearchRecord(
        space=job.space.name,
        input_size=context.encoding.input_size,
        config=config,
        metrics=tuple(_metric(job, cost) for cost in context.costs.values()),
        data=data,
        decisions=context.encoding.decisions,
        judged=result.judged,
        networks=result.networks,
        effort=result.effort,
        met=result.met,
        processes=context.processes.count,
        device=context.processes.device,
        entropy=_entropy(result.history),
        seconds=_seconds(result.history),
        date=datetime.now(UTC),
        versions=_versions(),
    )


def _metric(job: SearchJob, cost: NetworkCost) -> MetricRecord:
    table = dict(job.tables).get(cost.name)
    predictor = {each.cost: each for each in job.predictors}.get(cost.name)
    return MetricRecord(
        name=cost.name,
        unit=cost.unit,
        base=cost.least,
        table=table.name if table else None,
        device=(table.device.model or table.device.soc or table.device.kind) if table else None,
        predictor=_predictor(predictor) if predictor else None,
    )


def _predictor(found: Predictor) -> PredictorRecord:
    return PredictorRecord(name=found.name, networks=found.networks, error=found.error, priors=found.priors)


def _entropy(history: Sequence[HistoryRecord]) -> float | None:
    last = history[-1] if history else None
    return fmean(last.entropy) if isinstance(last, SearchEpoch) else None


def _seconds(history: Sequence[HistoryRecord]) -> float:
    """Return the total time, from records that count from the last start or resume."""
    ends = [*(record.seconds for record in history), 0.0]
    return sum(end for end, following in pairwise(ends) if following < end)


def _versions() -> dict[str, str]:
    return {"fbnet_zoo": __version__, "torch": torch.__version__}
