"""Random networks under the same limits and the same training: what a search has to beat.

"NAS evaluation is frustratingly hard" (Yang et al., arXiv:1912.12522) asks for the relative improvement over the
average random network of the space, 100 (found - random) / random percent: training and space decide more than a
search does.
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
    """Draw networks evenly from those of the space that keep the limits, and train them as the found one is.

    Args:
        job: of the search; its seed draws the networks.
        folder: of the trainings, each in its own.
        count: of networks, no two the same.
        resume: resume what the folder holds.
        device: where to train.
        progress: called after every epoch of each.

    Raises:
        InputError: too few networks of the space keep the limits, or the folder holds other trainings.
        TrainingError: the loss or a weight became NaN or infinite.
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
