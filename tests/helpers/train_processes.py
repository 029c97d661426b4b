"""Trainings in two processes that were launched together; what each of them sees goes into a file.

`train_processes.py FOLDER`, launched as `torchrun` does it, writes FOLDER/RANK.pt: the outcome of each of CASES, which
is metrics and weights or the text of an error.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnet_zoo.errors import FbnetZooError
from fbnet_zoo.train.loop import EpochMetrics, fit
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.recipe import Recipe
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.training import INPUTS, RECIPE, few

SMALL = RECIPE.model_copy(update={"drop_rate": 0.0, "drop_path_rate": 0.0, "checkpoint_steps": 3})
EPOCH = 8
"""Steps of one."""

Case = Callable[[Processes, Path], tuple[nn.Module, EpochMetrics]]


def plain(seed: int = 0) -> nn.Sequential:
    """Return a network without batch norm, which would see the rows of one process only."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))
    return nn.Sequential(*layers)


def normed(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(8, 10))


def trained(network: nn.Module, processes: Processes, recipe: Recipe = SMALL, **options: Any) -> Any:
    return network, fit(network, few(136), recipe, INPUTS, processes=processes, **options)


def like_one(processes: Processes, folder: Path) -> Any:
    """Only the main process has the right first weights."""
    return trained(plain(processes.rank), processes)


def sgd(processes: Processes, folder: Path) -> Any:
    recipe = SMALL.model_copy(update={"optimizer": "sgd", "lr": 0.05, "ema_decay": None})
    return trained(plain(), processes, recipe)


def mixing(processes: Processes, folder: Path) -> Any:
    """Images are mixed with others of the same process, and a teacher judges the mixtures."""
    update = {"mixup": 0.4, "cutmix": 1.0, "optimizer": "rmsprop", "lr": 1e-3, "freeze": ("0",)}
    return trained(plain(), processes, SMALL.model_copy(update=update), teacher=plain(1))


def frozen(processes: Processes, folder: Path) -> Any:
    """The statistics of a frozen batch norm are not averaged."""
    network = normed()
    network[1].running_mean.fill_(0.1)
    network[1].running_var.fill_(0.7)
    return trained(network, processes, SMALL.model_copy(update={"freeze": ("0", "1")}))


def as_usual(processes: Processes, folder: Path) -> Any:
    """Batch norms take their statistics from the rows of each process; at the end all have the same."""
    seen: list[int] = []
    found = trained(
        normed(), processes, folder=RunFolder(folder / "as_usual"), progress=lambda record: seen.append(record.epoch)
    )
    assert seen == ([1, 2, 3] if processes.is_main else [])
    return found


class Stopped(Exception):  # noqa: N818 - no error, but what stops a training in a test
    pass


def resumed(processes: Processes, folder: Path) -> Any:
    """Both are stopped in the second epoch, and go on from the checkpoint."""
    run, network, steps = RunFolder(folder / "resumed"), normed(), 0

    def stop(module: nn.Module, _: object) -> None:
        nonlocal steps
        steps += module.training
        if steps > EPOCH + 5:
            raise Stopped("by the test")

    network.register_forward_pre_hook(stop)
    try:
        trained(network, processes, folder=run)
    except Stopped:
        return trained(normed(), processes, folder=run)
    raise AssertionError("the training was not stopped")


def bad_loss(processes: Processes, folder: Path) -> Any:
    """The second process computes nonsense in the second epoch."""
    network, steps = plain(), 0

    def spoil(module: nn.Module, _: object, logits: Tensor) -> Tensor:
        nonlocal steps
        steps += module.training
        return logits * torch.nan if processes.rank == 1 and steps == EPOCH + 5 else logits

    network.register_forward_hook(spoil)
    return trained(network, processes, folder=RunFolder(folder / "bad_loss"))


def odd_batch(processes: Processes, folder: Path) -> Any:
    return trained(plain(), processes, SMALL.model_copy(update={"batch_size": 15}))


CASES: tuple[Case, ...] = (like_one, sgd, mixing, frozen, as_usual, resumed, bad_loss, odd_batch)


def outcome(case: Case, processes: Processes, folder: Path) -> dict[str, Any]:
    (folder / case.__name__).mkdir(exist_ok=True)
    try:
        network, metrics = case(processes, folder)
    except FbnetZooError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"state": network.state_dict(), "metrics": metrics.model_dump() | {"seconds": 0}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, launched = Path(sys.argv[1]), Processes.launched()
    outcomes = {case.__name__: outcome(case, launched, where) for case in CASES}
    torch.save(outcomes, where / f"{launched.rank}.pt")
    launched.leave()
