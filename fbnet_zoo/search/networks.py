"""What a search needs of a supernet and of a cost, whatever its method: these are what `loop.search` takes.

A supernet makes decisions, each among a few options; its theta has one vector for each decision, and a network of it
is told by positions, one option for each decision.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from fbnet_zoo.model import FBNet
from fbnet_zoo.search.gumbel import Form
from fbnet_zoo.space import Choices, Space
from fbnet_zoo.spec import ArchSpec

Masks = Sequence[Tensor]
"""One for each decision: (options,) for the whole batch, or (N, options), one row for each image."""

Positions = tuple[int, ...]
"""Of each decision, which option was taken."""


class Metric(Protocol):
    """A cost of networks, differentiable in masks.

    Attributes:
        name: of the metric, such as `latency`.
        unit: of all figures.
        base: cost of the cheapest network of the space.
        fastest: positions of that network.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def base(self) -> float: ...
    @property
    def fastest(self) -> Positions: ...

    def of(self, positions: Sequence[int]) -> float:
        """Return the cost of the network at some positions."""

    def expected(self, masks: Masks) -> Tensor:
        """Return the expected cost of networks drawn from masks; of masks for each image, the mean."""


class SearchNetwork(Protocol):
    """A supernet: an `nn.Module` whose parameters are weights and theta.

    Attributes:
        space: the search space.
        input_size: of the image, px; the largest where the size is a decision.
        num_classes: outputs of the classifier.
        decisions: names of what is decided, in order.
        options: of each decision, names of its options.
        skips: of each decision, the position of the option that leaves the layer out; `None` where there is none.
        theta: of each decision, (options,): P(i) = softmax(theta)_i.
    """

    space: Space
    input_size: int
    num_classes: int

    @property
    def decisions(self) -> tuple[str, ...]: ...
    @property
    def options(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def skips(self) -> tuple[int | None, ...]: ...
    @property
    def theta(self) -> tuple[nn.Parameter, ...]: ...

    def weight_parameters(self) -> tuple[nn.Parameter, ...]:
        """Return all parameters but theta."""

    def logits(self, images: Tensor, masks: Masks, form: Form) -> Tensor:
        """Return logits, (N, num_classes), of images (N, C, H, W)."""

    def frozen_weights(self) -> AbstractContextManager[None]:
        """Compute no gradients of weights inside."""

    def choices(self, positions: Sequence[int]) -> Choices:
        """Return the point of the space at some positions."""

    def definition(self, positions: Sequence[int], *, name: str | None = None) -> ArchSpec:
        """Return the definition of the network at some positions."""

    def extract(self, chosen: Sequence[int], *, name: str | None = None) -> FBNet:
        """Return the stand-alone network at some positions, with copies of the supernet's weights and statistics."""

    # of nn.Module
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def to(self, *args: Any, **kwargs: Any) -> Any: ...
