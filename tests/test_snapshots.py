"""What must not change unnoticed: parameter names and shapes, MACs of each part, logits of a formula-filled network.

A published definition never changes its graph. Where a change is meant: `pytest tests/test_snapshots.py --accept`.
"""

import hashlib
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo import cost
from fbnet_zoo.model import FBNet
from fbnet_zoo.registry import get_spec, list_models
from tests.helpers.families import all_or_few
from tests.helpers.paths import ROOT

FILE = ROOT / "tests" / "snapshots" / "zoo.json"
SIZE = 64
TOLERANCE = 0.01
"""Of the largest logit. Snapshots are written in float64 and compared in float32, which is off by up to 0.0003 here."""

ACCEPT = "; if the change is meant: pytest tests/test_snapshots.py --accept"


def waves(tensor: Tensor) -> Tensor:
    """Numbers between -1 and 1 by formula, in float64: the same everywhere, unlike those of a random generator.

    The square makes matrices of full rank; those of sin(i) alone would have rank 2.
    """
    index = torch.arange(1, tensor.numel() + 1, dtype=torch.float64)
    return (index * index).sin().view(tensor.shape)


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Set every parameter by formula, so that no layer is silent and none makes the signal much larger."""
    for name, value in network.named_parameters():
        if name.endswith("bn.weight"):
            value.copy_((0.3 if "project" in name else 1) * (1 + 0.5 * waves(value)))
        elif value.ndim > 1:
            value.copy_(waves(value) * (2 / value[0].numel()) ** 0.5)
        else:
            value.copy_(0.3 * waves(value))


def snapshot(name: str, dtype: torch.dtype) -> dict[str, Any]:
    network = FBNet(get_spec(name), init=False).to(dtype).train()  # batch norm by batch: the signal stays alive
    fill(network)
    shapes = [f"{key} {tuple(value.shape)}" for key, value in network.state_dict().items()]
    with torch.no_grad():
        logits = network(waves(torch.empty(4, 3, SIZE, SIZE)).to(dtype))[0, :: 1000 // 8]
    return {
        "tensors": len(shapes),
        "keys_and_shapes": hashlib.sha256("\n".join(shapes).encode()).hexdigest()[:16],
        "macs": {part: part_cost.macs for part, part_cost in cost(name).by_part().items()},
        "logits": [float(f"{logit:.5g}") for logit in logits.tolist()],
    }


@pytest.fixture(scope="module")
def accepted(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.config.getoption("--accept"):
        lines = [f"{json.dumps(name)}: {json.dumps(snapshot(name, torch.float64))}" for name in list_models()]
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_every_entry_has_a_snapshot(accepted: dict[str, Any]) -> None:
    assert sorted(accepted) == list_models(), "write them: pytest tests/test_snapshots.py --accept"


@pytest.mark.parametrize("name", all_or_few())
def test_nothing_has_changed(name: str, accepted: dict[str, Any]) -> None:
    before, now = accepted[name], snapshot(name, torch.float32)
    tolerance = TOLERANCE * max(map(abs, before["logits"]))
    assert now["logits"] == pytest.approx(before["logits"], rel=0, abs=tolerance), ACCEPT
    assert {**now, "logits": None} == {**before, "logits": None}, ACCEPT
