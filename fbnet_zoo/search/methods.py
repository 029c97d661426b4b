"""The methods of search: what each trains, and the costs that it knows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from fbnet_zoo.benchmarks.latency_table import LatencyTable
from fbnet_zoo.errors import InputError
from fbnet_zoo.search import cost, masked_cost
from fbnet_zoo.search.masked_supernet import MaskedSupernet
from fbnet_zoo.search.networks import Metric, SearchNetwork
from fbnet_zoo.search.record import MethodName
from fbnet_zoo.search.supernet import Supernet
from fbnet_zoo.space import Space
from fbnet_zoo.space.layers import words


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What networks are searched for.

    Attributes:
        space: of the networks.
        table: of the device that they are for; without one, latency is not known.
        input_size: of the image, px; what the space says if not said.
        num_classes: outputs of the classifier.
        table_classes: outputs of the classifier whose latency counts, where the table is for no other number.
    """

    space: Space
    table: LatencyTable | None
    input_size: int | None
    num_classes: int
    table_classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        summary: what it searches among, for help texts.
        supernet: builds what is trained; weights are drawn from PyTorch's random numbers.
        metrics: returns the costs that are known of its networks.
    """

    summary: str
    supernet: Callable[[Task], SearchNetwork]
    metrics: Callable[[Task], tuple[Metric, ...]]


def _supernet(task: Task) -> Supernet:
    return Supernet(task.space, input_size=task.input_size, num_classes=task.num_classes)


def _metrics(task: Task) -> tuple[Metric, ...]:
    space, table, size, classes = task.space, task.table, task.input_size, task.num_classes
    latency = (cost.latency_cost(space, table, input_size=size, num_classes=task.table_classes),) if table else ()
    macs = cost.macs_cost(space, input_size=size, num_classes=classes)
    return (*latency, macs, cost.params_cost(space, input_size=size, num_classes=classes))


def _masked_supernet(task: Task) -> MaskedSupernet:
    sizes = task.space.spec.input_size
    if task.input_size not in {None, sizes[-1]}:
        raise InputError(
            f"dmasking searches at the image sizes of the space, {words(sizes)} px for {task.space.name}, and not at "
            f"{task.input_size} px; leave the size out, or change the space"
        )
    return MaskedSupernet(task.space, num_classes=task.num_classes)


def _masked_metrics(task: Task) -> tuple[Metric, ...]:
    space, table, classes = task.space, task.table, task.num_classes
    latency = (masked_cost.masked_latency(space, table, num_classes=task.table_classes),) if table else ()
    counts = (masked_cost.masked_macs, masked_cost.masked_params)
    return (*latency, *(count(space, num_classes=classes) for count in counts))


METHODS: Mapping[MethodName, Method] = {
    "dnas": Method(summary="FBNet's: every layer chooses one of several blocks", supernet=_supernet, metrics=_metrics),
    "dmasking": Method(
        summary="FBNetV2's: block, expansion and channels of every layer, and the size of the image",
        supernet=_masked_supernet,
        metrics=_masked_metrics,
    ),
}


def build(name: MethodName, task: Task, *, seed: int) -> SearchNetwork:
    """Return the supernet of a method with weights drawn from a seed.

    Raises:
        InputError: the method cannot search the space.
    """
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return METHODS[name].supernet(task)
