"""The network of a definition: stem, stages, head, classifier."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks, modules, planner
from fbnet_zoo.errors import InputError, require_whole
from fbnet_zoo.features import feature_levels
from fbnet_zoo.planner import MAX_CHANNELS, MAX_CLASSES
from fbnet_zoo.size_check import size_check
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.timm_config import pretrained_cfg

OUTPUT_STRIDES = (8, 16, 32)

ModuleT = TypeVar("ModuleT", bound=nn.Module)


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
        num_classes: see above.
        num_features: channels of the output of `forward_features`.
        head_hidden_size: channels of the input of the classifier.
        feature_info: the levels of features, finest first.
        weights: name of the weights loaded last, even if trained since: a tag of the definition, an address, the name
            of a file, or a seed; after a comma, what was replaced or adapted. `None` for initial values.
        license: license of the loaded weights, if known.
        class_names: names of the classes by index, if known: those of the loaded weights, or of the data that the
            network was trained on; set them after training a network yourself. `fbnet_zoo.weights.save` stores them,
            and files for apps contain them.

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
        self.spec = spec
        self.weights: str | None = None
        self.license: str | None = None
        self.class_names: tuple[str, ...] | None = None
        self.plan = planner.plan(spec, in_channels=in_chans, num_classes=num_classes, output_stride=output_stride)
        self.num_classes = num_classes
        self.feature_info = feature_levels(self.plan)
        self.num_features = self.feature_info[-1].channels
        self.head_hidden_size = self.plan.features
        self.size_check = size_check(spec.name, self.plan)
        self.stem = blocks.block(self.plan.stem, bn_eps=spec.bn_eps)
        self.stages = blocks.stages(self.plan, bn_eps=spec.bn_eps, drop_path_rate=drop_path_rate)
        self.head = blocks.block(self.plan.head, bn_eps=spec.bn_eps)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.flatten = blocks.flattening(self.plan)
        self.classifier = blocks.classifier(self.plan)
        self.flatten_logits = nn.Identity() if self.plan.classifier == "linear" else nn.Flatten()
        if init:
            blocks.init_weights(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's features: `(N, 3, H, W)` to `(N, num_features, H/32, W/32)`.

        Their sides are rounded up, but smaller where a definition has paddings of less than half the kernel, as the
        released FBNetV3-A, -B, -C, -E and -F do; `spec.deviations` says so and names a network whose maps are not.

        Raises:
            InputError: the image is too small for these paddings.
        """
        return self.stages(self.stem(self.size_check(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits `(N, num_classes)` of features `(N, num_features, h, w)`.

        With `pre_logits`, return the input of the classifier, `(N, head_hidden_size)`.
        """
        x = self.dropout(self.pool(self.head(x)))  # (N, F, 1, 1)
        return x.flatten(1) if pre_logits else self.flatten_logits(self.classifier(self.flatten(x)))

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
        self.plan, self.num_classes = replace(self.plan, num_classes=num_classes), num_classes
        self.classifier = blocks.classifier(self.plan).to(next(self.parameters()))  # its device and dtype
        blocks.init_classifier(self.classifier)
        self.class_names = None
        if num_classes:
            self.weights = changed(self.weights, "new classifier")

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the output of `forward_features` and the features of several levels, finest first.

        Args:
            x: images, `(N, 3, H, W)`.
            indices: levels as for `FeatureExtractor`.
            norm: no effect: every level ends in a batch norm; here since timm's tools give it.
            stop_early: leave out the stages after the last of these levels; their input is then the first result.
            output_fmt: layout of the features, always `NCHW`.
            intermediates_only: return only the features of the levels.

        Raises:
            InputError: there is no such level or layout.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt cannot be {output_fmt!r}; expected 'NCHW'")
        levels = self.feature_info.chosen(indices, argument="indices", network=self.spec.name).module_name()
        x = self.stem(self.size_check(x))
        features = [x] if "stem" in levels else []
        for name, stage in self.stages.items():
            if stop_early and len(features) == len(levels):
                break
            x = stage(x)
            if f"stages.{name}" in levels:
                features.append(x)
        return features if intermediates_only else (x, features)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Choose whether training keeps only the inputs of blocks and computes the rest again: less memory, more time.

        Gradients and batch norm statistics remain the same.
        """
        blocks.set_grad_checkpointing(self, enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that group parameters by depth, for timm's layer-wise learning rates.

        Args:
            coarse: one group per stage instead of one per block.
        """
        return {"stem": r"^stem\.", "stages": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    @property
    @torch.jit.unused
    def pretrained_cfg(self) -> dict[str, Any]:
        """How to prepare images for the weights, as `timm.data.resolve_data_config` reads it."""
        in_chans = modules.in_channels(self)
        return pretrained_cfg(self.spec, weights=self.weights, in_chans=in_chans, num_classes=self.num_classes)

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
        out_indices: levels as indices into the network's `feature_info`, negative ones counting from the end, or the
            number of last levels (default: all).

    Attributes:
        feature_info: the levels that `forward` returns, finest first.

    Raises:
        InputError: there is no such level.
    """

    def __init__(self, network: FBNet, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.feature_info = network.feature_info.chosen(out_indices, argument="out_indices", network=network.spec.name)
        self.spec, self.weights, self.license = network.spec, network.weights, network.license
        self._returned = self.feature_info.module_name()
        last = self.feature_info[-1].module.removeprefix("stages.")
        names = list(network.stages)
        kept = names[: names.index(last) + 1] if last in names else []
        self.plan = replace(network.plan, stages=network.plan.stages[: len(kept)])
        self.size_check = size_check(network.spec.name, self.plan)
        self.stem = network.stem
        self.stages = blocks.Stages({name: network.stages[name] for name in kept})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features: `(N, 3, H, W)` to a list of `(N, C, H/stride, W/stride)`, finest first.

        For smaller sides, and images that are too small, see `FBNet.forward_features`.
        """
        x = self.stem(self.size_check(x))
        features: list[Tensor] = []
        if "stem" in self._returned:
            features.append(x)
        for name, stage in self.stages.items():
            x = stage(x)
            if f"stages.{name}" in self._returned:
                features.append(x)
        return features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """See `FBNet`; the network shares the setting, as it shares the stages."""
        blocks.set_grad_checkpointing(self, enable)

    @property
    @torch.jit.unused
    def pretrained_cfg(self) -> dict[str, Any]:
        """How to prepare images for the weights, as `timm.data.resolve_data_config` reads it."""
        return pretrained_cfg(self.spec, weights=self.weights, in_chans=modules.in_channels(self), num_classes=0)


def fused(network: ModuleT) -> ModuleT:
    """Return a copy of a network or of features for inference, as `FBNet.fuse` does."""
    copied = modules.plain_copy(network).eval()
    for module in copied.modules():
        if isinstance(module, blocks.ConvBNAct):
            module.fold()
    blocks.set_grad_checkpointing(copied, False)
    return copied.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def changed(weights: str | None, change: str) -> str | None:
    """Return the name of weights after a change; `None` remains `None`.

    >>> changed("fb_in1k", "new classifier")
    'fb_in1k, new classifier'
    """
    if not weights or weights.endswith(f", {change}"):
        return weights
    return f"{weights}, {change}"


def _require_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise InputError(f"{name} cannot be {rate!r}; expected a number from 0 to less than 1")
