"""The stochastic supernet: all networks of a search space in one, with shared weights.

Layer l takes candidate i with probability softmax(theta_l)_i (FBNet, Wu et al., arXiv:1812.03443).
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import groupby

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, planner
from fbnet_zoo.plans import BlockPlan
from fbnet_zoo.search.dnas import mixing
from fbnet_zoo.search.dnas.encoding import CandidateEncoding
from fbnet_zoo.search.gradient.base_supernet import BaseSupernet, check_size
from fbnet_zoo.search.gradient.config import Form
from fbnet_zoo.search.gradient.convolving import computed
from fbnet_zoo.search.gradient.networks import Masks
from fbnet_zoo.space import Space


class MixedLayer(nn.Module):
    """A layer that chooses: its candidates, and theta, which determines their probabilities.

    Args:
        plans: plans of the candidates, by name.
        bn_eps: epsilon of the batch norms.

    Attributes:
        candidates: blocks by name.
        theta: theta, (candidates,): P(i) = softmax(theta)_i; initially uniform.
    """

    def __init__(self, plans: Mapping[str, BlockPlan], *, bn_eps: float) -> None:
        super().__init__()
        built = OrderedDict((name, blocks.block(plan, bn_eps=bn_eps)) for name, plan in plans.items())
        self.candidates = nn.ModuleDict(built)
        self.theta = nn.Parameter(torch.zeros(len(plans)))

    def forward(self, x: Tensor, mask: Tensor, mix: mixing.Mix = mixing.fused) -> Tensor:
        return mix(list(self.candidates.values()), x, mask)  # (N, C', H/s, W/s)


class Supernet(BaseSupernet):
    """All networks of a space: stem, a `MixedLayer` for each layer, head and classifier.

    Parameters are named as in `FBNet`, with `candidates.<name>` inside each layer.

    Args:
        space: a space where only the candidates are open.
        input_size: side of the image, px (default: the space's largest).
        num_classes: number of outputs of the classifier.
        in_channels: number of image channels.

    Attributes:
        encoding: encoding of the space.

    Raises:
        InputError: more than the candidates is open, or the image size is invalid.

    >>> from fbnet_zoo.space import load_space
    >>> supernet = Supernet(load_space("digits_tiny"), num_classes=10)
    >>> masks = [theta.softmax(0) for theta in supernet.theta]
    >>> supernet(torch.randn(2, 3, 32, 32), masks).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, space: Space, *, input_size: int | None = None, num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.encoding = CandidateEncoding(space, input_size)
        check_size(self.encoding)
        frame = planner.plan(space.frame, in_channels=in_channels, num_classes=num_classes)
        bn_eps = space.frame.bn_eps
        self.stem = blocks.block(frame.stem, bn_eps=bn_eps)
        self.stages = nn.ModuleDict()
        for stride, layers in groupby(self.encoding.layers, lambda layer: layer.name.split(".")[1]):
            planned = ({name: space.plan(each.block) for name, each in layer.branches.items()} for layer in layers)
            self.stages[stride] = nn.ModuleList(MixedLayer(plans, bn_eps=bn_eps) for plans in planned)
        self.head = blocks.block(frame.head, bn_eps=bn_eps)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = blocks.flattening(frame)
        self.classifier = blocks.classifier(frame)
        self.num_classes, self.in_channels = num_classes, in_channels
        blocks.init_weights(self)

    encoding: CandidateEncoding

    @property
    def mixed(self) -> tuple[MixedLayer, ...]:
        """The layers, in order."""
        return tuple(layer for stage in self.stages.values() for layer in _mixed(stage))

    @property
    def theta(self) -> tuple[nn.Parameter, ...]:
        """Theta of each layer, (candidates,)."""
        return tuple(layer.theta for layer in self.mixed)

    def forward(self, x: Tensor, masks: Masks, mix: mixing.Mix = mixing.fused) -> Tensor:
        """Return logits (N, num_classes) for images (N, in_channels, H, W)."""
        x = self.stem(x)
        for layer, mask in zip(self.mixed, masks, strict=True):
            x = layer(x, mask, mix)
        return self.classifier(self.flatten(self.pool(computed(self.head, x)))).flatten(1)

    def logits(self, images: Tensor, masks: Masks, form: Form) -> Tensor:
        """Return logits (N, num_classes) for images (N, in_channels, H, W)."""
        return self(images, masks, mixing.FORMS[form])


def _mixed(stage: nn.Module) -> Iterator[MixedLayer]:
    return (layer for layer in stage.children() if isinstance(layer, MixedLayer))
