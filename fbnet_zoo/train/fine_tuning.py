"""Fine-tuning: modules that stay fixed, and learning rates that fall with the distance from the output."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.model import FBNet
from fbnet_zoo.modules import unwrapped


def frozen_parts(network: nn.Module, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """Return the modules that a recipe freezes.

    Args:
        network: network to train.
        names: names of its modules, `freeze` of the recipe.

    Raises:
        InputError: there is no such module, or nothing is left to train.
    """
    inner = unwrapped(network)
    known = {name: module for name, module in inner.named_modules() if name}
    for name in names:
        if name not in known:
            usual = did_you_mean(name, known) or f"; expected names of modules, such as {', '.join(list(known)[:3])}"
            raise InputError(f"the network has no module {name!r} to freeze{usual}")
    parts = tuple(known[name] for name in names)
    fixed = {id(weight) for part in parts for weight in part.parameters()}
    if parts and all(id(weight) in fixed for weight in inner.parameters() if weight.requires_grad):
        raise InputError(f"'freeze' leaves nothing to train ({', '.join(names)}); remove a module from it")
    return parts


@contextmanager
def held(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Keep the weights of modules from being trained."""
    weights = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def depths(network: nn.Module) -> dict[str, int]:
    """Return the name of each parameter of an `FBNet` to the number of blocks between it and the last layers.

    The stem counts as a block, and so do head and classifier together, as in timm's layer-wise learning rates.

    Raises:
        InputError: the network is not one of this library, so that the order of its layers is not known.
    """
    inner = unwrapped(network)
    if not isinstance(inner, FBNet):
        kind = type(inner).__name__
        raise InputError(f"'layer_lr_decay' requires a network that create returns; got {kind}: set it to 1")
    patterns = [re.compile(pattern) for pattern in inner.group_matcher().values()]
    places = {name: _place(name, patterns) for name, _ in inner.named_parameters()}
    order = sorted(set(places.values()), reverse=True)
    return {name: order.index(place) for name, place in places.items()}


def _place(name: str, patterns: Sequence[re.Pattern[str]]) -> tuple[int, ...]:
    for index, pattern in enumerate(patterns):
        if found := pattern.match(name):
            return index, *map(int, found.groups())
    return (len(patterns),)
