"""The base class of supernets: weights and theta, trained in turn, and the networks inside."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from fbnet_zoo import limits
from fbnet_zoo.model import FBNet
from fbnet_zoo.space.encoding import Encoding


def check_size(encoding: Encoding) -> None:
    """Check the size of the supernet of a space, before it is built.

    Raises:
        InputError: its layers, in their largest width, have more parameters than the limit `params`.
    """
    chosen = (branch.block for layer in encoding.layers for branch in layer.branches.values())
    params = sum(encoding.space.plan(block).params for block in chosen)
    limits.check("params", params, f"all blocks of the supernet of {encoding.space.name} together have")


class BaseSupernet(nn.Module):
    """A module whose parameters are theta and weights (all others).

    Parameters are named as in `FBNet`, with `candidates.<name>` inside each layer that chooses.

    Attributes:
        encoding: encoding of the space.
        num_classes: number of outputs of the classifier.
        in_channels: number of image channels.
    """

    encoding: Encoding
    num_classes: int
    in_channels: int

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

    def extract(self, positions: Sequence[int], *, name: str | None = None) -> FBNet:
        """Return the stand-alone network at some positions, with copies of its share of the weights and statistics.

        Args:
            positions: position of the option of each decision.
            name: network name (default: the space's name and a digest).

        Raises:
            InputError: a decision has no such option.
        """
        definition = self.encoding.definition(positions, name=name)
        network = FBNet(definition, num_classes=self.num_classes, in_chans=self.in_channels, init=False)
        network.load_state_dict(dict(self._values(positions, network.state_dict())))
        weight = self.weight_parameters()[0]
        return network.to(device=weight.device, dtype=weight.dtype).train(self.training)

    def _values(self, positions: Sequence[int], narrow: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield names and values of the network at some positions, with the shapes of `narrow`."""
        wide, chosen = self.state_dict(), self.encoding.blocks(positions)
        for name, value in narrow.items():
            place = ".".join(name.split(".")[:3])
            inside = name.removeprefix(f"{place}.")
            own = wide[f"{place}.candidates.{chosen[place]}.{inside}" if place in chosen else name]
            yield name, own[tuple(slice(length) for length in value.shape)]
