"""The loop of a search by gradients (Wu et al., arXiv:1812.03443), from images and costs to networks.

Every epoch trains the weights of the supernet on one part of the images and then, after a warm-up, theta on the other.
At the end, networks are drawn from P(theta), brought within the limits, and compared.

Several processes search like one: all draw the same masks, each takes its rows of every batch, and gradients are
averaged. Only batch norm sees just the rows of its own process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.errors import InputError, TrainingError
from fbnet_zoo.search.gradient.batches import SearchData
from fbnet_zoo.search.gradient.compare import compare_networks
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch, epoch_record, warn_of_collapse
from fbnet_zoo.search.gradient.gumbel import draw_masks, gumbel_noise
from fbnet_zoo.search.gradient.networks import ExpectedCost, SearchNetwork
from fbnet_zoo.search.gradient.objective import Objective
from fbnet_zoo.search.gradient.state import SearchState, SearchTally
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.train.batches import Batch, seed_of
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.train.run_loop import RunLoop

Progress = Callable[[SearchEpoch], None]

_UNREAD = 50
"""Steps after which results are read from a device other than a CPU, to notice a loss that is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientResult:
    """The result of a search by gradients.

    Attributes:
        networks: the most probable network and those drawn, each once; within the limits first, then by accuracy.
        theta: theta of each decision, a value for each option.
        epochs: records of the epochs.
    """

    networks: tuple[NetworkRecord, ...]
    theta: tuple[tuple[float, ...], ...]
    epochs: tuple[SearchEpoch, ...]

    @property
    def best(self) -> NetworkRecord:
        """The first of the networks."""
        return self.networks[0]

    @property
    def met(self) -> bool:
        """Whether the best network is within all limits."""
        return self.best.within_limits


def search(
    supernet: SearchNetwork,
    data: SearchData,
    costs: Sequence[ExpectedCost],
    config: GradientConfig,
    *,
    folder: RunFolder | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> GradientResult:
    """Search a space; the supernet is trained in place.

    Equal arguments and numbers of threads and processes give an equal theta, bit-identical on a CPU, even if resumed.
    PyTorch's random state is restored.

    Several processes pass the same arguments and get the same result; theta equals that of one process up to rounding
    and the effect of smaller batches on batch norm. A checkpoint may be resumed by another number of processes.

    Args:
        supernet: supernet of the space, with initial weights.
        data: images for weights and theta.
        costs: costs to report, including those named by penalty and limits.
        config: configuration of the search.
        folder: run folder for checkpoints and epoch records; a checkpoint in it is resumed from. Only the main process
            reads and writes it.
        processes: cooperating processes, with device and precision (default: one on a CPU). The supernet is left on the
            device.
        progress: called after every epoch, in the main process.

    Raises:
        InputError: no network of the space satisfies a limit, a metric is missing, the folder's checkpoint is from
            another search, or batches cannot be divided among the processes.
        TrainingError: a value is NaN or infinite; the text names it, and the last good checkpoint is kept.
    """
    metrics = [cost.metric for cost in costs]
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise InputError(f"names of costs must be unique, but are {', '.join(names)}")
    objective = Objective(metrics, config.penalty, config.limits, config.multipliers)
    together = processes or Processes()
    supernet.to(device=together.device, memory_format=torch.channels_last)
    together.share(supernet.state_dict().values())
    state = SearchState(supernet, config, (data.weights.steps, data.theta.steps), together)
    run = _Search(state, data, costs, objective, folder)
    with torch.random.fork_rng(devices=[together.device] if together.kind == "cuda" else []):
        run.supernet.train()
        epochs = run.run(progress)
        networks = compare_networks(
            supernet, data, {metric.name: metric for metric in metrics}, config, processes=together
        )
    theta = tuple(tuple(each.tolist()) for each in supernet.theta)
    return GradientResult(networks=networks, theta=theta, epochs=epochs)


class _Search(RunLoop[SearchEpoch]):
    def __init__(
        self,
        state: SearchState,
        data: SearchData,
        costs: Sequence[ExpectedCost],
        objective: Objective,
        folder: RunFolder | None,
    ) -> None:
        steps, processes = state.config.checkpoint_steps, state.processes
        super().__init__(state, SearchEpoch, folder, checkpoint_steps=steps, processes=processes)
        self.state, self.data, self.costs, self.objective = state, data, costs, objective
        self.supernet, self.config = state.supernet, state.config

    @cached_property
    def starts(self) -> dict[str, float]:
        """Average costs of networks under the initial, uniform theta."""
        even = [torch.full_like(theta, 1 / len(theta)) for theta in self.supernet.theta]
        return {cost.metric.name: cost.expected(even).item() for cost in self.costs}

    def make_steps(self, epoch: int, position: int) -> None:
        """Train the weights on their part of the images, then theta on the other."""
        own, temperature, shard = self.state.steps[0], self.config.temperature.at(epoch), self.processes.shard
        for batch in self.data.weights.batches(epoch, position, shard) if position < own else ():
            self.step_weights(self.moved(batch), temperature)
            self.after_step()
        if epoch >= self.config.warmup_epochs:
            self.state.weights.zero_grad()  # frees their memory
            with self.supernet.frozen_weights():
                for batch in self.data.theta.batches(epoch, max(0, position - own), shard):
                    self.step_theta(self.moved(batch), temperature)
                    self.after_step()

    def moved(self, batch: Batch) -> Batch:
        images = batch[0].to(self.processes.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        return images, batch[1].to(self.processes.device, non_blocking=True)

    def step_weights(self, batch: Batch, temperature: float) -> None:
        self.state.set_weight_lr()
        masks = [mask.detach() for mask in self.masks(len(batch[0]), temperature)]
        loss = F.cross_entropy(self.logits(batch[0], masks), batch[1])
        self.state.note(loss, batch[0])
        self.read_if_due()
        self.state.learn(loss, self.state.weights)

    def step_theta(self, batch: Batch, temperature: float) -> None:
        masks = self.masks(len(batch[0]), temperature)
        logits = self.logits(batch[0], masks)
        costs = {cost.metric.name: cost.expected(masks) for cost in self.costs}
        expected = self.expected()
        limits, multipliers = self.objective.easing(self.starts, self.state.theta_done), self.state.multipliers
        loss = self.objective(F.cross_entropy(logits, batch[1]), costs, expected, multipliers, limits)
        self.state.note(loss, batch[0], (logits.argmax(1) == batch[1]).sum(), costs)
        self.read_if_due()
        self.state.learn(loss, self.state.theta)
        self.state.multipliers = self.objective.updated(expected, multipliers, limits)

    def expected(self) -> dict[str, Tensor]:
        """Return the expectation over P(theta) of the metrics with limits."""
        shares = [theta.softmax(-1) for theta in self.supernet.theta]
        limited = [cost for cost in self.costs if cost.metric.name in self.config.limits]
        return {cost.metric.name: cost.expected(shares) for cost in limited}

    def masks(self, images: int, temperature: float) -> tuple[Tensor, ...]:
        """Draw the masks of this step, for the images of all processes; they weight outputs and costs."""
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, self.state.step))
        rows = images * self.processes.count if self.config.mask_per == "image" else None
        noise = gumbel_noise(self.supernet.theta, generator, images=rows)
        return draw_masks(self.supernet.theta, noise, temperature)

    def logits(self, images: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return the logits of this process's images, at least in single precision."""
        if self.config.mask_per == "image":
            masks = [mask[self.processes.shard.rows(len(mask))] for mask in masks]
        with self.processes.autocast():
            logits = self.supernet.logits(images, masks, self.config.form)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def read_if_due(self) -> None:
        """Read the results of the last steps: of each on a CPU, elsewhere only of many, as the device is waited for."""
        if self.processes.kind == "cpu" or self.state.unread == _UNREAD:
            self.read()

    def read(self) -> None:
        """Read the results of the last steps; stop all processes, with the cause, if a loss is NaN or infinite."""
        bad = self.state.read()
        if bad is not None:
            causes = self.processes.gathered(self.state.not_finite() if bad.images else "the images")
            raise self.error(next(filter(None, causes), "the loss"), bad.number)

    def error(self, what: str, steps: int) -> TrainingError:
        return TrainingError(
            f"the search stopped after {steps} steps: NaN or infinite values in {what}; "
            "lower weight_lr or theta_lr, or check the images"
        )

    def settle(self) -> None:
        """Bring the processes to the same state, and check that it is finite."""
        self.read()
        self.state.average_statistics()
        broken = self.state.not_finite()
        if broken is not None:
            raise self.error(broken, self.state.step)

    def begin_epoch(self) -> None:
        self.state.tally = SearchTally()

    def summarize(self, epoch: int, seconds: float) -> SearchEpoch:
        record = epoch_record(self.state, epoch, self.costs, seconds)
        warn_of_collapse(record)
        return record
