"""Three layouts of names: derived exactly, recognised, and loaded into networks that compute what their source's do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fbnet_zoo
from fbnet_zoo import planner
from fbnet_zoo.errors import WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.weights import layouts, loading
from tests.helpers.checkpoint_files import KEYS, TimmCheckpoint, logits, mobile_vision_keys, relative_error

State = dict[str, Tensor]


def plan_of(name: str) -> NetworkPlan:
    return planner.plan(fbnet_zoo.get_spec(name))


# Names


@pytest.mark.parametrize("name", fbnet_zoo.list_models())
def test_names_and_shapes_are_those_of_the_built_network(name: str) -> None:
    with torch.device("meta"):
        network = FBNet(fbnet_zoo.get_spec(name), init=False)
    built = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert list(layouts.shapes(network.plan).items()) == list(built.items())
    assert layouts.keys(network.plan, "fbnet_zoo") == {key: key for key in built}


@pytest.mark.parametrize("name", sorted(path.stem for path in KEYS.iterdir()))
def test_names_of_mobile_vision(name: str) -> None:
    plan = plan_of(name)
    shapes = layouts.shapes(plan)
    names = layouts.keys(plan, "mobile_vision")
    assert {theirs: shapes[ours] for ours, theirs in names.items()} == mobile_vision_keys(name)


@pytest.mark.parametrize("name", fbnet_zoo.list_models())
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_no_two_values_share_a_name(name: str, layout: Any) -> None:
    names = layouts.keys(plan_of(name), layout)
    assert len(set(names.values())) == len(names)


# timm


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("fbnetc_100", "fbnetc_100"),
        ("fbnetv3_b_timm", "fbnetv3_b"),
        ("fbnetv3_d_timm", "fbnetv3_d"),
        ("fbnetv3_g_timm", "fbnetv3_g"),
    ],
)
def test_logits_equal_those_of_timm(name: str, theirs: str, timm_checkpoint: TimmCheckpoint) -> None:
    reference, path = timm_checkpoint(theirs)
    network = fbnet_zoo.create(name, pretrained=path)
    assert network.spec == fbnet_zoo.get_spec(name)
    assert relative_error(logits(network), logits(reference)) <= 1e-5


def test_keys_of_timm_select_the_structure_of_timm(
    timm_checkpoint: TimmCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    reference, path = timm_checkpoint("fbnetv3_b")
    network = fbnet_zoo.create("fbnetv3_b", pretrained=path)
    assert network.spec.name == "fbnetv3_b_timm"
    assert [record.getMessage() for record in caplog.records] == [
        "fbnetv3_b.safetensors has the keys of fbnetv3_b_timm, not of fbnetv3_b: creating fbnetv3_b_timm"
    ]
    assert relative_error(logits(network), logits(reference)) <= 1e-5


def test_built_network_does_not_turn_into_another(timm_checkpoint: TimmCheckpoint) -> None:
    network = fbnet_zoo.create("fbnetv3_b")
    with pytest.raises(
        WeightsError, match=r"fbnetv3_b\.safetensors does not fit fbnetv3_b: it lacks 'conv_stem\.bias'"
    ):
        loading.load(network, timm_checkpoint("fbnetv3_b")[1])


# mobile-vision


@pytest.fixture(scope="module")
def mobile_vision() -> tuple[FBNet, State]:
    """A network with random values, and the same under mobile-vision's names, which stand in the same order."""
    network = FBNet(fbnet_zoo.get_spec("fbnetv2_f4"))
    loading.randomize(network, 5)
    state = dict(zip(mobile_vision_keys("fbnetv2_f4"), network.state_dict().values(), strict=True))
    return network, state


FORMS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "wrapped": lambda state: {"state_dict": state, "epoch": 3},
    "averaged": lambda state: {"model_ema": state, "state_dict": other(state), "optimizer": {"lr": 0.1}},
    "not averaged": lambda state: {"model_ema": None, "state_dict": state},
    "parallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "without counters": lambda state: {name: value for name, value in state.items() if value.ndim},
    "double": lambda state: {name: value.double() if value.ndim else value for name, value in state.items()},
    "float counters": lambda state: {name: value if value.ndim else value.float() for name, value in state.items()},
    "parameters": lambda state: {
        name: nn.Parameter(value) if value.is_floating_point() else value for name, value in state.items()
    },
}


def other(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_files_of_mobile_vision(mobile_vision: tuple[FBNet, State], form: str, tmp_path: Path) -> None:
    network, state = mobile_vision
    torch.save(FORMS[form](state), tmp_path / "model.pth")
    found = fbnet_zoo.create("fbnetv2_f4", pretrained=tmp_path / "model.pth")
    assert torch.equal(logits(found), logits(network))
    assert {value.dtype for value in found.parameters()} == {torch.float32}
    assert all(value.requires_grad and value.is_leaf for value in found.parameters())
    assert {value.dtype for value in found.buffers()} == {torch.float32, torch.int64}


def test_older_torch_format(mobile_vision: tuple[FBNet, State], tmp_path: Path) -> None:
    network, state = mobile_vision
    torch.save(state, tmp_path / "model.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(logits(fbnet_zoo.create("fbnetv2_f4", pretrained=tmp_path / "model.pth")), logits(network))
