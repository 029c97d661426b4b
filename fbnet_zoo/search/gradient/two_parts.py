"""The base class of supernets: a module whose parameters are weights and theta, trained in turn."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class TwoParts(nn.Module):
    """A module whose parameters are theta and weights (all others)."""

    @property
    @abstractmethod
    def theta(self) -> tuple[nn.Parameter, ...]:
        """Theta of each decision, (options,): P(i) = softmax(theta)_i."""

    def weight_parameters(self) -> tuple[nn.Parameter, ...]:
        """Return all parameters but theta."""
        theta = set(self.theta)
        return tuple(parameter for parameter in self.parameters() if parameter not in theta)

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Compute no gradients of weights inside: the step of theta does not need them and is much faster without."""
        learning = [parameter for parameter in self.weight_parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)
