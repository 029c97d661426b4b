"""Random networks within the same limits, trained in the same way: the baseline of a search.

"NAS evaluation is frustratingly hard" (Yang et al., arXiv:1912.12522) asks for the relative improvement over the
average random network of the space, 100 (found - random) / random percent: training and space often matter more than
the search.
"""

from pathlib import Path

from fbnet_zoo import arch_file
from fbnet_zoo.search.drawing import draw_networks
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.record import RandomRecord
from fbnet_zoo.search.runs import DEFINITION, TRAINING
from fbnet_zoo.train import train
from fbnet_zoo.train.loop import Progress

FOLDER = "random"


def random_baseline(
    job: SearchJob,
    folder: Path,
    *,
    count: int,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[RandomRecord, ...]:
    """Draw networks evenly from those within the limits, train them like the one found, and return their records.

    Args:
        job: the search; networks are drawn with its seed.
        folder: parent folder of the trainings.
        count: number of networks, all different.
        resume: whether to resume the trainings in the folder.
        device: device to train on, such as `cpu` or `cuda`.
        progress: called after every epoch of each training.

    Raises:
        InputError: too few networks of the space are within the limits, or the folder holds other trainings.
        TrainingError: the loss or a weight is NaN or infinite.
    """
    encoding = METHODS[job.config.method].load().encoding(job)
    costs, found = job.costs(encoding), []
    drawn = draw_networks(encoding, costs, job.config.limits, count=count, seed=job.config.seed)
    for index, positions in enumerate(drawn):
        definition, place = finished(job, encoding.definition(positions)), folder / f"{index}"
        place.mkdir(parents=True, exist_ok=True)
        arch_file.save(definition, place / DEFINITION)
        trained = train(
            place / DEFINITION,
            job.required_dataset,
            job.recipe,
            place / TRAINING,
            resume=resume,
            device=device,
            progress=progress,
        )
        figures = {name: cost.of(positions) for name, cost in costs.items()}
        found.append(RandomRecord(name=definition.name, costs=figures, top1=trained.metrics.top1 or 0.0))
    return tuple(found)
