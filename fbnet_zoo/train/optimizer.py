"""The optimizer and the learning rates of a recipe."""

from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from fbnet_zoo.modules import unwrapped
from fbnet_zoo.train.fine_tuning import depths
from fbnet_zoo.train.recipe import Recipe

_FIRST_LR = 0.01
"""Share of the learning rate at the start of the warm-up."""

_RMSPROP_DECAY, _RMSPROP_EPSILON = 0.9, 0.0316
"""As in torchvision's recipe for MobileNetV3; TensorFlow's epsilon of 0.001 is added before the root."""


def optimizer_of(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of the parameters that require gradients; the first group has the highest learning rate."""
    groups, lr = _groups(network, recipe), recipe.peak_lr
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, momentum=recipe.momentum, alpha=_RMSPROP_DECAY, eps=_RMSPROP_EPSILON)
    return torch.optim.AdamW(groups, lr=lr)


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    trained = {name: value for name, value in unwrapped(network).named_parameters() if value.requires_grad}
    if recipe.layer_lr_decay == 1:
        return _decaying(list(trained.values()), recipe)
    found, groups = depths(network), []
    for depth in sorted({found[name] for name in trained}):
        lr = recipe.peak_lr * recipe.layer_lr_decay**depth
        same = [value for name, value in trained.items() if found[name] == depth]
        groups += [{**group, "lr": lr} for group in _decaying(same, recipe)]
    return groups


def _decaying(parameters: list[Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """Return two groups, the first of which has weight decay."""
    return [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]


def schedule_of(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> LRScheduler:
    """Return the schedule of the learning rates."""
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total - 1)
    main: LRScheduler = (
        CosineAnnealingLR(optimizer, T_max=total - warmup)
        if recipe.schedule == "cosine"
        else ConstantLR(optimizer, factor=1, total_iters=1)
    )
    if not warmup:
        return main
    rising = LinearLR(optimizer, start_factor=_FIRST_LR, total_iters=warmup)
    return SequentialLR(optimizer, [rising, main], milestones=[warmup])
