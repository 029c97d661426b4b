"""A search that takes a second, and the same in processes that are killed.

`search_run.py FOLDER SEED` searches in one process after the other, kills each at a moment that follows from the seed,
until one comes to the end and writes theta to the folder. It prints how many were killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbnet_zoo.search.cost import CostMetric, macs_cost
from fbnet_zoo.search.dnas.cost import CandidateCost
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.gradient.batches import SearchData
from fbnet_zoo.search.gradient.config import DnasConfig, Multipliers
from fbnet_zoo.search.gradient.loop import GradientResult, search
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.search_spaces import nano_space, nano_supernet

CONFIG = DnasConfig(
    epochs=6, warmup_epochs=1, theta_lr=0.2, weight_lr=0.2, penalty=None, limits={"macs": 45_000.0}, candidates=8
)
PRESSED = CONFIG.model_copy(
    update={"epochs": 3, "limits": {"macs": 37_000.0}, "multipliers": Multipliers(approach=0.0), "checkpoint_steps": 1}
)
"""With a limit that is exceeded from the first step on, so that its multiplier grows; a checkpoint after every step."""

THETA = "theta.pt"


def squares(count: int = 120) -> tuple[Tensor, Tensor]:
    """Images that a network learns at once: the class is the quarter that is bright."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(4, (count,), generator=generator)
    images = 0.3 * torch.randn(count, 3, 16, 16, generator=generator)
    for image, each in zip(images, classes.tolist(), strict=True):
        row, column = divmod(each, 2)
        image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
    return images, classes


def data() -> SearchData:
    return SearchData.of_tensors(*squares(), batch_size=12, seed=0)


def metric() -> CostMetric:
    return macs_cost(CandidateEncoding(nano_space()), num_classes=4)


def expected_cost() -> CandidateCost:
    return CandidateCost(metric=metric())


def run(config: DnasConfig = CONFIG, **options: Any) -> GradientResult:
    return search(nano_supernet(), options.pop("data", None) or data(), [expected_cost()], config, **options)


def _search(folder: Path) -> None:
    found = run(PRESSED, folder=RunFolder(folder))
    torch.save([torch.tensor(each) for each in found.theta], folder / THETA)


def _killed(folder: Path, writes: int) -> bool:
    """Search in a process that is killed once it has written so many checkpoints; return whether it still ran."""
    process = os.fork()
    if not process:
        _search(folder)
        os._exit(0)
    seen = _written(folder)
    while writes:
        time.sleep(1e-3)
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        if (now := _written(folder)) != seen:
            seen, writes = now, writes - 1
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def _written(folder: Path) -> int | None:
    path = RunFolder(folder).checkpoint
    return path.stat().st_mtime_ns if path.exists() else None


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, moments, kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), 0
    while not (where / THETA).exists():
        kills += _killed(where, moments.randrange(2, 10))
    print(kills)
