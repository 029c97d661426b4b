"""The state of a search: everything that the next step depends on.

Random numbers are not part of it: every step draws its own from the seed and its number.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.networks import SearchNetwork
from fbnet_zoo.train.processes import Processes


@dataclass(slots=True, kw_only=True)
class SearchTally:
    """Sums over the steps of the current epoch.

    Attributes:
        weight_loss: sum of the cross-entropy over the weight steps.
        weight_steps: number of weight steps.
        theta_loss: sum of the loss over the theta steps.
        theta_steps: number of theta steps.
        correct: correctly classified images of the theta steps.
        images: images of the theta steps.
        costs: metric name to its sum over the theta steps, under their masks.
    """

    weight_loss: float = 0.0
    weight_steps: int = 0
    theta_loss: float = 0.0
    theta_steps: int = 0
    correct: int = 0
    images: int = 0
    costs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStep:
    """What a step leaves on the device until it is read.

    Attributes:
        number: steps made before this one.
        loss: mean loss, ().
        images: images of this process.
        finite: whether all images are finite, ().
        correct: number of correctly classified images, (); `None` in a step of the weights.
        costs: metric name to its value under the masks, (); empty in a step of the weights.
    """

    number: int
    loss: Tensor
    images: int
    finite: Tensor
    correct: Tensor | None = None
    costs: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadStep:
    """A step whose loss is NaN or infinite.

    Attributes:
        number: steps made before this one.
        images: whether the images of this process were finite.
    """

    number: int
    images: bool


class SearchState:
    """A supernet with its two optimizers and the multipliers of the limits, at a step.

    Args:
        supernet: supernet to train in place.
        config: configuration of the search.
        steps: weight steps and theta steps per epoch.
        processes: cooperating processes (default: one on a CPU).

    Attributes:
        multipliers: multipliers of the limits, (limits,).
        step: steps of either kind made so far.
        tally: sums over the steps of the current epoch.
    """

    def __init__(
        self,
        supernet: SearchNetwork,
        config: GradientConfig,
        steps: tuple[int, int],
        processes: Processes | None = None,
    ) -> None:
        self.supernet, self.config, self.steps = supernet, config, steps
        self.processes = processes or Processes()
        self.scaler = self.processes.scaler()
        self.weights = torch.optim.SGD(
            supernet.weight_parameters(),
            lr=config.weight_lr,
            momentum=config.weight_momentum,
            weight_decay=config.weight_decay,
            fused=True,  # one pass over the memory of all weights
        )
        for weight in supernet.weight_parameters():  # fused SGD needs all or none, and a step may not use all
            self.weights.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.theta = torch.optim.Adam(
            supernet.theta, lr=config.theta_lr, betas=config.theta_betas, weight_decay=config.theta_decay
        )
        self.multipliers = torch.zeros(len(config.limits), device=supernet.theta[0].device)
        self.step, self.tally = 0, SearchTally()
        self._steps: list[SearchStep] = []

    @property
    def total(self) -> int:
        """Number of steps of the whole search."""
        return self.first_step(self.config.epochs)

    def first_step(self, epoch: int) -> int:
        """Return the number of steps before an epoch."""
        return epoch * self.steps[0] + max(0, epoch - self.config.warmup_epochs) * self.steps[1]

    @property
    def place(self) -> tuple[int, int]:
        """The epoch of the next step and its position in it: all weight steps first, then the theta steps."""
        warmup = self.config.warmup_epochs * self.steps[0]
        if self.step < warmup:
            return divmod(self.step, self.steps[0])
        epochs, position = divmod(self.step - warmup, sum(self.steps))
        return self.config.warmup_epochs + epochs, position

    @property
    def theta_done(self) -> float:
        """Share of theta's epochs completed before the next step."""
        epoch, position = self.place
        first, last = self.config.warmup_epochs, self.config.epochs
        return (epoch - first + position / sum(self.steps)) / max(1, last - first)

    def set_weight_lr(self) -> None:
        """Set the learning rate of the weights for the next step: a cosine over all weight steps."""
        epoch, position = self.place
        done = (epoch * self.steps[0] + position) / (self.config.epochs * self.steps[0])
        for group in self.weights.param_groups:
            group["lr"] = self.config.weight_lr * (1 + math.cos(math.pi * done)) / 2

    def learn(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Make a step of an optimizer, with the gradient of a loss averaged over the processes."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        learning = (parameter for group in optimizer.param_groups for parameter in group["params"])
        self.processes.average(each.grad for each in learning if each.grad is not None)
        self.scaler.step(optimizer)
        self.scaler.update()

    def note(
        self, loss: Tensor, images: Tensor, correct: Tensor | None = None, costs: Mapping[str, Tensor] | None = None
    ) -> None:
        """Keep the results of a step on the device, without waiting for them.

        Args:
            loss: mean loss, ().
            images: images of this process, (N, C, H, W).
            correct: number of correctly classified images, (), in a step of theta.
            costs: metric name to its value under the masks, (), in a step of theta.
        """
        self._steps.append(
            SearchStep(
                number=self.step,
                loss=loss.detach(),
                images=len(images),
                finite=images.isfinite().all(),
                correct=correct,
                costs={name: cost.detach() for name, cost in (costs or {}).items()},
            )
        )

    @property
    def unread(self) -> int:
        """Number of steps whose results have not been read."""
        return len(self._steps)

    def read(self) -> BadStep | None:
        """Add the results of the last steps, in all processes, to the tally.

        Returns:
            The first step whose loss, averaged over the processes, is not finite, if any.
        """
        if not self._steps:
            return None
        steps, self._steps = self._steps, []
        losses = torch.stack([step.loss for step in steps]).double()
        self.processes.average([losses])
        values = losses.tolist()
        self._count(steps, values)
        bad = (step for step, value in zip(steps, values, strict=True) if not math.isfinite(value))
        return next((BadStep(number=step.number, images=bool(step.finite)) for step in bad), None)

    def _count(self, steps: Sequence[SearchStep], losses: Sequence[float]) -> None:
        """Add steps to the tally; each sum is read from the device once."""
        tally, of_theta = self.tally, [step for step in steps if step.correct is not None]
        for step, loss in zip(steps, losses, strict=True):
            if step.correct is None:
                tally.weight_loss += loss
                tally.weight_steps += 1
            else:
                tally.theta_loss += loss
                tally.theta_steps += 1
                tally.images += step.images * self.processes.count
        correct = [step.correct for step in of_theta if step.correct is not None]
        if correct:
            tally.correct += int(self.processes.total(int(torch.stack(correct).sum())))
        for name in of_theta[0].costs if of_theta else ():
            total = torch.stack([step.costs[name] for step in of_theta]).double().sum()
            tally.costs[name] = tally.costs.get(name, 0.0) + float(total)

    def average_statistics(self) -> None:
        """Average the batch norm statistics over the processes."""
        names = ("running_mean", "running_var")
        self.processes.average(value for name, value in self.supernet.named_buffers() if name.endswith(names))

    def not_finite(self) -> str | None:
        """Return the name of the first parameter or statistic that is NaN or infinite, if any."""
        return next((name for name, value in self._values() if not bool(value.isfinite().all())), None)

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.supernet.state_dict().items()
        yield "multipliers", self.multipliers

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, for `torch.save`."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {
            **parts,
            "multipliers": self.multipliers,
            "step": self.step,
            "tally": asdict(self.tally),
            "identity": self._identity(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            InputError: the state is from another search.
        """
        for name, ours in self._identity().items():
            before = state["identity"][name]
            if isinstance(before, str) and isinstance(ours, dict):
                before = json.loads(before)  # text, in old ones
            if before != ours:
                raise InputError(
                    f"the checkpoint is from a search with another {name} ({before}, now {ours}); use the same value, "
                    "or start again in a new folder"
                )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.multipliers = state["multipliers"].to(self.multipliers)
        self.step, self.tally = state["step"], SearchTally(**state["tally"])

    def _parts(self) -> dict[str, SearchNetwork | torch.optim.Optimizer | torch.amp.GradScaler]:
        return {"supernet": self.supernet, "weights": self.weights, "theta": self.theta, "scaler": self.scaler}

    def _identity(self) -> dict[str, Any]:
        net = self.supernet
        return {
            "space": net.encoding.space.name,
            "input size": net.encoding.input_size,
            "number of classes": net.num_classes,
            "number of steps": list(self.steps),
            "precision": self.processes.precision,
            "configuration": self.config.identity(),
        }
