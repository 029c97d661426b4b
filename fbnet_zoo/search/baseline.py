"""Random networks under the same limits and the same training: what a search has to beat.

"NAS evaluation is frustratingly hard" (Yang et al., arXiv:1912.12522) asks for the relative improvement over the
average random network of the space, 100 (found - random) / random percent: training and space decide more than a
search does.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from fbnet_zoo import arch_file
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.methods import METHODS, build
from fbnet_zoo.search.networks import Positions, SearchNetwork
from fbnet_zoo.search.record import RandomRecord
from fbnet_zoo.search.runs import DEFINITION, TRAINING
from fbnet_zoo.search.sampling import excess
from fbnet_zoo.space import Choices
from fbnet_zoo.train import train
from fbnet_zoo.train.loop import Progress

FOLDER = "random"
_DRAWS = 100_000


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
        resume: go on with what the folder holds.
        device: where to train.
        progress: called after every epoch of each.

    Raises:
        InputError: too few networks of the space keep the limits, or the folder holds other trainings.
        TrainingError: loss or weights became infinite or no number.
    """
    supernet = build(job.method, job.task, seed=job.config.seed)
    metrics = {metric.name: metric for metric in METHODS[job.method].metrics(job.task)}
    draws = _draws(supernet.options, job.config.seed)
    kept = (positions for positions in draws if not excess(positions, metrics, job.config.limits))
    found = []
    for index, positions in enumerate(_different(kept, count, supernet)):
        definition, place = finished(job, supernet.definition(positions)), folder / f"{index}"
        place.mkdir(parents=True, exist_ok=True)
        arch_file.save(definition, place / DEFINITION)
        trained = train(
            place / DEFINITION,
            job.dataset,
            job.recipe,
            place / TRAINING,
            resume=resume,
            device=device,
            progress=progress,
        )
        costs = {name: metric.of(positions) for name, metric in metrics.items()}
        found.append(RandomRecord(name=definition.name, costs=costs, top1=trained.metrics.top1 or 0.0))
    return tuple(found)


def _draws(options: Sequence[Sequence[str]], seed: int) -> Iterator[Positions]:
    generator = random.Random(seed)  # noqa: S311 - nothing here is secret
    for _ in range(_DRAWS):
        yield tuple(generator.randrange(len(each)) for each in options)


def _different(draws: Iterator[Positions], count: int, supernet: SearchNetwork) -> Iterator[Positions]:
    """Yield so many draws that are different networks: positions that mean nothing do not tell two apart."""
    seen: set[Choices] = set()
    for positions in draws:
        if len(seen) == count:
            return
        choices = supernet.choices(positions)
        if choices not in seen:
            seen.add(choices)
            yield positions
    if len(seen) < count:
        raise InputError(
            f"{len(seen)} of {_DRAWS:,} random networks of {supernet.space.name} keep the limits, {count} are asked "
            "for; raise the limits, or ask for fewer"
        )
