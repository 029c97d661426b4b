"""The stochastic supernet: all networks of a search space in one, with weights that they share.

Layer l takes its candidate i with the probability softmax(theta_l)_i (FBNet, Wu et al., arXiv:1812.03443).
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, layers
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.plans import BlockPlan
from fbnet_zoo.search import mixing
from fbnet_zoo.search.convolving import computed
from fbnet_zoo.search.gumbel import Form
from fbnet_zoo.search.networks import Masks, SearchNetwork
from fbnet_zoo.search.points import candidates, choices_at, definition_at, positions_of, require_candidates
from fbnet_zoo.search.two_parts import TwoParts
from fbnet_zoo.space import Choices, Space
from fbnet_zoo.spec import ArchSpec


class MixedLayer(nn.Module):
    """One layer that chooses: its candidates, and theta, from which their probabilities follow.

    Args:
        plans: of the candidates, by name.
        bn_eps: of the batch norms.

    Attributes:
        candidates: the blocks by name.
        theta: (candidates,), P(i) = softmax(theta)_i; all equal at first.
    """

    def __init__(self, plans: Mapping[str, BlockPlan], *, bn_eps: float) -> None:
        super().__init__()
        built = OrderedDict((name, blocks.block(plan, bn_eps=bn_eps)) for name, plan in plans.items())
        self.candidates = nn.ModuleDict(built)
        self.theta = nn.Parameter(torch.zeros(len(plans)))

    def forward(self, x: Tensor, mask: Tensor, mix: mixing.Mix = mixing.fused) -> Tensor:
        return mix(list(self.candidates.values()), x, mask)  # (N, C', H/s, W/s)


class Supernet(TwoParts):
    """All networks of a space: stem, one `MixedLayer` at each place, head, classifier.

    Its parts are named as those of `FBNet`, with `candidates.<name>` below each layer.

    Args:
        space: whose layers choose among candidates and leave nothing else open.
        input_size: of the image, px; the space's largest when not said.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.

    Attributes:
        space: the search space.
        input_size: of the image, px.

    Raises:
        InputError: the space leaves more open, or no image has that size.

    >>> from fbnet_zoo.space import load_space
    >>> supernet = Supernet(load_space("digits_tiny"), num_classes=10)
    >>> masks = [layer.theta.softmax(0) for layer in supernet.mixed]
    >>> supernet(torch.randn(2, 3, 32, 32), masks).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, space: Space, *, input_size: int | None = None, num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__()
        require_candidates(space)
        frame = layers.plan(space.frame, in_channels=in_channels, num_classes=num_classes)
        places, bn_eps = space.places(input_size), space.frame.bn_eps
        self.space, self.input_size = space, input_size or space.spec.input_size[-1]
        self.stem = blocks.block(frame.stem, bn_eps=bn_eps)
        self.stages = nn.ModuleDict()
        for stride, group in groupby(zip(space.layers, places, strict=True), lambda pair: pair[0].output_stride):
            planned = ({name: space.plan(block) for name, block in place.blocks.items()} for _, place in group)
            self.stages[str(stride)] = nn.ModuleList(MixedLayer(plans, bn_eps=bn_eps) for plans in planned)
        self.head = blocks.block(frame.head, bn_eps=bn_eps)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = blocks.classifier(frame)
        self.num_classes, self.in_channels = num_classes, in_channels
        blocks.init_weights(self)

    space: Space

    @property
    def mixed(self) -> tuple[MixedLayer, ...]:
        """The layers that choose, in order."""
        return tuple(layer for stage in self.stages.values() for layer in _mixed(stage))

    @property
    def theta(self) -> tuple[nn.Parameter, ...]:
        """Theta of each layer, (candidates,)."""
        return tuple(layer.theta for layer in self.mixed)

    @property
    def decisions(self) -> tuple[str, ...]:
        """Names of the layers that choose."""
        return tuple(layer.name for layer in self.space.layers)

    @property
    def options(self) -> tuple[tuple[str, ...], ...]:
        """Names of each layer's candidates."""
        return candidates(self.space)

    @property
    def skips(self) -> tuple[int | None, ...]:
        """Of each layer, the position of its skip; `None` where it has none."""
        ops = [list(layer.ops.values()) for layer in self.space.layers]
        return tuple(own.index("skip") if "skip" in own else None for own in ops)

    def forward(self, x: Tensor, masks: Masks, mix: mixing.Mix = mixing.fused) -> Tensor:
        """Return logits, (N, num_classes), of images (N, in_channels, H, W)."""
        x = self.stem(x)
        for layer, mask in zip(self.mixed, masks, strict=True):
            x = layer(x, mask, mix)
        return self.classifier(self.pool(computed(self.head, x)))

    def logits(self, images: Tensor, masks: Masks, form: Form) -> Tensor:
        """Return logits, (N, num_classes), of images (N, in_channels, H, W)."""
        return self(images, masks, mixing.FORMS[form])

    def choices(self, positions: Sequence[int]) -> Choices:
        """Return the point of the space at some positions."""
        return choices_at(self.space, positions)

    def definition(self, positions: Sequence[int], *, name: str | None = None) -> ArchSpec:
        """Return the definition of the network at some positions."""
        return definition_at(self.space, positions, self.input_size, name=name)

    def extract(self, chosen: Choices | Sequence[int], *, name: str | None = None) -> FBNet:
        """Return the stand-alone network of some choices, with copies of the supernet's weights and statistics.

        Args:
            chosen: the choices, or the position of each layer's candidate.
            name: of the network; the space's name and a digest when not said.

        Raises:
            InputError: the space does not offer these choices.
        """
        positions = positions_of(self.space, chosen) if isinstance(chosen, Choices) else tuple(chosen)
        network = FBNet(
            self.definition(positions, name=name), num_classes=self.num_classes, in_chans=self.in_channels, init=False
        )
        network.load_state_dict(self._values(positions))
        weight = next(self.stem.parameters())
        return network.to(device=weight.device, dtype=weight.dtype).train(self.training)

    def _values(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Return the state dict of the network at some positions: of each layer, that of its candidate."""
        values = {name: value for name, value in self.state_dict().items() if not name.startswith("stages.")}
        chosen = iter(positions)
        for stride, stage in self.stages.items():
            for index, layer in enumerate(_mixed(stage)):
                candidate = list(layer.candidates.values())[next(chosen)]
                values |= {f"stages.{stride}.{index}.{name}": value for name, value in candidate.state_dict().items()}
        return values


def one_hot(supernet: SearchNetwork, positions: Sequence[int]) -> list[Tensor]:
    """Return the masks that are 1 for one option of each decision and 0 for the others.

    Raises:
        InputError: the number of positions is not that of the decisions.
    """
    if len(positions) != len(supernet.theta):
        raise InputError(
            f"{supernet.space.name} has {len(supernet.theta)} decisions; {len(positions)} positions are given"
        )
    pairs = zip(supernet.theta, positions, strict=True)
    return [torch.eye(len(theta), dtype=theta.dtype, device=theta.device)[position] for theta, position in pairs]


def _mixed(stage: nn.Module) -> Iterator[MixedLayer]:
    return (layer for layer in stage.children() if isinstance(layer, MixedLayer))
