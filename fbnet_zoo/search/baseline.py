"""Random networks near the same limits, trained in the same way: the baseline of a search.

"NAS evaluation is frustratingly hard" (Yang et al., arXiv:1912.12522) asks for the relative improvement over the
average random network of the space, 100 (found - random) / random percent: training and space often matter more than
the search.
"""

from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo import arch_file
from fbnet_zoo.search.drawing import draw_near_limits
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.trained_supernet import trained_supernet
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.joint import recipe_of
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.record import RandomRecord
from fbnet_zoo.search.runs import DEFINITION, TRAINING, SearchRun, update_record
from fbnet_zoo.space.encoding import Positions
from fbnet_zoo.train import train
from fbnet_zoo.train.loop import Progress

FOLDER = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Trained random networks.

    Attributes:
        networks: positions of the networks.
        records: their records, in the same order.
        tried: number of networks that were drawn to find those.
    """

    networks: list[Positions]
    records: tuple[RandomRecord, ...]
    tried: int


def random_baseline(
    job: SearchJob,
    folder: Path,
    *,
    count: int,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Baseline:
    """Draw networks evenly from those that use at least 95 % of a limit, and train them like the one found.

    Args:
        job: the search; networks are drawn with its seed.
        folder: parent folder of the trainings.
        count: number of networks, all different.
        resume: whether to resume the trainings in the folder.
        device: device to train on, such as `cpu` or `cuda`.
        progress: called after every epoch of each training.

    Raises:
        InputError: too few networks of the space are near the limits, or the folder holds other trainings.
        TrainingError: the loss or a weight is NaN or infinite.
    """
    encoding = METHODS[job.config.method].load().encoding(job)
    costs, found = job.costs(encoding), []
    drawn = draw_near_limits(encoding, costs, job.config.limits, count=count, seed=job.config.seed)
    for index, positions in enumerate(drawn.networks):
        definition, place = finished(job, encoding.definition(positions)), folder / f"{index}"
        place.mkdir(parents=True, exist_ok=True)
        arch_file.save(definition, place / DEFINITION)
        trained = train(
            place / DEFINITION,
            job.required_dataset,
            recipe_of(encoding, positions, job.recipe),
            place / TRAINING,
            resume=resume,
            device=device,
            progress=progress,
        )
        figures = {name: cost.of(positions) for name, cost in costs.items()}
        found.append(RandomRecord(name=definition.name, costs=figures, top1=trained.metrics.top1 or 0.0))
    return Baseline(networks=drawn.networks, records=tuple(found), tried=drawn.tried)


def compared(run: SearchRun, job: SearchJob, baseline: Baseline, *, device: str = "cpu") -> SearchRun:
    """Record random networks in a run, with their accuracies by its supernet if it has one; return the updated run.

    Raises:
        InputError: the folder of the run has been damaged since, or cannot be written.
    """
    records = baseline.records
    if isinstance(run.record.config, GradientConfig):
        encoding = METHODS[run.record.config.method].load().encoding(job)
        judged = trained_supernet(run.folder, job, encoding, device=device).top1(baseline.networks)
        pairs = zip(records, judged, strict=True)
        records = tuple(each.model_copy(update={"judged_top1": top1}) for each, top1 in pairs)
    return update_record(run, run.record.model_copy(update={"random": records, "tried": baseline.tried}))
