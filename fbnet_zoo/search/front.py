"""A network for each of several limits, from the supernet of one search."""

from collections.abc import Callable

from fbnet_zoo import arch_file
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import Front
from fbnet_zoo.search.gradient.exploration import Exploration
from fbnet_zoo.search.gradient.near_limits import Accuracies, Region, preferred
from fbnet_zoo.search.gradient.trained_supernet import trained_supernet
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.limits import require_reachable
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.networks import network_record
from fbnet_zoo.search.record import FrontRecord
from fbnet_zoo.search.runs import SearchRun, update_record
from fbnet_zoo.space.encoding import Positions

FOLDER = "front"
"""Folder of the definitions, in that of the run."""

PER_LIMIT = 18
"""Networks that are evaluated for each limit, beside those of the search."""


def check_front(front: Front, job: SearchJob) -> None:
    """Refuse a front that cannot be found, before a search.

    Raises:
        InputError: the limits are in the wrong order, no network satisfies the lowest one, or the cost is unknown.
    """
    if not 0 < front.lowest < front.highest:
        raise InputError(
            f"the limits of a front must rise from a positive one; got {front.lowest:g} to {front.highest:g}"
        )
    encoding = METHODS[job.config.method].load().encoding(job)
    require_reachable(job.costs(encoding), {front.metric: front.lowest})


def find_front(
    run: SearchRun, job: SearchJob, front: Front, *, device: str = "cpu", progress: Callable[[str], None] | None = None
) -> SearchRun:
    """Find a network for each limit with the supernet of a completed search; return the run with them in its record.

    Other limits of the search hold for all of them. Their definitions are in the folder `front` of the run, by number.

    Args:
        run: a search by a method with a supernet.
        job: what was searched for.
        front: the limits.
        device: device to compute on.
        progress: called with the name of each limit when its turn begins.

    Raises:
        InputError: no network was found for a limit, or the folder of the run has been damaged since.
    """
    encoding = METHODS[job.config.method].load().encoding(job)
    costs, supernet = job.costs(encoding), trained_supernet(run.folder, job, encoding, device=device)
    exploration = Exploration(evaluator=supernet.evaluator, costs=costs, seed=run.record.config.seed)
    accuracies = {each.positions: each.top1 for each in run.record.networks}
    bounds = [{**run.record.config.limits, front.metric: limit} for limit in front.limits]
    for limits in bounds:
        if progress:
            progress(f"{front.metric} up to {limits[front.metric]:,.6g} {costs[front.metric].unit}")
        accuracies = exploration.started(accuracies, limits)
        accuracies = exploration.extended(accuracies, limits, total=len(accuracies) + PER_LIMIT)
    regions = [Region(encoding=encoding, costs=costs, limits=limits) for limits in bounds]
    best = [_best(accuracies, region, supernet.evaluator.images) for region in regions]
    found = [
        FrontRecord(
            metric=front.metric,
            limit=limits[front.metric],
            network=network_record(encoding, network, costs, limits, top1=accuracies[network]),
        )
        for network, limits in zip(best, bounds, strict=True)
    ]
    (run.folder / FOLDER).mkdir(exist_ok=True)
    for number, network in enumerate(best, start=1):
        arch_file.save(finished(job, encoding.definition(network)), run.folder / FOLDER / f"{number}.yaml")
    return update_record(run, run.record.model_copy(update={"front": tuple(found)}))


def _best(accuracies: Accuracies, region: Region, images: int) -> Positions:
    best = preferred(accuracies, region, images)
    if best is None:
        words = " and ".join(f"{name} {limit:.4g} {region.costs[name].unit}" for name, limit in region.limits.items())
        raise InputError(f"no network was found within {words}; raise the lowest limit of the front")
    return best
