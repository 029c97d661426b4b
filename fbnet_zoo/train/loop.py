"""The training loop: one network, one data set, one recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError, TrainingError
from fbnet_zoo.model import FBNet
from fbnet_zoo.modules import unwrapped
from fbnet_zoo.spec import Percent, Record
from fbnet_zoo.train.batches import Batch, Inputs, TrainingLoader, epoch_indices, seed_of
from fbnet_zoo.train.evaluate import evaluate
from fbnet_zoo.train.fine_tuning import depths, frozen_parts, held
from fbnet_zoo.train.mixing import Mixed, mixed, require_pairs
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.recipe import Count, Recipe, Strength
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.train.run_loop import RunLoop
from fbnet_zoo.train.state import Tally, TrainingState
from fbnet_zoo.train.teacher import Teacher, distilled, teacher_of


class EpochMetrics(Record):
    """One line of the metrics.

    Attributes:
        epoch: number of the epoch, from 1.
        step: steps since the beginning.
        loss: mean loss over the images of the epoch.
        train_top1: accuracy on the augmented training images during the epoch, percent; of mixed images, the class with
            the larger share counts.
        top1: accuracy on the held-out images, percent, of the moving average if there is one; `None` if not evaluated.
        lr: learning rate of the next step.
        seconds: time since the run was started or resumed.
    """

    epoch: Count
    step: Count
    loss: float
    train_top1: Percent
    top1: Percent | None
    lr: Strength
    seconds: Strength


Progress = Callable[[EpochMetrics], None]

_UNREAD = 50
"""Steps after which results are read from a device other than a CPU, to notice a loss that is not finite."""


def fit(  # noqa: PLR0913 - the options of a training
    network: nn.Module,
    dataset: ImageDataset,
    recipe: Recipe,
    inputs: Inputs,
    *,
    folder: RunFolder | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
    teacher: nn.Module | None = None,
    until: int | None = None,
) -> EpochMetrics:
    """Train a network in place, which then has the last weights or their moving average; return the last metrics.

    The weights are those of the last epoch, never the best ones on the held-out images. On a CPU, equal arguments and
    numbers of threads give bit-identical weights. PyTorch's random state is restored.

    Several processes pass the same arguments and get the same weights: each takes its rows of every batch, and
    gradients are averaged, so that the weights are those of one process up to rounding, to batch norm, which sees the
    rows of its own process, and to dropout. A checkpoint may be resumed by another number of processes.

    Args:
        network: module from images `(N, C, crop, crop)` to logits `(N, classes)`.
        dataset: images; `held_out` is only used for evaluation.
        recipe: training settings.
        inputs: input format of the network.
        folder: run folder for checkpoints and metrics; a checkpoint in it is resumed from. Only the main process reads
            and writes it.
        processes: cooperating processes, with device and precision (default: one on a CPU). The network is left on the
            device.
        progress: called after every epoch, in the main process.
        teacher: network to learn from, in place of the one that the recipe names; see `Teacher`. It is left on the
            device.
        until: number of epochs after which to stop; a later call with the same folder resumes (default: all).

    Returns:
        Metrics of the last epoch, or of epoch `until`.

    Raises:
        InputError: there are fewer images than a batch, an image cannot be read, batches cannot be divided among the
            processes, a module to freeze does not exist, or the teacher does not fit.
        TrainingError: the loss or a weight is NaN or infinite; the last good checkpoint is kept.
    """
    together = processes or Processes()
    require_trainable(network, dataset, recipe, together)
    frozen, source = frozen_parts(network, recipe.freeze), teacher_of(recipe, teacher)
    network.to(device=together.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    together.share(network.state_dict().values())
    guide = Teacher(source, dataset, inputs, together.device) if source is not None else None
    with _reproducible(recipe), held(frozen):
        state = TrainingState(network, recipe, steps_per_epoch(dataset, recipe), together, frozen)
        run = _Fit(state, dataset, recipe, inputs, folder, guide)
        *_, last = run.run(progress, until=until)
    if state.average:
        network.load_state_dict(state.result.state_dict())
    if isinstance(inner := unwrapped(network), FBNet):
        inner.class_names = dataset.classes
    return last


def require_trainable(network: nn.Module, dataset: ImageDataset, recipe: Recipe, processes: Processes) -> None:
    """Check that a recipe fits a network, a data set and the processes.

    Raises:
        InputError: it does not.
    """
    processes.shard.rows(recipe.batch_size)
    require_pairs(recipe, processes.shard)
    steps_per_epoch(dataset, recipe)
    frozen_parts(network, recipe.freeze)
    if recipe.layer_lr_decay != 1:
        depths(network)


def steps_per_epoch(dataset: ImageDataset, recipe: Recipe) -> int:
    """Return the number of full batches.

    Raises:
        InputError: there are fewer images than a batch.
    """
    count = len(dataset.train.labels)
    if count < recipe.batch_size:
        raise InputError(
            f"{dataset.name} has {count} training images, fewer than a batch of {recipe.batch_size}; lower batch_size"
        )
    return count // recipe.batch_size


@contextmanager
def _reproducible(recipe: Recipe) -> Iterator[None]:
    threads = torch.get_num_threads()
    changes = recipe.threads not in {None, threads}
    with torch.random.fork_rng():
        if changes:
            torch.set_num_threads(recipe.threads or threads)
        try:
            yield
        finally:
            if changes:
                torch.set_num_threads(threads)


class _Fit(RunLoop[EpochMetrics]):
    def __init__(
        self,
        state: TrainingState,
        dataset: ImageDataset,
        recipe: Recipe,
        inputs: Inputs,
        folder: RunFolder | None,
        teacher: Teacher | None,
    ) -> None:
        steps = recipe.checkpoint_steps
        super().__init__(state, EpochMetrics, folder, checkpoint_steps=steps, processes=state.processes)
        self.state, self.dataset, self.recipe, self.inputs, self.teacher = state, dataset, recipe, inputs, teacher
        self.loader = TrainingLoader(
            dataset.train,
            inputs,
            recipe.augmentation,
            seed=recipe.seed,
            workers=recipe.workers,
            device=state.processes.device,
        )

    def make_steps(self, epoch: int, position: int) -> None:
        self.state.train()
        size, count = self.recipe.batch_size, len(self.dataset.train.labels)
        chosen = epoch_indices(count, size, seed=self.recipe.seed, epoch=epoch)
        for batch in self.loader.batches(chosen[position:, self.processes.shard.rows(size)], epoch=epoch):
            self.make_step(batch)
            self.after_step()

    def make_step(self, batch: Batch) -> None:
        train = mixed(batch, self.recipe, self.state.step)
        own = (self.processes.rank,) if self.processes.rank else ()
        torch.manual_seed(seed_of(self.recipe.seed, self.state.step, *own))  # for dropout and drop path
        with self.processes.autocast():
            logits = self.state.network(train.images)
            loss = self.loss(logits, train)
        self.state.note(loss, logits, train.main)
        if self.processes.kind == "cpu" or self.state.unread == _UNREAD:
            self.read()
        self.state.update(loss)

    def loss(self, logits: Tensor, batch: Mixed) -> Tensor:
        """Return the mean loss of a batch, ()."""
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        if batch.share < 1:
            other = F.cross_entropy(logits, batch.partners, label_smoothing=smoothing)
            loss = batch.share * loss + (1 - batch.share) * other
        return loss if self.teacher is None else distilled(loss, logits, self.teacher.logits(batch.images), self.recipe)

    def read(self) -> None:
        """Wait for the device, and read the results of the last steps."""
        bad = self.state.read()
        if bad is not None:
            raise self.error(f"the loss is {bad[1]} at step {bad[0]}")

    def settle(self) -> None:
        self.read()
        self.state.average_statistics()
        if not self.state.is_finite():
            raise self.error(f"a weight or a statistic is NaN or infinite after step {self.state.step}")

    def begin_epoch(self) -> None:
        self.state.tally = Tally()

    def summarize(self, epoch: int, seconds: float) -> EpochMetrics:
        recipe, tally = self.recipe, self.state.tally
        due = (epoch + 1) % recipe.evaluate_epochs == 0 or epoch + 1 == recipe.epochs
        return EpochMetrics(
            epoch=epoch + 1,
            step=self.state.step,
            loss=tally.loss / tally.images,
            train_top1=100 * tally.correct / tally.images,
            top1=self.top1() if due else None,
            lr=self.state.lr,
            seconds=round(seconds, 3),
        )

    def top1(self) -> float:
        held_out, workers = self.dataset.held_out, self.recipe.workers
        return evaluate(self.state.result, held_out, self.inputs, device=self.processes.device, workers=workers).top1

    def error(self, problem: str) -> TrainingError:
        kept = self.folder is not None and self.folder.checkpoint.exists()
        place = f"; the last good checkpoint is {self.folder.checkpoint}" if self.folder and kept else ""
        return TrainingError(f"{problem}, with a learning rate of {self.state.lr:.2g}{place}; lower 'lr'")
