"""What a search by gradients depends on, with the papers' values as defaults."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.gumbel import Form, Mode, Temperature
from fbnet_zoo.search.objective import Multipliers, Penalty, ProductPenalty
from fbnet_zoo.spec import Name, Positive, Record
from fbnet_zoo.train.recipe import load_over

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class SearchConfig(Record):
    """How a search by FBNet's method is done (Wu et al., arXiv:1812.03443); what the paper leaves open is said.

    FBNetV2 (Wan et al., arXiv:2004.05565) has the same schedule, mask and penalty.

    Attributes:
        epochs: 90 in the paper.
        warmup_epochs: at the beginning, in which theta stays; 10 in the paper.
        weight_lr: learning rate of the weights' SGD, which falls to 0 by a cosine.
        weight_momentum: of it.
        weight_decay: of it.
        theta_lr: learning rate of theta's Adam.
        theta_decay: weight decay of it.
        theta_betas: of it; the paper does not say them, these are Adam's.
        temperature: of the Gumbel-softmax; the floor is ours, below what the paper reaches.
        mode: `soft` runs all candidates, as the paper; `sampled` only the drawn one, which is cheaper and noisier.
        mask_per: one draw for the `batch`, or one for each `image`; the paper does not say. One for each image costs
            more time.
        penalty: of the loss of theta (equation 2); `None` where only limits count. Weights learn from the
            cross-entropy: the cost does not depend on them, and would only change their learning rate.
        limits: the most that a cost may be, in the unit of its metric, by its name; not in the paper.
        multipliers: how limits are kept.
        samples: networks drawn from P(theta) at the end, beside the most probable one; 6 in the paper.
        recalibration_batches: on which batch norm is set anew before these are compared.
        save_memory: with soft masks, keep only the inputs of candidates and run them again for the gradient.
        seed: of weights, masks and samples; equal seeds give equal searches on the same machine.
        checkpoint_steps: steps between two checkpoints; there is one after every epoch in any case.

    >>> SearchConfig().temperature.start, SearchConfig().penalty.beta
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
    mode: Mode = "soft"
    mask_per: Literal["batch", "image"] = "batch"
    penalty: Penalty | None = ProductPenalty()
    limits: dict[Name, Positive] = Field(default_factory=dict)
    multipliers: Multipliers = Multipliers()
    samples: Annotated[int, Field(ge=0)] = 6
    recalibration_batches: Count = 20
    save_memory: bool = False
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    checkpoint_steps: Count = 500

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "sampled" and self.mask_per == "image":
            raise InputError("mode 'sampled' runs one candidate for the whole batch; say mask_per 'batch'")
        return self

    @property
    def form(self) -> Form:
        """How the supernet computes a layer."""
        if self.mode == "sampled":
            return "drawn"
        return "saving" if self.save_memory else "soft"


_DIGITS = SearchConfig(epochs=20, warmup_epochs=4, theta_lr=0.05, temperature=Temperature(decay=0.87, floor=0.3))
"""For few small images: as many steps of theta as matter, in minutes."""


def default_config(kind: str) -> SearchConfig:
    """Return what suits a kind of images: `digits`, `cifar` or `folder`; of the latter two the papers' values.

    >>> default_config("folder").epochs
    90
    """
    return _DIGITS if kind == "digits" else SearchConfig()


def load_config(path: Path, base: SearchConfig) -> SearchConfig:
    """Read a configuration from YAML; what it does not say is as in `base`.

    Raises:
        InputError: the file cannot be read.
        DefinitionError: it is no valid configuration; the text says where and why.
    """
    return load_over(path, base)
