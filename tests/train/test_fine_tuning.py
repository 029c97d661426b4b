"""Fine-tuning: what is frozen stays fixed, and learning rates fall by depth as timm's do."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import Recipe, fit, train
from fbnet_zoo.train.optimizer import optimizer_of
from fbnet_zoo.weights.loading import randomize
from tests.helpers.checkpoint_files import timm
from tests.helpers.training import BATCH, INPUTS, RECIPE, TINY, same

ONCE = RECIPE.model_copy(update={"epochs": 1})


def network(spec: ArchSpec) -> FBNet:
    model = FBNet(spec, num_classes=10, drop_rate=0.1, drop_path_rate=0.2)
    randomize(model, 0)
    return model


@pytest.mark.parametrize("names", [("stem",), ("stages.4.1", "head"), ("stem", "stages", "head")], ids=str)
@pytest.mark.parametrize("ema_decay", [0.9, None])
def test_frozen_modules_stay_fixed(
    tiny_16: ArchSpec, few_digits: ImageDataset, names: tuple[str, ...], ema_decay: float | None
) -> None:
    """Weights and statistics, to the bit; everything else is trained."""
    model = network(tiny_16)
    model.stem.requires_grad_(False)  # by the user, and left so
    before, asked = copy.deepcopy(model.state_dict()), [value.requires_grad for value in model.parameters()]
    fit(model, few_digits, ONCE.model_copy(update={"freeze": names, "ema_decay": ema_decay}), INPUTS)
    for name, value in model.state_dict().items():
        own = name.startswith(tuple(f"{each}." for each in names))
        fixed = own or (name.startswith("stem.") and not name.endswith(("mean", "var", "tracked")))
        assert torch.equal(value, before[name]) == fixed, name
    assert [value.requires_grad for value in model.parameters()] == asked


def test_frozen_modules_work_as_in_evaluation(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    model, modes = network(tiny_16), []
    block = model.get_submodule("stages.4.1")
    block.register_forward_hook(lambda module, *_: modes.append({each.training for each in module.modules()}))
    model.head.register_forward_hook(lambda module, *_: modes.append({each.training for each in module.modules()}))
    fit(model, few_digits, RECIPE.model_copy(update={"freeze": ("stages.4.1",), "epochs": 2}), INPUTS)
    assert all(mode == {False} for mode in modes[::2])
    assert {True} in modes[1::2]
    assert modes[-17] == {True}  # in the last epoch too: two hooks in eight steps, and one evaluation


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"freeze": ("stage",)}, r"the network has no module 'stage' to freeze; did you mean 'stages'\?"),
        ({"freeze": ("zzzz",)}, r"no module 'zzzz' to freeze; expected names of modules, such as "),
        ({"freeze": ("stem", "stages", "head", "classifier")}, r"'freeze' leaves nothing to train \(stem, "),
    ],
)
def test_a_run_that_cannot_freeze_leaves_no_folder(
    few_digits: ImageDataset, tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    with pytest.raises(InputError, match=problem):
        train(tmp_path / "tiny.yaml", few_digits, ONCE.model_copy(update=fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_learning_rates_by_depth_are_those_of_timm(tiny_16: ArchSpec) -> None:
    timm()
    from timm.optim import param_groups_layer_decay

    model = network(tiny_16)
    expected = {
        id(value): (group["lr_scale"], group["weight_decay"])
        for group in param_groups_layer_decay(model, weight_decay=0.3, layer_decay=0.7)
        for value in group["params"]
    }
    optimizer = optimizer_of(model, Recipe(lr=0.02, weight_decay=0.3, layer_lr_decay=0.7))
    found = {
        id(value): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for value in group["params"]
    }
    assert found.keys() == expected.keys() == {id(value) for value in model.parameters()}
    for key, (scale, decay) in expected.items():
        assert found[key] == pytest.approx((0.02 * scale, decay))
    assert optimizer.param_groups[0]["lr"] == 0.02


def test_training_follows_the_rates_by_depth(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    """One plain step: the change of each weight is its gradient times the rate of its depth."""
    fields = {"epochs": 1, "batch_size": 136, "optimizer": "sgd", "schedule": "constant", "momentum": 0.0}
    fields |= {"warmup_epochs": 0, "weight_decay": 0.0, "ema_decay": None, "lr": 0.01, "threads": 1}
    plain = Recipe.model_validate(fields)
    changes = []
    for recipe in (plain, plain.model_copy(update={"layer_lr_decay": 0.5})):
        model = FBNet(tiny_16, num_classes=10)
        randomize(model, 0)
        before = copy.deepcopy(model.state_dict())
        metrics = fit(model, few_digits, recipe, INPUTS)
        assert metrics.lr == 0.01
        changes.append({name: value - before[name] for name, value in model.named_parameters()})
    powers = {"classifier": 0, "head": 0, "stages.4.1": 1, "stages.4.0": 2, "stages.2.0": 3, "stem": 4}
    for name, change in changes[1].items():
        power = next(value for part, value in powers.items() if name.startswith(part))
        torch.testing.assert_close(change, changes[0][name] * 0.5**power, atol=2e-7, rtol=1e-3)


def test_rates_by_depth_need_a_known_order(few_digits: ImageDataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    with pytest.raises(InputError, match="'layer_lr_decay' requires a network that create returns; got Sequential"):
        fit(model, few_digits, ONCE.model_copy(update={"layer_lr_decay": 0.5}), INPUTS)


@pytest.mark.parametrize("fields", [{"freeze": ("stem",)}, {"layer_lr_decay": 0.5}], ids=str)
def test_simulated_rounding_trains_all_layers(few_digits: ImageDataset, tmp_path: Path, fields: dict[str, Any]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    recipe = RECIPE.model_copy(update={"epochs": 1, "ema_decay": None, "batch_size": BATCH})
    start = train(tmp_path / "tiny.yaml", few_digits, recipe, tmp_path / "start").weights
    with pytest.raises(InputError, match="qat trains all layers alike; remove 'freeze' and 'layer_lr_decay'"):
        train(
            tmp_path / "tiny.yaml",
            few_digits,
            recipe.model_copy(update=fields),
            tmp_path / "qat",
            pretrained=start,
            qat=True,
        )


def test_frozen_networks_train_again_in_full(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    model = network(tiny_16)
    fit(model, few_digits, ONCE.model_copy(update={"freeze": ("stem",)}), INPUTS)
    before = copy.deepcopy(model.state_dict())
    fit(model, few_digits, ONCE, INPUTS)
    assert not same(
        model.stem.state_dict(), {name.removeprefix("stem."): v for name, v in before.items() if "stem" in name}
    )
