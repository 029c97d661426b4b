"""Searches in two processes that were launched together; what each of them sees goes into a file.

`search_processes.py FOLDER`, launched as `torchrun` does it, writes FOLDER/RANK.pt: the outcome of each of CASES, which
is a search result or the text of an error.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnet_zoo.errors import FbnetZooError
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.batches import Part, SearchData
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.gradient.loop import GradientResult, search
from fbnet_zoo.search.gradient.networks import SearchNetwork
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.search_run import CONFIG, data, expected_cost, squares
from tests.helpers.search_spaces import nano_space

SMALL = {"epochs": 2, "weight_lr": 0.02, "warmup_epochs": 0, "checkpoint_steps": 3, "samples": 3, "candidates": 7}
EPOCH = 10
"""Steps of one."""


class Fixed(Supernet):
    """A supernet whose batch norms do not look at the batch: they keep the statistics of the images at first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            super().train()(squares()[0], [theta.softmax(0) for theta in self.theta])

    def train(self, mode: bool = True) -> "Fixed":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def supernet(seed: int = 0, kind: type[Supernet] = Fixed) -> Supernet:
    torch.manual_seed(seed)
    return kind(nano_space(), num_classes=4)


def changed(**fields: object) -> DnasConfig:
    return DnasConfig.model_validate(CONFIG.model_dump() | SMALL | fields)


def found(net: SearchNetwork, config: DnasConfig, processes: Processes, **options: Any) -> GradientResult:
    return search(net, options.pop("data", None) or data(), [expected_cost()], config, processes=processes, **options)


def like_one(processes: Processes, folder: Path, **fields: object) -> GradientResult:
    """Search with batch norms that do not look at the batch; only the main process has the right first weights."""
    return found(supernet(processes.rank), changed(**fields), processes)


def per_image(processes: Processes, folder: Path) -> GradientResult:
    """The mean cost of all images is under a logarithm, so it must be that of the images of all processes."""
    return like_one(processes, folder, mask_per="image", penalty={"form": "product", "metric": "macs", "unit": 1.0})


def as_usual(processes: Processes, folder: Path) -> GradientResult:
    """Batch norms take their statistics from the rows of each process; at the end all have the same."""
    seen: list[int] = []
    net = supernet(kind=Supernet)
    result = found(
        net,
        changed(),
        processes,
        folder=RunFolder(folder / "as_usual"),
        progress=lambda record: seen.append(record.epoch),
    )
    assert seen == ([1, 2] if processes.is_main else [])
    torch.save(net.state_dict(), folder / f"supernet{processes.rank}.pt")
    return result


class Stopped(Exception):  # noqa: N818 - no error, but what stops a search in a test
    pass


def stopped_after(most: int, net: Supernet) -> Supernet:
    """Return a supernet that refuses to compute after so many steps."""
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps > most:
            raise Stopped("by the test")

    net.register_forward_pre_hook(stop)
    return net


def resumed(processes: Processes, folder: Path) -> GradientResult:
    """Both are stopped in the second epoch, and go on from the checkpoint."""
    run = RunFolder(folder / "resumed")
    try:
        found(stopped_after(EPOCH + 5, supernet(kind=Supernet)), changed(), processes, folder=run)
    except Stopped:
        return found(supernet(kind=Supernet), changed(), processes, folder=run)
    raise AssertionError("the search was not stopped")


def bad_images(processes: Processes, folder: Path) -> GradientResult:
    """One image is none; only one process has it in its rows."""
    images, classes = squares()
    images[3, 0, 5, 5] = torch.nan
    bad = SearchData.of_tensors(images, classes, batch_size=12)
    return found(supernet(), changed(), processes, data=bad, folder=RunFolder(folder / "bad_images"))


def bad_loss(processes: Processes, folder: Path) -> GradientResult:
    """The second process computes nonsense in the second epoch."""
    net, steps = supernet(), 0

    def spoil(_: nn.Module, __: object, logits: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return logits * torch.nan if processes.rank == 1 and steps == EPOCH + 5 else logits

    net.register_forward_hook(spoil)
    return found(net, changed(), processes, folder=RunFolder(folder / "bad_loss"))


def damaged(processes: Processes, folder: Path) -> GradientResult:
    """Only the main process reads the checkpoint, and all hear of it."""
    run = RunFolder(folder / "damaged")
    if processes.is_main:
        run.checkpoint.write_bytes(b"no checkpoint")
    return found(supernet(), changed(), processes, folder=run)


def odd_batch(processes: Processes, folder: Path) -> GradientResult:
    return found(supernet(), changed(), processes, data=SearchData.of_tensors(*squares(), batch_size=15))


def loader(processes: Processes, folder: Path) -> GradientResult:
    images, classes = squares(48)
    sets = torch.utils.data.TensorDataset(images, classes)
    parts = [
        Part.of_loader(torch.utils.data.DataLoader(sets, batch_size=12, shuffle=True), seed=seed) for seed in (1, 2)
    ]
    return found(supernet(), changed(), processes, data=SearchData(weights=parts[0], theta=parts[1]))


CASES: tuple[Callable[[Processes, Path], GradientResult], ...] = (
    like_one,
    per_image,
    loader,
    as_usual,
    resumed,
    bad_images,
    bad_loss,
    damaged,
    odd_batch,
)


def outcome(case: Callable[[Processes, Path], GradientResult], processes: Processes, folder: Path) -> dict[str, Any]:
    (folder / case.__name__).mkdir(exist_ok=True)
    try:
        result = case(processes, folder)
    except FbnetZooError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    networks = [repr(network) for network in result.networks]
    choices = {repr(network.choices) for network in result.networks}
    epochs = [each.model_dump() for each in result.epochs]
    return {"theta": result.theta, "networks": networks, "choices": choices, "epochs": epochs}


def exchanged(processes: Processes) -> dict[str, Any]:
    """Tensors of several types and layouts, and things to share out."""
    image = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    tensors = [image * processes.rank, torch.ones(2, dtype=torch.double) * processes.rank, torch.tensor(3.0)]
    processes.average(tensors)
    return {"means": [tensor.tolist() for tensor in tensors], "squares": processes.spread(range(5), lambda n: n * n)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, launched = Path(sys.argv[1]), Processes.launched()
    outcomes = {case.__name__: outcome(case, launched, where) for case in CASES}
    told = {"processes": repr(launched), "exchanged": exchanged(launched)}
    torch.save(told | outcomes, where / f"{launched.rank}.pt")
    launched.leave()
