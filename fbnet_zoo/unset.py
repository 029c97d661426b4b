"""PyTorch's own layers, built without values: drawing these would take most of the time that building a network takes.

PyTorch's tools (`fx`, `jit.script`, `fuse_modules`, `quantize_dynamic`) look classes up and know no subclasses. So each
layer is built as a subclass and then becomes one of its base class, as PyTorch's lazy modules do. `nn.utils.skip_init`
gives the same but takes ten times as long.
"""

from typing import TypeVar

from torch import nn

from fbnet_zoo.plans import ConvPlan

Layer = TypeVar("Layer", bound=nn.Module)


class _Unset:
    def reset_parameters(self) -> None:
        """Keep the values."""


class _Conv2d(_Unset, nn.Conv2d):
    pass


class _BatchNorm2d(_Unset, nn.BatchNorm2d):
    pass


class _Linear(_Unset, nn.Linear):
    pass


def conv2d(plan: ConvPlan) -> nn.Conv2d:
    """Return the convolution of a plan."""
    conv = _Conv2d(
        plan.in_channels,
        plan.out_channels,
        plan.kernel_size,
        stride=plan.stride,
        padding=plan.padding,
        dilation=plan.dilation,
        groups=plan.groups,
        bias=plan.bias,
    )
    return _become(conv, nn.Conv2d)


def batch_norm2d(channels: int, *, eps: float) -> nn.BatchNorm2d:
    """Return a batch norm whose running statistics are 0 and 1; gamma and beta are not set."""
    return _become(_BatchNorm2d(channels, eps=eps), nn.BatchNorm2d)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Return a linear layer."""
    return _become(_Linear(in_features, out_features), nn.Linear)


def _become(layer: Layer, kind: type[Layer]) -> Layer:
    layer.__class__ = kind
    return layer
