"""Checkpoints in the forms of known training programs, for one network of each family."""

import argparse
import threading
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fbnet_zoo import planner, weights
from fbnet_zoo.errors import WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.registry import get_spec
from fbnet_zoo.weights import checkpoints, layouts
from tests.helpers.families import smallest_of_each

State = dict[str, Tensor]


def state_of(name: str) -> State:
    """Return a state dict with the shapes of a network, one number per value: its files are small."""
    shapes = layouts.shapes(planner.plan(get_spec(name))).items()
    return {key: torch.tensor(float(index)).expand(shape) for index, (key, shape) in enumerate(shapes)}


def below(prefix: str, state: State) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def other(state: State) -> State:
    return {name: value + 1000 for name, value in state.items()}


SETTINGS = argparse.Namespace(
    lr=np.float64(0.1), epochs=np.int64(3), out=Path("runs"), more=types.SimpleNamespace(seed=None)
)
RANDOM_STATE = ("MT19937", np.arange(624, dtype=np.uint32), 3, 0, 0.0)

FORMS: dict[str, Callable[[State], Any]] = {
    "torchvision": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3, "args": SETTINGS},
    "torchvision averaged": lambda state: {
        "model": other(state),
        "model_ema": {"n_averaged": torch.tensor(7), **below("module.", state)},
        "args": SETTINGS,
    },
    "timm": lambda state: {"epoch": 3, "arch": "net", "state_dict": state, "args": SETTINGS, "metric": np.float32(75)},
    "timm averaged": lambda state: {"state_dict": other(state), "state_dict_ema": state, "version": 2},
    "tutorial": lambda state: {
        "epoch": 1,
        "model_state_dict": state,
        "optimizer_state_dict": {},
        "loss": np.float64(1),
    },
    "lightning": lambda state: {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**below("model.", state), "loss.weight": torch.ones(3), "accuracy.total": torch.tensor(5)},
        "hyper_parameters": {"lr": 0.1},
    },
    "lightning compiled": lambda state: {"state_dict": below("model._orig_mod.", state)},
    "lightning, another attribute": lambda state: {"state_dict": below("classifier_under_test.", state)},
    "mmengine averaged": lambda state: {
        "state_dict": other(state),
        "ema_state_dict": {"steps": torch.tensor(9), **below("module.", state)},
    },
    "deepspeed": lambda state: {"module": below("module.", state), "global_steps": 4},
    "parallel": lambda state: below("module.", state),
    "compiled": lambda state: below("_orig_mod.", state),
    "compiled in parallel": lambda state: below("module._orig_mod.", state),
    "parallel compiled": lambda state: {"model": below("_orig_mod.module.", state)},
    "with numpy's random state": lambda state: {"state_dict": state, "rng": RANDOM_STATE, "best": np.array([1.5])},
    "wrapped twice": lambda state: {"state_dict": {"model": OrderedDict(state)}},
    "named like a wrapper": lambda state: {"model": "net", "model_ema": None, "state_dict": state},
}


@pytest.mark.parametrize("name", smallest_of_each())
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_training_programs(form: str, name: str, tmp_path: Path) -> None:
    state = state_of(name)
    torch.save(FORMS[form](state), tmp_path / "a.pth")
    found = checkpoints.read(tmp_path / "a.pth", (get_spec(name),))
    assert found.values.keys() == state.keys()
    assert all(torch.equal(value, state[key].to(value.dtype)) for key, value in found.values.items())


def test_wrappers_of_pytorch(tiny_model: FBNet, tmp_path: Path) -> None:
    """The names that PyTorch's own wrappers give, inside a module of someone's own."""
    holder = nn.Module()
    holder.net = torch.compile(AveragedModel(tiny_model), backend="eager")
    holder.criterion = nn.CrossEntropyLoss(weight=torch.ones(10))
    torch.save(nn.DataParallel(holder).state_dict(), tmp_path / "a.pth")
    network = FBNet(tiny_model.spec, num_classes=10)
    weights.load(network, tmp_path / "a.pth")
    expected = tiny_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda state: below("student.", state) | below("teacher.", other(state)), r"it lacks 'stem\.conv\.weight'"),
        (lambda state: {"model": {"epoch": 3}}, "contains no state dict but a dictionary with the keys 'model'"),
        (lambda state: below("a.b.c.d.e.", state), r"it lacks 'stem\.conv\.weight'"),
    ],
)
def test_what_might_be_several_networks_is_refused(form: Any, message: str, tmp_path: Path) -> None:
    torch.save(form(state_of("fbnet_96")), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=message):
        checkpoints.read(tmp_path / "a.pth", (get_spec("fbnet_96"),))


def test_what_pytorch_allows_to_be_read_does_not_change(tmp_path: Path) -> None:
    """Neither what a program allowed before, nor what it did not; and threads do not disturb each other."""
    torch.save({"state_dict": state_of("fbnet_96"), "args": SETTINGS}, tmp_path / "a.pth")
    found: list[int] = []

    def read() -> None:
        found.append(len(checkpoints.read(tmp_path / "a.pth", (get_spec("fbnet_96"),)).values))

    with torch.serialization.safe_globals([argparse.Namespace]):
        before = set(torch.serialization.get_safe_globals())
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(torch.serialization.get_safe_globals()) == before
    assert found == [len(state_of("fbnet_96"))] * 8
