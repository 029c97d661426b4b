"""The network of a definition: stem, stages, head, classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, modules, planner
from fbnet_zoo.errors import InputError, require_whole
from fbnet_zoo.planner import MAX_CHANNELS, MAX_CLASSES
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.spec import ArchSpec

OUTPUT_STRIDES = (8, 16, 32)

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInfo:
    """One level of features.

    Attributes:
        channels: channels of the feature map.
        output_stride: image pixels per feature pixel.
        module: name of the module that outputs the features.
    """

    channels: int
    output_stride: int
    module: str


class FBNet(nn.Module):
    """A classifier built from a definition.

    Args:
        spec: the definition, available as `spec`.
        num_classes: outputs of the classifier; 0 gives pooled features.
        in_chans: channels of the image.
        drop_rate: dropout rate before the classifier.
        drop_path_rate: drop-path rate of the last block; it rises linearly from 0 at the first.
        output_stride: 32, or 16 or 8 to replace later strides by dilations.
        init: initialize the parameters; `False` only if a checkpoint follows.

    Attributes:
        num_features: channels of the output of `forward_features`.
        head_hidden_size: channels of the input of the classifier.
        feature_info: the levels of features, finest first.
        weights: name of the weights loaded last, even if trained since: a tag of the definition, an address, the name
            of a file, or a seed; after a comma, what was replaced or adapted. `None` for initial values.
        license: license of the loaded weights, if known.

    Raises:
        InputError: a value is not valid.
    """

    def __init__(
        self,
        spec: ArchSpec,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        init: bool = True,
    ) -> None:
        super().__init__()
        if output_stride not in OUTPUT_STRIDES:
            raise InputError(f"output_stride cannot be {output_stride!r}; expected 8, 16 or 32")
        require_whole("num_classes", num_classes, low=0, high=MAX_CLASSES)
        require_whole("in_chans", in_chans, low=1, high=MAX_CHANNELS)
        _require_rates(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        self.spec, self.weights, self.license = spec, None, None
        self.plan = planner.plan(spec, in_channels=in_chans, num_classes=num_classes, output_stride=output_stride)
        self.feature_info = feature_info(self.plan)
        self.num_features = self.feature_info[-1].channels
        self.head_hidden_size = self.plan.features
        self.stem = blocks.block(self.plan.stem, bn_eps=spec.bn_eps)
        self.stages = blocks.stages(self.plan, bn_eps=spec.bn_eps, drop_path_rate=drop_path_rate)
        self.head = blocks.block(self.plan.head, bn_eps=spec.bn_eps)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = blocks.classifier(self.plan)
        if init:
            blocks.init_weights(self)

    spec: ArchSpec
    weights: str | None
    license: str | None

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's features: `(N, 3, H, W)` to `(N, num_features, H/32, W/32)`."""
        x = self.stem(x)
        for stage in self.stages.values():
            x = stage(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits `(N, num_classes)` of features `(N, num_features, h, w)`.

        With `pre_logits`, return the input of the classifier, `(N, head_hidden_size)`.
        """
        x = self.dropout(self.pool(self.head(x)))  # (N, F, 1, 1)
        return x.flatten(1) if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one; 0 classes give pooled features.

        Raises:
            InputError: the number of classes is not valid.
        """
        require_whole("num_classes", num_classes, low=0, high=MAX_CLASSES)
        self.plan = replace(self.plan, num_classes=num_classes)
        self.classifier = blocks.classifier(self.plan).to(next(self.parameters()))  # its device and dtype
        blocks.init_weights(self.classifier)
        if num_classes:
            self.weights = changed(self.weights, "new classifier")

    def fuse(self) -> Self:
        """Return a copy for inference: batch norm folded into the convolutions, weights in channels-last layout.

        The layout does not change values; convolutions on CPUs run faster with it, whatever the layout of the image.

        Raises:
            InputError: a batch norm has no running statistics.
        """
        return fused(self)


class FeatureExtractor(nn.Module):
    """The stem and stages of a network, with the features of several levels as output.

    Args:
        network: the network whose modules are shared.
        out_indices: levels as indices into the network's `feature_info`; negative ones count from the end.

    Attributes:
        feature_info: the levels that `forward` returns, finest first.

    Raises:
        InputError: there is no such level.
    """

    def __init__(self, network: FBNet, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        levels = network.feature_info
        indices = range(len(levels)) if out_indices is None else out_indices
        if not _are_levels(indices, len(levels)):
            raise InputError(
                f"out_indices cannot be {out_indices!r}: {network.spec.name} has {len(levels)} levels; expected a list "
                f"of at least one index from 0 to {len(levels) - 1}, or negative ones that count from the end"
            )
        self.feature_info = tuple(levels[index] for index in sorted({index % len(levels) for index in indices}))
        self.spec, self.weights, self.license = network.spec, network.weights, network.license
        self._returned = frozenset(level.module for level in self.feature_info)
        last = self.feature_info[-1].module.removeprefix("stages.")
        names = list(network.stages)
        kept = names[: names.index(last) + 1] if last in names else []
        self.stem = network.stem
        self.stages = nn.ModuleDict({name: network.stages[name] for name in kept})

    spec: ArchSpec
    weights: str | None
    license: str | None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features: `(N, 3, H, W)` to a list of `(N, C, H/stride, W/stride)`, finest first."""
        x = self.stem(x)
        features = [x] if "stem" in self._returned else []
        for name, stage in self.stages.items():
            x = stage(x)
            if f"stages.{name}" in self._returned:
                features.append(x)
        return features


Network = FBNet | FeatureExtractor


def fused(network: ModuleT) -> ModuleT:
    """Return a copy of a network or of features for inference, as `FBNet.fuse` does."""
    copied = modules.plain_copy(network).eval()
    for module in copied.modules():
        if isinstance(module, blocks.ConvBNAct):
            module.fold()
    return copied.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def classifier_of(model: object) -> FBNet:
    """Return the network inside the known wrappers, such as those of `torch.compile` and `DataParallel`.

    Raises:
        InputError: there is no network of this library inside.
    """
    network = modules.unwrapped(model) if isinstance(model, nn.Module) else model
    if isinstance(network, FBNet):
        return network
    hint = "; give the network that its features are of" if isinstance(network, FeatureExtractor) else ""
    raise InputError(f"expected a network that create returns; got {type(network).__name__}{hint}")


def network_of(model: object) -> Network:
    """Return the network or the features inside the known wrappers.

    Raises:
        InputError: there is neither inside.
    """
    network = modules.unwrapped(model) if isinstance(model, nn.Module) else model
    return network if isinstance(network, FeatureExtractor) else classifier_of(network)


def _are_levels(indices: object, count: int) -> bool:
    if not isinstance(indices, Sequence) or isinstance(indices, str) or not indices:
        return False
    return all(isinstance(index, int) and -count <= index < count for index in indices)


def changed(weights: str | None, change: str) -> str | None:
    """Return the name of weights after a change; `None` remains `None`.

    >>> changed("fb_in1k", "new classifier")
    'fb_in1k, new classifier'
    """
    if not weights or weights.endswith(f", {change}"):
        return weights
    return f"{weights}, {change}"


def feature_info(plan: NetworkPlan) -> tuple[FeatureInfo, ...]:
    """Return the levels of features of a network: the stem, unless a stage has its stride, then the stages."""
    levels, channels = {}, plan.stem.out_channels
    levels[str(plan.stem.stride)] = FeatureInfo(channels=channels, output_stride=plan.stem.stride, module="stem")
    for stage in plan.stages:
        channels = stage.blocks[-1].out_channels if stage.blocks else channels
        levels[stage.name] = FeatureInfo(
            channels=channels, output_stride=stage.output_stride, module=f"stages.{stage.name}"
        )
    return tuple(levels.values())


def _require_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise InputError(f"{name} cannot be {rate!r}; expected a number from 0 to less than 1")
