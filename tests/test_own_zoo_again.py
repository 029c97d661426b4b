"""Installing again what is there: the weights of the entry are never the price."""

from pathlib import Path

import pytest
import torch

import fbnet_zoo
from fbnet_zoo import own_zoo, registry, weights
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from tests.helpers.checkpoint_files import logits


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(own_zoo.HOME_VARIABLE, str(tmp_path / "zoo"))
    monkeypatch.setattr(registry, "_registered", {})
    return tmp_path / "zoo"


@pytest.fixture
def spec(tiny_spec: ArchSpec) -> ArchSpec:
    return tiny_spec.model_copy(update={"name": "mine"})


@pytest.fixture
def saved(tiny_model: FBNet, spec: ArchSpec, tmp_path: Path) -> Path:
    tiny_model.spec = spec
    weights.save(tiny_model, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("replace", [False, True])
def test_same_weights_again(home: Path, tiny_model: FBNet, spec: ArchSpec, saved: Path, replace: bool) -> None:
    first = fbnet_zoo.install(spec, saved, licence="MIT")
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.suffix != ".lock"}
    for _ in range(2):
        assert fbnet_zoo.install(spec, saved, licence="MIT", replace=replace) == first
        assert {path.name: path.read_bytes() for path in home.iterdir() if path.suffix != ".lock"} == before
    assert len(list(home.glob("*.safetensors"))) == 1
    assert torch.equal(logits(fbnet_zoo.create("mine", True), 64), logits(tiny_model, 64))


def test_same_weights_with_another_definition(home: Path, tiny_model: FBNet, spec: ArchSpec, saved: Path) -> None:
    """The file stays though the definition is replaced."""
    fbnet_zoo.install(spec, saved, licence="MIT")
    second = fbnet_zoo.install(
        spec.model_copy(update={"summary": "Another text."}), saved, licence="Apache-2.0", replace=True
    )
    assert (second.summary, second.weights[0].license) == ("Another text.", "Apache-2.0")
    assert torch.equal(logits(fbnet_zoo.create("mine", True), 64), logits(tiny_model, 64))


def test_other_weights_take_the_place_of_the_old_ones_only(
    home: Path, tiny_model: FBNet, spec: ArchSpec, saved: Path
) -> None:
    other = spec.model_copy(update={"name": "neighbor"})
    neighbor = tiny_model
    neighbor.spec = other
    weights.save(neighbor, saved.with_name("neighbor.safetensors"))
    fbnet_zoo.install(other, saved.with_name("neighbor.safetensors"), licence="MIT")
    fbnet_zoo.install(spec, saved, licence="MIT")
    expected = logits(tiny_model, 64)
    tiny_model.spec = spec
    weights.randomize(tiny_model, 3)
    weights.save(tiny_model, saved)
    fbnet_zoo.install(spec, saved, licence="MIT", replace=True)
    assert len(list(home.glob("mine*.safetensors"))) == 1
    assert torch.equal(logits(fbnet_zoo.create("mine", True), 64), logits(tiny_model, 64))
    assert torch.equal(logits(fbnet_zoo.create("neighbor", True), 64), expected)
