"""Weights: saved and found again, adapted to other channels and classes, refused without a trace, drawn from a seed."""

import json
import logging
import os
import pickle
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from torch import Tensor, nn

import fbnet_zoo
from fbnet_zoo import weights
from fbnet_zoo.errors import FbnetZooError, InputError, UnknownNameError, WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from tests.helpers.checkpoint_files import TimmCheckpoint, image, logits, relative_error, timm_with
from tests.helpers.paths import TINY

State = dict[str, Tensor]


@pytest.fixture
def tiny(tiny_model: FBNet) -> FBNet:
    return tiny_model


# Our own files


def test_saved_network_is_found_again(tiny: FBNet, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    tiny.spec = tiny.spec.model_copy(update={"bn_eps": 0.25})
    for module in tiny.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.25
    tiny.license = "CC0-1.0"
    weights.save(tiny, path)
    again = fbnet_zoo.create(TINY, pretrained=path, num_classes=10)
    assert torch.equal(logits(again, 64), logits(tiny, 64))
    assert (again.spec, again.license) == (tiny.spec, "CC0-1.0")
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_equal_networks_give_equal_files(tiny: FBNet, tmp_path: Path) -> None:
    """The metadata has an order of its own in every call of safetensors."""
    tiny.license = "CC0-1.0"
    contents = set()
    for _ in range(20):
        weights.save(tiny, tmp_path / "tiny.safetensors")
        contents.add((tmp_path / "tiny.safetensors").read_bytes())
    (content,) = contents
    start = 8 + int.from_bytes(content[:8], "little")
    assert start % 8 == 0, "values are aligned"
    assert list(json.loads(content[8:start])["__metadata__"]) == ["definition", "format", "license", "name", "weights"]
    assert load(content).keys() == tiny.state_dict().keys()


def test_saved_file_does_not_pass_for_what_was_loaded(tiny: FBNet, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    for _ in range(2):
        weights.save(tiny, path)
        weights.load(tiny, path)
        assert tiny.weights == "random seed 0, saved again"
    tiny.weights = None
    weights.save(tiny, path)
    weights.load(tiny, path)
    assert tiny.weights == "tiny.safetensors"


@pytest.mark.parametrize("name", ["z.pth", "z", "z.SAFETENSORS"])
def test_name_that_would_not_be_read_again_is_refused(tiny: FBNet, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name} cannot be written: .*give a path ending in \.safetensors$"):
        weights.save(tiny, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_saved_network_of_features_is_found_again(tmp_path: Path) -> None:
    network = fbnet_zoo.create(TINY, num_classes=0)
    weights.save(network, tmp_path / "a.safetensors")
    again = fbnet_zoo.create(TINY, pretrained=tmp_path / "a.safetensors", num_classes=0)
    assert torch.equal(logits(again, 64), logits(network, 64))


def test_writing_over_a_loaded_file_does_not_change_the_network(tiny: FBNet, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    weights.save(tiny, path)
    network = fbnet_zoo.create(TINY, pretrained=path, num_classes=10)
    path.write_bytes(b"\0" * 64)
    assert torch.equal(logits(network, 64), logits(tiny, 64))


def test_failed_save_leaves_what_was_there(tiny: FBNet, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("not a folder")
    with pytest.raises(FbnetZooError, match="cannot be written"):
        weights.save(tiny, tmp_path / "a" / "tiny.safetensors")
    assert (tmp_path / "a").read_text() == "not a folder"


def test_saved_file_may_be_read_by_others(tiny: FBNet, tmp_path: Path) -> None:
    weights.save(tiny, tmp_path / "a.safetensors")
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_file_saved_from_other_paddings_is_refused(tiny: FBNet, tmp_path: Path) -> None:
    weights.save(tiny, tmp_path / "tiny.safetensors")
    definition = tmp_path / "padded.yaml"
    definition.write_text(
        TINY.read_text().replace("name: tiny", "name: padded").replace("s: 2, se", "s: 2, pad: 0, se")
    )
    with pytest.raises(
        WeightsError, match=r"was saved from tiny, whose layers have the same shapes as those of padded.*create tiny$"
    ):
        fbnet_zoo.create(definition, pretrained=tmp_path / "tiny.safetensors")


def test_file_with_an_unknown_definition_is_refused(tiny: FBNet, tmp_path: Path) -> None:
    save_file(tiny.state_dict(), tmp_path / "a.safetensors", metadata={"definition": "name: tiny\nflavour: sweet\n"})
    assert_refused(tiny, tmp_path / "a.safetensors", "contains an invalid definition .*flavour")


def test_fused_network_is_neither_loaded_nor_saved(tiny: FBNet, tmp_path: Path) -> None:
    weights.save(tiny, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="is fused"):
        weights.load(tiny.fuse(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="is fused"):
        weights.save(tiny.fuse(), tmp_path / "b.safetensors")


def test_loading_keeps_the_parameters_their_type_and_settings(tiny: FBNet, tmp_path: Path) -> None:
    weights.save(tiny, tmp_path / "a.safetensors")
    network = fbnet_zoo.create(TINY, num_classes=10).double()
    network.stem.requires_grad_(False)
    before = dict(network.named_parameters())
    weights.load(network, tmp_path / "a.safetensors")
    assert all(value is before[name] for name, value in network.named_parameters())
    assert {value.dtype for value in network.parameters()} == {torch.float64}
    assert {value.requires_grad for value in network.stem.parameters()} == {False}
    assert torch.equal(network.stem.conv.weight, tiny.stem.conv.weight.double())


def test_values_that_share_memory_in_the_file_do_not_in_the_network(tiny: FBNet, tmp_path: Path) -> None:
    state = tiny.state_dict()
    flat = torch.cat([value.flatten() for value in state.values() if value.ndim])
    sizes = [value.numel() for value in state.values() if value.ndim]
    pieces = iter(flat.split(sizes))
    state = {name: next(pieces).view(value.shape) if value.ndim else value for name, value in state.items()}
    state["head.expand.bn.running_mean"] = state["head.expand.bn.bias"]
    torch.save(state, tmp_path / "a.pth")
    network = fbnet_zoo.create(TINY, tmp_path / "a.pth", num_classes=10)
    memory = [value.untyped_storage().data_ptr() for value in network.state_dict().values()]
    assert len(set(memory)) == len(memory)
    assert torch.equal(network.stages["16"][0].expand.conv.weight, tiny.stages["16"][0].expand.conv.weight)


# Other numbers of channels and classes


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_stem_is_adapted_as_timm_does(
    channels: int, timm_checkpoint: TimmCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    path = timm_checkpoint("fbnetc_100")[1]
    reference = timm_with(path, "fbnetc_100", in_chans=channels)
    network = fbnet_zoo.create("fbnetc_100", pretrained=path, in_chans=channels)
    assert relative_error(network.stem.conv.weight, reference.conv_stem.weight) <= 1e-6
    assert torch.equal(network.head.conv.weight, reference.conv_head.weight)
    assert f"fbnetc_100.safetensors is for images of 3 channels: its stem is adapted to {channels}" in caplog.text
    assert network.weights == "fbnetc_100.safetensors, adapted stem"


def test_classifier_of_other_classes_is_drawn_anew(tiny: FBNet, tmp_path: Path, caplog: Any) -> None:
    weights.save(tiny, tmp_path / "a.safetensors")
    torch.manual_seed(1)
    network = fbnet_zoo.create(TINY, pretrained=tmp_path / "a.safetensors", num_classes=4)
    assert "random seed 0, saved again has 10 classes: the classifier of 4 is initialized" in caplog.text
    assert network.weights == "random seed 0, saved again, new classifier"
    found, expected = network.state_dict(), tiny.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found if not name.startswith("classifier"))
    bound = 32**-0.5
    assert 0.8 * bound < network.classifier.weight.abs().max() <= bound
    assert not network.classifier.bias.any()


def test_network_without_classes_needs_no_warning(tiny: FBNet, tmp_path: Path, caplog: Any) -> None:
    weights.save(tiny, tmp_path / "a.safetensors")
    network = fbnet_zoo.create(TINY, pretrained=tmp_path / "a.safetensors", num_classes=0)
    with torch.no_grad():
        expected = tiny.eval().forward_head(tiny.forward_features(image(64)), pre_logits=True)
    assert torch.equal(logits(network, 64), expected)
    assert network.weights == "random seed 0, saved again"
    assert not caplog.records


def test_new_classifier_is_told_in_the_name(tiny: FBNet) -> None:
    tiny.reset_classifier(0)
    assert tiny.weights == "random seed 0"
    for _ in range(2):
        tiny.reset_classifier(3)
        assert tiny.weights == "random seed 0, new classifier"
    tiny.weights = None
    tiny.reset_classifier(2)
    assert tiny.weights is None


# Refusals


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "lacking": (
        lambda state: without(state, "head.expand.bn.weight"),
        "it lacks 'head.expand.bn.weight' of the nearest layout",
    ),
    "lacking a bias": (lambda state: without(state, "classifier.bias"), "it lacks 'classifier.bias'"),
    "foreign": (lambda state: state | {"extra.weight": torch.zeros(1)}, "it has 'extra.weight', which is not in"),
    "shape": (
        lambda state: state | {"stages.8.1.project.conv.weight": torch.zeros(16, 8, 1, 1)},
        r"its 'stages.8.1.project.conv.weight' has the shape \(16, 8, 1, 1\), expected \(16, 48, 1, 1\)",
    ),
    "stem": (lambda state: state | {"stem.conv.weight": torch.zeros(8)}, r"shape \(8,\), expected \(8, 1, 3, 3\)"),
    "no channels": (lambda state: state | {"stem.conv.weight": torch.zeros(8, 0, 3, 3)}, r"shape \(8, 0, 3, 3\)"),
    "classifier": (lambda state: state | {"classifier.weight": torch.zeros(9, 32)}, r"shape \(10,\), expected \(9,\)"),
    "scalar": (lambda state: state | {"classifier.weight": torch.tensor(1.0)}, r"'classifier.weight' has the shape"),
    "integers": (
        lambda state: state | {"head.expand.bn.weight": torch.zeros(48, dtype=torch.int8)},
        "its 'head.expand.bn.weight' is a tensor of torch.int8 on cpu",
    ),
    "sparse": (
        lambda state: state | {"head.expand.bn.weight": torch.zeros(48).to_sparse()},
        "with the layout torch.sparse_coo, expected a dense tensor of floats",
    ),
    "nowhere": (
        lambda state: state | {"head.expand.bn.weight": torch.zeros(48, device="meta")},
        "is a tensor of torch.float32 on meta",
    ),
    "no tensor": (
        lambda state: state | {"head.expand.bn.weight": [1.0]},
        "its 'head.expand.bn.weight' is one object of the type list",
    ),
    "empty": (lambda _: {}, "contains no state dict but an empty dictionary; expected tensors by name"),
    "tensor": (lambda _: torch.zeros(3), "contains no state dict but one tensor"),
    "list": (lambda state: [state], "contains no state dict but one object of the type list"),
    "numbers": (lambda _: {1: torch.zeros(3)}, "contains no state dict but a dictionary with the keys '1'"),
    "something else": (
        lambda _: {"epoch": 3, "optimizer": {"state": {}}, "model": "tiny", "a": 1, "b": 2, "c": 3},
        "contains no state dict but a dictionary with the keys 'epoch', 'optimizer', 'model', 'a', 'b' and 1 more",
    ),
    "not a number": (
        lambda state: state | {"classifier.bias": torch.tensor([0.0, float("nan"), float("-inf")] + 7 * [0.0])},
        "cannot be used: 2 of 10 values of 'classifier.bias' are NaN or infinite; the training diverged",
    ),
    "too large for float32": (
        lambda state: state | {"classifier.bias": torch.full((10,), 1e39, dtype=torch.float64)},
        "10 of 10 values of 'classifier.bias' are NaN or infinite",
    ),
    "negative variance": (
        lambda state: state | {"stem.bn.running_var": torch.tensor([1.0] * 7 + [-0.25])},
        "'stem.bn.running_var' has a negative variance, -0.25; the training diverged",
    ),
    "another": (lambda _: {"weight": torch.zeros(3)}, "does not fit tiny"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")  # of torch 2.14
@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_changes_nothing(tiny: FBNet, case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    path = tmp_path / "a.pth"
    torch.save(change(tiny.state_dict()), path)
    assert_refused(tiny, path, message)


def test_large_values_are_not_taken_for_infinite_ones(tiny: FBNet, tmp_path: Path) -> None:
    tiny.classifier.weight.data.fill_(3e38)  # their sum is infinite
    weights.save(tiny, tmp_path / "a.safetensors")
    weights.load(tiny, tmp_path / "a.safetensors")
    assert (tiny.classifier.weight == 3e38).all()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0, 5, 100, 20_000, -1])
def test_cut_off_file_changes_nothing(tiny: FBNet, suffix: str, kept: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    save_file(tiny.state_dict(), path) if suffix == "safetensors" else torch.save(tiny.state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    assert_refused(
        tiny,
        path,
        "is not a checkpoint of plain tensors: it is (empty|damaged, has another format)" if kept else "empty",
    )


def write_script(network: FBNet, path: Path) -> None:
    torch.jit.script(network).save(str(path))


OTHER_FILES: dict[str, tuple[Callable[[FBNet, Path], Any], str]] = {
    "a.pth": (torch.save, "has a 'fbnet_zoo.model.FBNet', and would run code"),
    "b.pt": (write_script, "it is a TorchScript program; save only the state dict"),
    "c.pth": (lambda _, path: path.write_text("<!DOCTYPE html><title>Not found</title>"), "it is a web page"),
    "d.bin": (lambda _, path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS"),
    "e.bin": (
        lambda network, path: save_file(network.state_dict(), path),
        r"it is a safetensors file; give it a name ending in \.safetensors",
    ),
    "f.safetensors": (
        lambda network, path: torch.save(network.state_dict(), path),
        r"it was written by torch\.save; give it a name ending in \.pth",
    ),
    "g.pth": (
        lambda _, path: path.write_bytes(bytes(range(256))),
        r"is damaged, has another format or would run code, which is never allowed \(\w+\)",
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.(script|load|save)` is (deprecated|not supported)")
@pytest.mark.parametrize("name", OTHER_FILES)
def test_what_is_not_read_is_named(tiny: FBNet, name: str, tmp_path: Path) -> None:
    write, message = OTHER_FILES[name]
    write(tiny, tmp_path / name)
    assert_refused(tiny, tmp_path / name, message)


class Intruder:
    """Writes a file when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tiny: FBNet, zipped: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    content: Mapping[str, Any] = {"state_dict": tiny.state_dict(), "epoch": Intruder(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_refused(tiny, path, "would run code, which is never allowed")
    path.write_bytes(pickle.dumps(Intruder(marker)))
    assert_refused(tiny, path, "would run code, which is never allowed")
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file would not have done anything"


def test_sources_that_are_none(tiny: FBNet, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pth", tmp_path):
        for said in (path, str(path)):
            with pytest.raises(InputError, match=f"^{path} is not a file; expected the path of a checkpoint"):
                weights.load(tiny, said)
    for nothing in ("", None, False, 1):
        with pytest.raises(InputError, match=f"^weights cannot be {nothing!r}; expected a tag, a path"):
            weights.load(tiny, nothing)  # type: ignore[arg-type]
    for source, message in [
        (True, "tiny has no published weights"),
        ("fb_in1k", "tiny has no weights 'fb_in1k'; expected the path of a file"),
    ]:
        with pytest.raises(UnknownNameError, match=message):
            weights.load(tiny, source)
    with pytest.raises(UnknownNameError, match="did you mean 'fb_in1k'"):
        fbnet_zoo.create("fbnet_c", pretrained="fb_in22k")
    with pytest.raises(UnknownNameError, match=r"did you mean 'fbnetv3_b_timm\.ra2_in1k'"):
        fbnet_zoo.create("fbnetv3_b", pretrained="ra2_in1k")


def assert_refused(network: FBNet, path: Path, message: str) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    said = (network.spec, network.weights, network.license)
    with pytest.raises(WeightsError, match=message) as caught:
        weights.load(network, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (network.spec, network.weights, network.license) == said


# The seed


def test_seed_gives_the_same_network_without_a_silent_part(tiny_spec: ArchSpec) -> None:
    networks = [FBNet(tiny_spec) for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        weights.randomize(network, seed)
    first, same, another = (logits(network, 64) for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, another)
    assert [network.weights for network in networks] == ["random seed 1", "random seed 1", "random seed 2"]
    assert all(value.any() for name, value in networks[0].state_dict().items() if "num_batches" not in name)


def test_warnings_can_be_turned_off(tiny: FBNet, tmp_path: Path, caplog: Any) -> None:
    weights.save(tiny, tmp_path / "a.safetensors")
    with caplog.at_level(logging.ERROR, logger="fbnet_zoo"):
        fbnet_zoo.create(TINY, pretrained=tmp_path / "a.safetensors", num_classes=4)
    assert not caplog.records
