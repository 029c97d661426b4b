"""The modules built from plans. Construction decides; no forward depends on the configuration.

The values of layers are not set: `init_weights` fills a new network once; a network that loads a checkpoint skips it.
"""

import math
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.checkpoint import checkpoint

from fbnet_zoo import unset
from fbnet_zoo.batch_norm import constant_statistics
from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import (
    BlockPlan,
    ConvPlan,
    IdentityPlan,
    InvertedResidualPlan,
    NetworkPlan,
    PoolHeadPlan,
    SqueezeExcitationPlan,
)

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
    "swish": nn.SiLU,
    "hard_sigmoid": nn.Hardsigmoid,
}


def is_batch_norm(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether a module computes what a batch norm does in evaluation: synchronized and frozen ones do."""
    return isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) or type(module).__name__ == "FrozenBatchNorm2d"


class ConvBNAct(nn.Module):
    """Convolution, batch norm, activation; absent parts are identities."""

    def __init__(self, plan: ConvPlan, *, bn_eps: float) -> None:
        super().__init__()
        self.conv = unset.conv2d(plan)
        self.bn = unset.batch_norm2d(plan.out_channels, eps=bn_eps) if plan.norm else nn.Identity()
        self.act = activation(plan.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # (N, C', H/s, W/s)

    def fold(self) -> None:
        """Fold the batch norm into the convolution, which then has a bias; computed in float64.

        Raises:
            InputError: the batch norm has no running statistics.
        """
        bn, dtype = self.bn, self.conv.weight.dtype
        if is_batch_norm(bn):
            if bn.running_mean is None or bn.running_var is None:
                raise InputError("a batch norm without running statistics cannot be folded; keep the network unfused")
            self.double()
            self.conv.weight, self.conv.bias = fuse_conv_bn_weights(
                self.conv.weight, self.conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
            )
            self.bn = nn.Identity()
            self.to(dtype)

    def zero_gamma(self) -> None:
        """Set gamma to 0, so that a residual branch starts at zero."""
        if is_batch_norm(self.bn):
            nn.init.zeros_(self.bn.weight)


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups (Zhang et al., arXiv:1707.01083, figure 1)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all channels' means (Hu et al., arXiv:1709.01507)."""

    def __init__(self, plan: SqueezeExcitationPlan) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = unset.conv2d(ConvPlan(in_channels=plan.channels, out_channels=plan.hidden_channels, bias=True))
        self.act = activation(plan.act)
        self.expand = unset.conv2d(ConvPlan(in_channels=plan.hidden_channels, out_channels=plan.channels, bias=True))
        self.gate = activation(plan.gate)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.act(self.reduce(self.pool(x)))  # (N, hidden, 1, 1)
        return x * self.gate(self.expand(scale))


class DropPath(nn.Module):
    """Drop the residual branch of whole images in training (Huang et al., arXiv:1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.rate
        return x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(keep).div_(keep)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al., arXiv:1801.04381, figure 3b).

    The plan has no expansion where it would not change the number of channels, unless the definition keeps it.
    `ResidualInvertedResidual` adds the input back.
    """

    def __init__(self, plan: InvertedResidualPlan, *, bn_eps: float, drop_path_rate: float) -> None:
        super().__init__()
        self.expand = ConvBNAct(plan.expand, bn_eps=bn_eps) if plan.expand else nn.Identity()
        self.shuffle = ChannelShuffle(plan.shuffle) if plan.shuffle > 1 else nn.Identity()
        self.depthwise = nn.Sequential(*(ConvBNAct(conv, bn_eps=bn_eps) for conv in plan.depthwise))
        self.se = SqueezeExcitation(plan.se) if plan.se else nn.Identity()
        self.project = ConvBNAct(plan.project, bn_eps=bn_eps) if plan.project else nn.Identity()
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()
        self.zero_init = plan.zero_init

    def branch(self, x: Tensor) -> Tensor:
        y = self.shuffle(self.expand(x))  # (N, C*e, H, W)
        y = self.depthwise(y)  # (N, C*e, H/s, W/s)
        return self.project(self.se(y))  # (N, C', H/s, W/s)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x)


class ResidualInvertedResidual(InvertedResidual):
    """An inverted residual whose output has the shape of its input, which is added."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.branch(x))


class PoolHead(nn.Module):
    """Expand, pool, project without batch norm (Howard et al., arXiv:1905.02244, figure 5)."""

    def __init__(self, plan: PoolHeadPlan, *, bn_eps: float) -> None:
        super().__init__()
        self.expand = ConvBNAct(plan.expand, bn_eps=bn_eps)
        self.se = SqueezeExcitation(plan.se) if plan.se else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.project = ConvBNAct(plan.project, bn_eps=bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.expand(x))  # (N, C*e, H, W)
        return self.project(self.pool(x))  # (N, C', 1, 1)


def activation(name: str | None) -> nn.Module:
    """Return the module of an activation or gate; the identity for `None`."""
    if name is None:
        return nn.Identity()
    if name == "sigmoid":
        return nn.Sigmoid()
    return _ACTIVATIONS[name](inplace=True)


def block(plan: BlockPlan, *, bn_eps: float, drop_path_rate: float = 0.0) -> nn.Module:
    """Return the module of one block; `drop_path_rate` applies to residual blocks."""
    match plan:
        case ConvPlan():
            return ConvBNAct(plan, bn_eps=bn_eps)
        case InvertedResidualPlan():
            kind = ResidualInvertedResidual if plan.residual else InvertedResidual
            return kind(plan, bn_eps=bn_eps, drop_path_rate=drop_path_rate if plan.residual else 0.0)
        case PoolHeadPlan():
            return PoolHead(plan, bn_eps=bn_eps)
        case IdentityPlan():
            return nn.Identity()


class Stage(nn.Sequential):
    """The blocks of a stage.

    Attributes:
        grad_checkpointing: whether training keeps only the inputs of blocks and computes the rest again (Chen et al.,
            arXiv:1604.06174).
    """

    def __init__(self, *built: nn.Module) -> None:
        super().__init__(*built)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for each in self:
            if self.grad_checkpointing and not is_scripting() and torch.is_grad_enabled():
                x = _checkpointed(each, x)
            else:
                x = each(x)
        return x


class Stages(nn.ModuleDict):
    """The stages by name, in order."""

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.values():
            x = stage(x)
        return x


def set_grad_checkpointing(network: nn.Module, enable: bool) -> None:
    """Set `grad_checkpointing` of all stages."""
    for module in network.modules():
        if isinstance(module, Stage):
            module.grad_checkpointing = enable


def _checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), constant_statistics(module)

    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)


def stages(plan: NetworkPlan, *, bn_eps: float, drop_path_rate: float) -> Stages:
    """Return the stages by name; the drop-path rate rises linearly from 0 at the first block to the last."""
    total = max(1, sum(len(stage.blocks) for stage in plan.stages) - 1)
    built, done = OrderedDict[str, nn.Module](), 0
    for stage in plan.stages:
        rates = [drop_path_rate * (done + index) / total for index in range(len(stage.blocks))]
        done += len(rates)
        built[stage.name] = Stage(
            *(block(item, bn_eps=bn_eps, drop_path_rate=rate) for item, rate in zip(stage.blocks, rates, strict=True))
        )
    return Stages(built)


def flattening(plan: NetworkPlan) -> nn.Module:
    """Return what turns pooled features `(N, C, 1, 1)` into the input of the classifier: `(N, C)` for a linear one."""
    return nn.Flatten() if plan.classifier == "linear" else nn.Identity()


def classifier(plan: NetworkPlan) -> nn.Module:
    """Return the classifier: linear, or the same as a 1x1 convolution (mobile-vision); the identity without classes."""
    if plan.num_classes == 0:
        return nn.Identity()
    if plan.classifier == "linear":
        return unset.linear(plan.features, plan.num_classes)
    return unset.conv2d(ConvPlan(in_channels=plan.features, out_channels=plan.num_classes, bias=True))


@torch.no_grad()
def init_weights(network: nn.Module) -> None:
    """Fill every parameter of a new network, whose classifier is named so.

    Convolutions: normal, fan-out per group, gain of ReLU (He et al., arXiv:1502.01852); classifier: see
    `init_classifier`; biases: 0; batch norm: gamma 1, or 0 at the end of residual branches with `zero_init_residual`,
    and beta 0.
    """
    for name, child in network.named_modules():
        if name == "classifier":
            init_classifier(child)
        elif isinstance(child, nn.Conv2d):
            fan_out = math.prod(child.kernel_size) * child.out_channels // child.groups
            child.weight.normal_(0, math.sqrt(2 / fan_out))
            if child.bias is not None:
                child.bias.zero_()
        elif isinstance(child, nn.BatchNorm2d):
            child.weight.fill_(1)
            child.bias.zero_()
    for child in network.modules():
        if isinstance(child, InvertedResidual) and child.zero_init and isinstance(child.project, ConvBNAct):
            child.project.zero_gamma()


@torch.no_grad()
def init_classifier(module: nn.Module) -> None:
    """Fill a new classifier: weights uniform within 1/sqrt(fan-in), biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = 1 / math.sqrt(module.weight.shape[1])
        module.weight.uniform_(-bound, bound)
        if module.bias is not None:
            module.bias.zero_()
