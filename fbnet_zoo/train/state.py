"""The state of a training: everything that the next step depends on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fbnet_zoo.train.optimizer import optimizer_of, schedule_of
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.recipe import Recipe

_Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums over the steps of the current epoch, over all processes.

    Attributes:
        loss: sum of the loss over images.
        correct: number of correctly classified training images.
        images: number of images.
    """

    loss: float = 0.0
    correct: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step leaves on the device until it is read.

    Attributes:
        number: number of the step, from 1.
        loss: mean loss, ().
        correct: number of correctly classified images, ().
        images: number of images.
    """

    number: int
    loss: Tensor
    correct: Tensor
    images: int


class TrainingState:
    """A network with its moving average, optimizer and schedule, at a step.

    Random numbers are not part of it: every step draws its own from the seed and its number.

    Args:
        network: network to train in place.
        recipe: training settings.
        steps_per_epoch: number of batches per epoch.
        processes: cooperating processes (default: one), which average their gradients.
        frozen: modules of the network whose statistics stay fixed; their weights require no gradients.

    Attributes:
        step: number of steps made so far.
        tally: sums over the steps of the current epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        steps_per_epoch: int,
        processes: Processes | None = None,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        self.network, self.processes, self.frozen = network, processes or Processes(), frozen
        self.scaler = self.processes.scaler()
        self.average = _average(network, recipe)
        self.optimizer = optimizer_of(network, recipe)
        self.schedule = schedule_of(self.optimizer, recipe, steps_per_epoch)
        self.step, self.tally = 0, Tally()
        self._steps: list[Step] = []
        self.epochs, self.steps_per_epoch = recipe.epochs, steps_per_epoch

    @property
    def total(self) -> int:
        """Number of steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    @property
    def place(self) -> tuple[int, int]:
        """Epoch of the next step, and its position in that epoch."""
        return divmod(self.step, self.steps_per_epoch)

    @property
    def result(self) -> nn.Module:
        """The network to evaluate and keep: the moving average, if there is one."""
        return self.average.module if self.average else self.network

    @property
    def lr(self) -> float:
        """Learning rate of the next step; with a layer-wise decay, that of the last layers that are trained."""
        return float(self.schedule.get_last_lr()[0])

    def train(self) -> None:
        """Switch the network to training mode, without the modules that are frozen."""
        self.network.train()
        for part in self.frozen:
            part.eval()

    def update(self, loss: Tensor) -> None:
        """Make one optimizer step with the gradient of a loss, averaged over the processes."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.processes.average(each.grad for each in self.network.parameters() if each.grad is not None)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.network)

    def note(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep the results of a step on the device, without waiting for them."""
        correct = (logits.argmax(1) == labels).sum()
        self._steps.append(Step(number=self.step + 1, loss=loss.detach(), correct=correct, images=len(labels)))

    @property
    def unread(self) -> int:
        """Number of steps whose results have not been read."""
        return len(self._steps)

    def read(self) -> tuple[int, float] | None:
        """Add the results of the last steps, in all processes, to the tally.

        Returns:
            Number and loss of the first step whose loss is not finite, if any.
        """
        if not self._steps:
            return None
        steps, self._steps = self._steps, []
        losses, correct = (
            torch.stack([step.loss for step in steps]).float(),
            torch.stack([step.correct for step in steps]).sum().double().cpu(),
        )
        self.processes.average([losses])
        values = losses.tolist()
        count = self.processes.count
        self.tally.loss += sum(value * step.images * count for value, step in zip(values, steps, strict=True))
        self.tally.correct += int(self.processes.total(float(correct)))
        self.tally.images += sum(step.images for step in steps) * count
        bad = ((step.number, value) for step, value in zip(steps, values, strict=True) if not math.isfinite(value))
        return next(bad, None)

    def average_statistics(self) -> None:
        """Average the batch norm statistics over the processes, unless they are frozen."""
        ends, frozen = ("running_mean", "running_var"), {id(each) for part in self.frozen for each in part.buffers()}
        found = {name: value for name, value in self.network.named_buffers() if name.endswith(ends)}
        names = [name for name, value in found.items() if id(value) not in frozen]
        averaged = dict(self.average.module.named_buffers()) if self.average else {}
        self.processes.average(buffers[name] for buffers in (found, averaged) if buffers for name in names)

    def is_finite(self) -> bool:
        """Return whether all parameters and statistics are finite."""
        return all(bool(value.isfinite().all()) for value in self.network.state_dict().values())

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, for `torch.save`."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        tally = {"loss": self.tally.loss, "correct": self.tally.correct, "images": self.tally.images}
        return {**parts, "step": self.step, "tally": tally}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.tally = state["step"], Tally(**state["tally"])

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
        parts |= {"average": self.average} if self.average else {}
        return parts | ({"scaler": self.scaler} if self.scaler.is_enabled() else {})


def _average(network: nn.Module, recipe: Recipe) -> AveragedModel | None:
    if recipe.ema_decay is None:
        return None
    average = AveragedModel(network, multi_avg_fn=_averaging(recipe.ema_decay), use_buffers=True)
    return average.requires_grad_(False)


def _averaging(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Return PyTorch's moving average with a faster start; otherwise short runs would retain the random weights."""

    @torch.no_grad()
    def average(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        early = (1 + int(count)) / (10 + int(count))
        get_ema_multi_avg_fn(min(decay, early))(averaged, current, count)

    return average
