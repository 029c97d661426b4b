"""What a module is, whatever was done to it since it was built: wrapped, pruned, given another stem or classifier."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from fbnet_zoo.errors import InputError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_WRAPPERS = {
    "AveragedModel": "module",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}
"""Class name to the name of the wrapped module: of PyTorch's moving average, its parallel forms and `torch.compile`."""


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside the known wrappers, which may be nested; any other module as it is."""
    while (inner := _inner(module)) is not None:
        module = inner
    return module


def _inner(module: nn.Module) -> nn.Module | None:
    kinds = (kind for kind in type(module).__mro__ if kind.__module__.startswith("torch."))
    name = next((_WRAPPERS[kind.__name__] for kind in kinds if kind.__name__ in _WRAPPERS), None)
    return None if name is None else dict(module.named_children())[name]


def plain_copy(module: ModuleT) -> ModuleT:
    """Return a copy without wrappers anywhere inside, whose pruned and parametrized weights are plain parameters.

    Args:
        module: the module, unwrapped; not modified.
    """
    memo: dict[int, Any] = {}
    for each in module.modules():
        for tensor in vars(each).values():  # a pruned weight is computed, which PyTorch refuses to copy
            if isinstance(tensor, Tensor) and not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    for wrapper in reversed([each for each in module.modules() if _inner(each) is not None]):
        memo[id(wrapper)] = copy.deepcopy(unwrapped(wrapper), memo)
    copied = copy.deepcopy(module, memo)
    for each in copied.modules():
        _make_plain(each)
    return copied


def _make_plain(module: nn.Module) -> None:
    for name, _ in list(module.named_parameters(recurse=False)):
        if name.endswith("_orig") and prune.is_pruned(module):
            prune.remove(module, name.removesuffix("_orig"))
    if parametrize.is_parametrized(module):
        kind = type(module)  # shared with the original, and PyTorch removes the weight from it
        own = {name: value for name, value in vars(kind).items() if name not in {"__dict__", "__weakref__"}}
        module.__class__ = type(kind.__name__, kind.__bases__, own)
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def in_channels(network: nn.Module) -> int:
    """Return the number of channels of the images that a network accepts, from the first convolution of its stem.

    Raises:
        InputError: the stem has no convolution.
    """
    stem = unwrapped(network).get_submodule("stem")
    for module in stem.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise InputError("the stem of the network has no convolution, so its number of input channels is not known")


def num_outputs(network: nn.Module, input_size: int) -> int:
    """Return the number of outputs of a classifier: its classes, or its features if it has none.

    Args:
        network: the network; not modified.
        input_size: side of a square image that it accepts, px.

    Raises:
        InputError: the network does not run on such an image, or its output is not `(N, classes)`.
    """
    found = output_shapes(network, input_size)
    if [len(shape) for shape in found] != [1]:
        shapes = " and ".join(f"(N, {', '.join(map(str, shape))})" for shape in found)
        raise InputError(f"the network outputs {shapes}, expected one tensor (N, classes)")
    return found[0][0]


@torch.no_grad()
def output_shapes(network: nn.Module, input_size: int) -> list[tuple[int, ...]]:
    """Run a copy of a network in evaluation mode; return the shape of each output, without batch.

    Args:
        network: the network; not modified.
        input_size: side of a square image that it accepts, px.

    Raises:
        InputError: the network does not run on such an image, or outputs something else than tensors.
    """
    inner = unwrapped(network)
    channels, parameter = in_channels(inner), next(inner.parameters())
    image = torch.zeros(1, channels, input_size, input_size, dtype=parameter.dtype, device=parameter.device)
    try:
        output = plain_copy(inner).eval()(image)
    except Exception as error:  # a module of the user may raise anything
        raise InputError(
            f"the network does not run on an image of {channels} x {input_size} x {input_size}: {error}; a classifier "
            "of your own gets (N, features), or (N, features, 1, 1) where that of the definition is a convolution, so "
            "one that begins with nn.Flatten() fits every network"
        ) from error
    if isinstance(output, Tensor):
        return [tuple(output.shape[1:])]
    if isinstance(output, Sequence) and output and all(isinstance(each, Tensor) for each in output):
        return [tuple(each.shape[1:]) for each in output]
    raise InputError(f"the network outputs a {type(output).__name__}, expected one tensor (N, classes)")


def plain_classifier(classifier: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """Return the only layer with weights of a classifier, if the others only flatten or drop; else `None`."""
    layers = [each for each in _leaves(classifier) if not isinstance(each, nn.Flatten | nn.Dropout | nn.Identity)]
    if len(layers) == 1 and isinstance(layers[0], nn.Linear | nn.Conv2d):
        return layers[0]
    return None


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _leaves(child)
    else:
        yield module
