"""The configuration of the gradient methods, with the papers' values as defaults."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from fbnet_zoo.search.config import Count, MethodConfig
from fbnet_zoo.spec import Name, Positive, Record

if TYPE_CHECKING:
    from torch import Tensor

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]

Form = Literal["soft", "saving"]
"""How a supernet computes the candidates of a layer: at once, or one by one with less memory."""


class Temperature(Record):
    """The temperature schedule: max(floor, start * decay^epoch).

    Attributes:
        start: initial temperature; 5.0 in the paper.
        decay: factor per epoch; exp(-0.045) in the paper, which gives 0.087 after 90 epochs.
        floor: lowest temperature, so that theta keeps a gradient; below the values of the paper.

    >>> Temperature().at(0), round(Temperature().at(90), 3), Temperature().at(1000)
    (5.0, 0.087, 0.05)
    """

    start: Positive = 5.0
    decay: Positive = math.exp(-0.045)
    floor: Positive = 0.05

    def at(self, epoch: int) -> float:
        """Return the temperature of an epoch, counted from 0."""
        return max(self.floor, self.start * self.decay**epoch)


class ProductPenalty(Record):
    """CE * alpha * log(cost / unit)^beta: equation 2 of FBNet (Wu et al., arXiv:1812.03443).

    The power applies to the logarithm, not to its argument. The paper does not give the unit, which matters: log(20)
    for 20 ms is 3.0, log(20000) for the same latency in microseconds is 9.9.

    Attributes:
        form: name of this penalty.
        metric: name of the cost.
        alpha: factor; 0.2 in the paper.
        beta: power of the logarithm; 0.6 in the paper.
        unit: cost that counts as 1 inside the logarithm, in the metric's unit (0.001 ms is a microsecond). Must be
            below the cost of every network of the space.
    """

    form: Literal["product"] = "product"
    metric: Name = "latency"
    alpha: Positive = 0.2
    beta: Positive = 0.6
    unit: Positive = 1e-3

    def __call__(self, cross_entropy: "Tensor", cost: "Tensor") -> "Tensor":
        return cross_entropy * self.alpha * (cost / self.unit).log() ** self.beta


class SumPenalty(Record):
    """CE + alpha * (cost / unit)^beta, the additive form of several public implementations.

    Attributes:
        form: name of this penalty.
        metric: name of the cost.
        alpha: factor of the cost term.
        beta: power of the cost.
        unit: cost that counts as 1, in the metric's unit.
    """

    form: Literal["sum"] = "sum"
    metric: Name = "latency"
    alpha: Positive = 0.2
    beta: Positive = 0.6
    unit: Positive = 1.0

    def __call__(self, cross_entropy: "Tensor", cost: "Tensor") -> "Tensor":
        return cross_entropy + self.alpha * (cost / self.unit) ** self.beta


Penalty = Annotated[ProductPenalty | SumPenalty, Field(discriminator="form")]


class Multipliers(Record):
    """How limits are satisfied: the augmented Lagrangian for inequalities (Rockafellar, 1973).

    With g = cost / limit - 1, each limit adds (max(0, lambda + damping g)^2 - lambda^2) / (2 damping) to the loss; its
    gradient is max(0, lambda + damping g) times that of g. After each step lambda becomes max(0, lambda + rate g). A
    cost below its limit is not penalized. Limits start at the cost of the average network and tighten step by step: a
    limit far below it would drive theta to the smallest candidates before it has learned which ones are good.

    Attributes:
        rate: growth rate of the multipliers.
        damping: immediate penalty of an excess, which keeps multiplier and cost from oscillating.
        approach: share of theta's epochs in which limits tighten; 0 applies them from the beginning.
    """

    rate: Positive = 0.02
    damping: Positive = 5.0
    approach: Annotated[float, Field(ge=0, le=1)] = 0.5

    def eased(self, limit: float, start: float, done: float) -> float:
        """Return the limit after a share `done` of theta's epochs, with `start` as the initial average cost.

        >>> Multipliers(approach=0.5).eased(1.0, 3.0, 0.25)
        2.0
        """
        if done >= self.approach or start <= limit:
            return limit
        return limit + (start - limit) * (1 - done / self.approach)

    def __call__(self, excess: "Tensor", multipliers: "Tensor") -> "Tensor":
        """Return the term that the limits add to the loss; both arguments have one value per limit."""
        reached = (multipliers + self.damping * excess).clamp(min=0)
        return ((reached**2 - multipliers**2) / (2 * self.damping)).sum()

    def updated(self, excess: "Tensor", multipliers: "Tensor") -> "Tensor":
        """Return the multipliers after a step."""
        return (multipliers + self.rate * excess.detach()).clamp(min=0)


class GradientConfig(MethodConfig):
    """How a supernet and theta are trained (Wu et al., arXiv:1812.03443).

    FBNetV2 (Wan et al., arXiv:2004.05565) has the same schedule, masks and penalty.

    Attributes:
        epochs: number of epochs; 90 in the paper.
        warmup_epochs: warm-up epochs (theta frozen); 10 in the paper.
        weight_lr: learning rate of the weights (SGD), with cosine decay to 0.
        weight_momentum: momentum of the weights.
        weight_decay: weight decay of the weights.
        theta_lr: learning rate of theta (Adam).
        theta_decay: weight decay of theta.
        theta_betas: Adam's betas for theta; not given in the paper, PyTorch's defaults are used.
        temperature: temperature schedule of the Gumbel-softmax; the floor is ours, below the values of the paper.
        mask_per: one draw per `batch` or per `image`, which is slower; the paper does not specify it.
        penalty: cost penalty in the loss of theta (equation 2); `None` for limits only. Weights are trained with the
            cross-entropy: the cost does not depend on them, and would only change their learning rate.
        multipliers: how limits are satisfied.
        samples: networks drawn from P(theta) at the end, beside the most probable one; 6 in the paper.
        candidates: networks compared at the end if there are limits: those drawn, then others near the limits.
        recalibration_batches: number of batches for batch norm recalibration before networks are compared.
        save_memory: with soft masks, keep only the inputs of candidates and recompute them for the gradient.
        checkpoint_steps: steps between checkpoints; there is always one after every epoch.

    >>> DnasConfig().temperature.start, DnasConfig().penalty.beta
    (5.0, 0.6)
    """

    epochs: Count = 90
    warmup_epochs: Annotated[int, Field(ge=0)] = 10
    weight_lr: Positive = 0.1
    weight_momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    theta_lr: Positive = 0.01
    theta_decay: NotNegative = 5e-4
    theta_betas: tuple[Share, Share] = (0.9, 0.999)
    temperature: Temperature = Temperature()
    mask_per: Literal["batch", "image"] = "batch"
    penalty: Penalty | None = ProductPenalty()
    multipliers: Multipliers = Multipliers()
    samples: Annotated[int, Field(ge=0)] = 6
    candidates: Count = 48
    recalibration_batches: Count = 20
    save_memory: bool = False
    checkpoint_steps: Count = 500

    @property
    def total(self) -> int:
        """Number of epochs."""
        return self.epochs

    @property
    def form(self) -> Form:
        """How the supernet computes a layer."""
        return "saving" if self.save_memory else "soft"

    def identity(self) -> dict[str, Any]:
        """Return what a resumed search must have in common; earlier versions had a mode."""
        return super().identity() | {"mode": "soft"}

    @classmethod
    def usual(cls, kind: str) -> Self:
        """Return the defaults for a kind of images; for `digits`, fewer epochs with larger steps of theta.

        >>> DnasConfig.usual("folder").epochs
        90
        """
        digits = {
            "epochs": 20,
            "warmup_epochs": 4,
            "theta_lr": 0.05,
            "temperature": Temperature(decay=0.87, floor=0.3),
        }
        return cls.model_validate(digits if kind == "digits" else {})


class DnasConfig(GradientConfig):
    """The configuration of `dnas`, FBNet's method."""

    method: Literal["dnas"] = "dnas"


class DmaskingConfig(GradientConfig):
    """The configuration of `dmasking`, FBNetV2's method."""

    method: Literal["dmasking"] = "dmasking"
