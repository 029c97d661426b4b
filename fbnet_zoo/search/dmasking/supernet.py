"""The supernet of DMaskingNAS: all networks of a space in one, with masks instead of branches.

Beside the block of each layer, its expansion and channels are decisions, and so is the image size (FBNetV2, Wan et al.,
arXiv:2004.05565). Each block runs once per image size, regardless of the number of widths.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, planner
from fbnet_zoo.blocks import PoolHead
from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import ConvPlan, PoolHeadPlan
from fbnet_zoo.search.dmasking.blocks import NOTHING_INSIDE, masked_branch, masked_pool_head, per_channel
from fbnet_zoo.search.dmasking.channel_masks import InnerLadders, InnerMasks, Ladder, inner_widths, widest
from fbnet_zoo.search.dmasking.layer import LayerMasks, LayerScales, MaskedLayer
from fbnet_zoo.search.dmasking.resolution import SizedRun, at_sizes
from fbnet_zoo.search.gradient.base_supernet import BaseSupernet, check_size
from fbnet_zoo.search.gradient.config import Form
from fbnet_zoo.search.gradient.networks import Masks
from fbnet_zoo.space import Space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.space.slots import SIZE, STEM, EncodedLayer


class MaskedSupernet(BaseSupernet):
    """All networks of a space with open blocks, kernels, expansions, channels and image sizes.

    Parameters are named as in `FBNet`, with `candidates.<name>` inside each layer, and have the largest width. With
    masks that are 1 for one option of each decision, it computes the network of these options.

    Args:
        space: a space with one block per layer.
        num_classes: number of outputs of the classifier.
        in_channels: number of image channels.

    Attributes:
        encoding: encoding of the space.

    Raises:
        InputError: the space has open depths, open squeeze-excite, or grouped convolutions with open channels, which
            masks do not support.

    >>> from fbnet_zoo.space import load_space
    >>> supernet = MaskedSupernet(load_space("digits_masking"), num_classes=10)
    >>> [decision.name for decision in supernet.encoding.decisions[:5]]
    ['input_size', 'stem c', 'stages.2.0', 'stages.2.0 c', 'stages.4.0']
    >>> supernet(torch.randn(2, 3, 32, 32), [theta.softmax(0) for theta in supernet.theta]).shape
    torch.Size([2, 10])
    """

    def __init__(self, space: Space, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        require_single_blocks(space)
        self.encoding, self.num_classes, self.in_channels = Encoding(space), num_classes, in_channels
        check_size(self.encoding)
        bn_eps, heads = space.frame.bn_eps, self.encoding.heads()
        frame = planner.plan(space.frame, in_channels=in_channels, num_classes=num_classes)
        stem = replace(frame.stem, out_channels=space.spec.stem.out_channels[-1])
        self.stem = blocks.block(stem, bn_eps=bn_eps)
        self.stem_channels = Ladder(space.spec.stem.out_channels)
        self.stages = nn.ModuleDict()
        for stride, layers in groupby(self.encoding.layers, _stage):
            self.stages[stride] = nn.ModuleList(MaskedLayer(space, layer, bn_eps=bn_eps) for layer in layers)
        head = widest([each for row in heads for each in row], "head")
        assert isinstance(head, ConvPlan | PoolHeadPlan)  # noqa: S101 - the two kinds of heads
        self.head = blocks.block(head, bn_eps=bn_eps)
        widths = inner_widths(row[-1] for row in heads)
        self.head_inside = None if widths is None else InnerLadders(widths)
        self.head_channels = Ladder(space.spec.head.out_channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = blocks.flattening(frame)
        self.classifier = blocks.classifier(replace(frame, head=head))
        self.thetas = nn.ParameterDict(  # from pairs, as it would sort a mapping
            [(_key(each.name), nn.Parameter(torch.zeros(len(each.options)))) for each in self.encoding.decisions]
        )
        blocks.init_weights(self)

    @property
    def theta(self) -> tuple[nn.Parameter, ...]:
        """Theta of each decision, (options,): P(i) = softmax(theta)_i; initially uniform."""
        return tuple(self.thetas.values())

    @property
    def masked(self) -> tuple[MaskedLayer, ...]:
        """The layers, in order."""
        return tuple(layer for stage in self.stages.values() for layer in _layers(stage))

    def logits(self, images: Tensor, masks: Masks, form: Form) -> Tensor:
        """Return logits (N, num_classes) for images (N, in_channels, H, H).

        Args:
            images: images, of `input_size` px if the size is a decision.
            masks: mask of each decision.
            form: `soft` runs all blocks at all sizes; `saving` does the same but keeps only their inputs.

        Raises:
            InputError: the images have another size.
        """
        return self(images, masks, form)

    def forward(self, x: Tensor, masks: Masks, form: Form = "soft") -> Tensor:
        full = self.encoding.full(list(masks), x.new_ones(1))
        x, sides, sizes = self._sizes(x, full[SIZE])

        def runs(index: int) -> list[SizedRun]:
            sized = zip(sides, sizes, strict=True)
            return [SizedRun(before=own[index], after=own[index + 1], weight=weight) for own, weight in sized]

        stem = self.stem_channels(full[STEM])
        x = at_sizes(partial(self._stem, mask=stem), x, runs(0), placed=True)
        for index, (layer, encoded) in enumerate(zip(self.masked, self.encoding.layers, strict=True)):
            before, branch, expansion, _, after = (full[axis] for axis in encoded.axes)
            scales = layer.scales(LayerMasks(before=before, branch=branch, expansion=expansion, after=after))
            x = at_sizes(partial(_run, layer, scales, form), x, runs(index + 1), placed=True)
        last = [SizedRun(before=own[-1], after=1, weight=weight) for own, weight in zip(sides, sizes, strict=True)]
        inner = (
            NOTHING_INSIDE if self.head_inside is None else self.head_inside(full[self.encoding.layers[-1].axes[-1]])
        )
        head = partial(self._head, inner=inner, mask=self.head_channels(full[-1]))
        return self.classifier(self.flatten(at_sizes(head, x, last, placed=False))).flatten(1)

    def _sizes(self, x: Tensor, mask: Tensor) -> tuple[Tensor, list[tuple[int, ...]], tuple[Tensor, ...]]:
        """Return the images, the output sides of all layers at each size that runs, and the weights of these sizes."""
        sides, weights = list(self.encoding.sides), mask.split(1, -1)
        if len(sides) == 1:
            return x, sides, weights
        if x.shape[2:] != (self.encoding.input_size, self.encoding.input_size):
            raise InputError(
                f"the image size is a decision of {self.encoding.space.name}, so images must have the largest size, "
                f"{self.encoding.input_size} px wide and high; these are {x.shape[3]} x {x.shape[2]}"
            )
        return x, sides, weights

    def _stem(self, x: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
        return masked_branch(self.stem, x, NOTHING_INSIDE, _times(weight, mask))

    def _head(self, x: Tensor, weight: Tensor, inner: InnerMasks, mask: Tensor | None) -> Tensor:
        """Return pooled features (N, C, 1, 1)."""
        scale = _times(weight, mask)
        if isinstance(self.head, PoolHead):
            return masked_pool_head(self.head, x, inner, scale)
        return self.pool(self.head(x)) * per_channel(scale)


def require_single_blocks(space: Space) -> None:
    """Refuse a space with several blocks in a layer, or open squeeze-excite.

    Raises:
        InputError: a layer has several blocks, or leaves squeeze-excite open.
    """
    for layer in space.layers:
        if layer.row.repeats != (1,):
            raise InputError(
                f"the space {space.name} has several blocks ('r') in {layer.name}, which channel masks do not support; "
                "use 'layers' in its row, or a space such as fbnetv2_f or digits_masking"
            )
        if "se_ratio" in layer.options():
            raise InputError(
                f"the space {space.name} leaves squeeze-excite ('se') of {layer.name} open, which channel masks do not "
                "support; name blocks with and without it as candidates, as fbnetv2_f and digits_masking do"
            )


def _stage(layer: EncodedLayer) -> str:
    return layer.name.split(".")[1]


def _layers(stage: nn.Module) -> Iterator[MaskedLayer]:
    return (layer for layer in stage.children() if isinstance(layer, MaskedLayer))


def _key(decision: str) -> str:
    """Return the name of a decision as a valid parameter name."""
    return decision.replace(".", "_").replace(" ", "_")


def _times(weight: Tensor, mask: Tensor | None) -> Tensor:
    return weight if mask is None else weight * mask


def _run(layer: MaskedLayer, scales: LayerScales, form: Form, x: Tensor, weight: Tensor) -> Tensor:
    return layer(x, scales, weight, form)
