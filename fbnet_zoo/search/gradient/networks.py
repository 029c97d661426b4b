"""The protocols of supernets and differentiable costs that `loop.search` accepts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from fbnet_zoo.model import FBNet
from fbnet_zoo.search.gradient.config import Form
from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.space.encoding import Encoding

Masks = Sequence[Tensor]
"""One mask per decision: (options,) for the whole batch, or (N, options) with one row per image."""


class ExpectedCost(Protocol):
    """A cost that is differentiable in the masks.

    Attributes:
        metric: the same cost for one network, or for a population.
    """

    @property
    def metric(self) -> NetworkCost: ...

    def expected(self, masks: Masks) -> Tensor:
        """Return the expected cost of networks drawn from masks; with masks per image, the mean.

        With the probabilities softmax(theta) as masks, it is the expectation over P(theta).
        """


class SearchNetwork(Protocol):
    """A supernet: an `nn.Module` whose parameters are weights and theta.

    Attributes:
        encoding: encoding of the space.
        num_classes: number of outputs of the classifier.
        theta: theta of each decision, (options,): P(i) = softmax(theta)_i.
    """

    @property
    def num_classes(self) -> int: ...
    @property
    def encoding(self) -> Encoding: ...
    @property
    def theta(self) -> tuple[nn.Parameter, ...]: ...

    def weight_parameters(self) -> tuple[nn.Parameter, ...]:
        """Return all parameters but theta."""

    def logits(self, images: Tensor, masks: Masks, form: Form) -> Tensor:
        """Return logits (N, num_classes) for images (N, C, H, W)."""

    def frozen_weights(self) -> AbstractContextManager[None]:
        """Return a context in which no gradients of weights are computed."""

    def extract(self, positions: Sequence[int], *, name: str | None = None) -> FBNet:
        """Return the stand-alone network at some positions, with copies of the supernet's weights and statistics."""

    # methods of nn.Module
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def to(self, *args: Any, **kwargs: Any) -> Any: ...
