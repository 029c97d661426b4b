"""The loop that trains: one network, one data set, one recipe."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError, TrainingError
from fbnet_zoo.train.batches import Batch, Inputs, seed_of, training_batches
from fbnet_zoo.train.evaluate import evaluate
from fbnet_zoo.train.recipe import Recipe
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.train.state import Tally, TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """One line of the metrics.

    Attributes:
        epoch: from 1.
        step: steps made since the beginning.
        loss: mean over the images of the epoch.
        train_top1: of these as they were trained on, percent.
        top1: of the held-out images, percent, by the moving average where there is one; `None` if not evaluated.
        lr: learning rate of the next step.
        seconds: since the run was begun or gone on with.
    """

    epoch: int
    step: int
    loss: float
    train_top1: float
    top1: float | None
    lr: float
    seconds: float


Progress = Callable[[EpochMetrics], None]


def fit(
    network: nn.Module,
    dataset: ImageDataset,
    recipe: Recipe,
    inputs: Inputs,
    *,
    folder: RunFolder | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> EpochMetrics:
    """Train a network in place; it then holds the last weights, or their moving average.

    The weights are those of the last epoch, never those that did best on the held-out images. On a CPU the same
    arguments and number of threads give the same weights to the bit. PyTorch's random state is put back.

    Args:
        network: from images `(N, C, crop, crop)` to logits `(N, classes)`.
        dataset: `train` is trained on, `held_out` only evaluated.
        recipe: how.
        inputs: of the network.
        folder: where checkpoints and metrics go; a checkpoint that is there already is gone on from.
        device: where to train, such as `cpu` or `cuda`; the network is there afterwards.
        progress: called after every epoch.

    Returns:
        The metrics of the last epoch.

    Raises:
        InputError: there are fewer images than a batch has, or one cannot be read.
        TrainingError: loss or weights became infinite or no number; the last good checkpoint stays.
    """
    count = len(dataset.train.labels)
    if count < recipe.batch_size:
        raise InputError(
            f"{dataset.name} has {count} images to train on, a batch has {recipe.batch_size}; lower batch_size"
        )
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with _reproducible(recipe):
        state = TrainingState(network, recipe, count // recipe.batch_size)
        run = _Fit(state, dataset, recipe, inputs, folder, device)
        last = run.run(progress or (lambda _: None))
    if state.average:
        network.load_state_dict(state.result.state_dict())
    return last


@contextmanager
def _reproducible(recipe: Recipe) -> Iterator[None]:
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.set_num_threads(recipe.threads or threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(slots=True)
class _Fit:
    state: TrainingState
    dataset: ImageDataset
    recipe: Recipe
    inputs: Inputs
    folder: RunFolder | None
    device: str
    last: EpochMetrics | None = None

    def run(self, progress: Progress) -> EpochMetrics:
        self.resume()
        started = time.perf_counter()
        while self.last is None or self.last.epoch < self.recipe.epochs:
            epoch, first = divmod(self.state.step, self.steps)
            self.train(epoch, first)
            self.last = self.finish(epoch, time.perf_counter() - started)
            progress(self.last)
        return self.last

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.dataset.train.labels) // self.recipe.batch_size

    def resume(self) -> None:
        """Go back to the checkpoint, if there is one."""
        saved = self.folder.load() if self.folder else None
        if saved is not None:
            self.last = EpochMetrics(**saved["last"]) if saved["last"] else None
            self.state.load_state_dict(saved["state"])
        if self.folder:
            self.folder.forget_after(self.state.step)

    def train(self, epoch: int, first: int) -> None:
        """Make the steps of an epoch, from the `first` that is missing."""
        self.state.network.train()
        make = partial(training_batches, self.dataset.train, self.inputs, self.recipe.augmentation)
        recipe, state = self.recipe, self.state
        batches = make(batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch, first=first, workers=recipe.workers)
        for batch in batches:
            self.make_step(batch)
            if state.step % recipe.checkpoint_steps == 0 and state.step % self.steps:  # not before `finish` does
                self.save(self.last)

    def make_step(self, batch: Batch) -> None:
        images, labels = batch[0].to(self.device), batch[1].to(self.device)
        torch.manual_seed(seed_of(self.recipe.seed, self.state.step))  # of dropout and drop path
        logits = self.state.network(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise self.error(f"the loss became {value} at step {self.state.step + 1}")
        self.state.update(loss)
        self.state.tally.add(value, logits.detach(), labels)

    def finish(self, epoch: int, seconds: float) -> EpochMetrics:
        """Evaluate, log and save after an epoch."""
        recipe, tally = self.recipe, self.state.tally
        due = (epoch + 1) % recipe.evaluate_epochs == 0 or epoch + 1 == recipe.epochs
        metrics = EpochMetrics(
            epoch=epoch + 1,
            step=self.state.step,
            loss=tally.loss / tally.images,
            train_top1=100 * tally.correct / tally.images,
            top1=self.top1() if due else None,
            lr=self.state.lr,
            seconds=round(seconds, 3),
        )
        self.state.tally = Tally()
        if self.folder:
            self.folder.log(asdict(metrics))
        self.save(metrics)
        return metrics

    def top1(self) -> float:
        held_out, workers = self.dataset.held_out, self.recipe.workers
        return evaluate(self.state.result, held_out, self.inputs, device=self.device, workers=workers).top1

    def save(self, last: EpochMetrics | None) -> None:
        if not self.state.is_finite():
            raise self.error(f"a weight or a statistic became infinite or no number up to step {self.state.step}")
        if self.folder:
            self.folder.save({"state": self.state.state_dict(), "last": asdict(last) if last else None})

    def error(self, problem: str) -> TrainingError:
        kept = self.folder is not None and self.folder.checkpoint.exists()
        place = f"; the last good checkpoint is {self.folder.checkpoint}" if self.folder and kept else ""
        return TrainingError(f"{problem}, with a learning rate of {self.state.lr:.2g}{place}; lower 'lr'")
