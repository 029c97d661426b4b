"""Costs counted from definitions against what the built networks do."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fbnet_zoo import cost
from fbnet_zoo._private import TorchDispatchMode, tree_leaves
from fbnet_zoo.complexity import LayerCost
from fbnet_zoo.errors import InputError, UnknownNameError
from fbnet_zoo.model import FBNet
from fbnet_zoo.registry import get_spec
from fbnet_zoo.size_check import SizeCheck
from fbnet_zoo.spec import ArchSpec
from tests.helpers import layer_rows
from tests.helpers.families import all_or_few
from tests.helpers.marks import first_is_quick
from tests.helpers.spec_strategies import specs
from tests.test_arch_defs import FILES
from tests.test_blocks import CASES, spec_of

ANONYMOUS = {"mul", "add"}  # done by a forward, not by a module


def image(size: int) -> torch.Tensor:
    return torch.zeros(1, 3, size, size, device="meta")


def measured(network: nn.Module, size: int) -> list[tuple[str, int, int, int]]:
    """Name, parameters, multiply-accumulates and output values of each layer, in the order they run."""
    rows: list[tuple[str, int, int, int]] = []

    def note(name: str, module: nn.Module, values: int) -> None:
        params = sum(parameter.numel() for parameter in module.parameters())
        weighs = isinstance(module, nn.Conv2d | nn.Linear)
        rows.append((name, params, values * module.weight[0].numel() if weighs else 0, values if weighs else 0))

    idle = (nn.Identity, nn.Dropout, nn.Flatten, nn.Sequential, SizeCheck)
    for name, module in network.named_modules():
        if not [*module.children()] and not isinstance(module, idle):
            module.register_forward_hook(lambda module, _, y, name=name: note(name, module, y.numel()))
    with torch.no_grad():
        network(image(size))
    return rows


def counted(layer: LayerCost) -> tuple[str, int, int, int]:
    return layer.name, layer.params, layer.macs, layer.activations


@pytest.mark.parametrize("name", all_or_few())
def test_every_layer_costs_what_its_module_does(name: str) -> None:
    spec = get_spec(name)
    layers = [counted(layer) for layer in cost(spec).layers if layer.type not in ANONYMOUS]
    assert layers == measured(layer_rows.on_meta(spec), spec.input_size)


@pytest.mark.parametrize(("size", "channels", "classes"), first_is_quick([(161, 1, 10), (64, 3, 1000), (320, 4, 0)]))
def test_other_sizes(size: int, channels: int, classes: int) -> None:
    spec = get_spec("fbnetv3_a")
    network = layer_rows.on_meta(spec, in_chans=channels, num_classes=classes)
    found = cost(spec, size, in_channels=channels, num_classes=classes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, channels, size, size, device="meta"))
    assert found.input_size == size
    assert found.params == sum(parameter.numel() for parameter in network.parameters())
    assert found.macs == counter.get_total_flops() // 2


def test_totals_are_sums() -> None:
    found = cost("fbnetv3_a")
    for key in ("params", "macs", "activations"):
        assert getattr(found, key) == sum(getattr(layer, key) for layer in found.layers) > 0
    assert found.peak_mb == found.peak_activations * 4 / 1e6


@pytest.mark.parametrize("name", ["fbnet_b", "fbnet_a_2019", "fbnetv3_a"])
def test_parts(name: str) -> None:
    found = cost(name)
    parts = found.by_part()
    stages = [f"stages.{stage.output_stride}" for stage in get_spec(name).stages]
    assert list(parts) == ["stem", *stages, "head", "classifier"]
    for key in ("params", "macs", "activations"):
        assert sum(getattr(part, key) for part in parts.values()) == getattr(found, key)
    assert max(part.peak_activations for part in parts.values()) == found.peak_activations
    network = layer_rows.on_meta(get_spec(name))
    for part, part_cost in parts.items():
        assert part_cost.params == sum(parameter.numel() for parameter in network.get_submodule(part).parameters())


class Liveness(TorchDispatchMode):
    """Notes which tensors' memory each call touches; what shares memory counts once, parameters do not."""

    def __init__(self, parameters: set[int]) -> None:
        super().__init__()
        self.parameters = parameters
        self.storages: dict[int, torch.UntypedStorage] = {}  # held, so that no two have the same address
        self.steps: list[set[int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        touched = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors if tensor.numel()}
        self.storages |= touched
        self.steps.append(touched.keys() - self.parameters)
        return result

    def peak(self) -> int:
        """Most values alive in any call: those touched by it, and by calls both before and after it."""
        most, last = 0, {storage: step for step, touched in enumerate(self.steps) for storage in touched}
        alive: set[int] = set()
        for step, touched in enumerate(self.steps):
            alive |= touched
            most = max(most, sum(self.storages[storage].nbytes() // 4 for storage in alive))
            alive = {storage for storage in alive if last[storage] > step}
        return most


def peak_of(network: FBNet, size: int) -> int:
    held = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    x = image(size)
    with Liveness(held) as liveness, torch.no_grad():
        network(x)
    return liveness.peak()


@pytest.mark.parametrize("name", all_or_few())
def test_peak_is_that_of_the_fused_network(name: str) -> None:
    spec = get_spec(name)
    assert cost(spec).peak_activations == peak_of(layer_rows.on_meta(spec).fuse(), spec.input_size)


@pytest.mark.parametrize(("row", "defaults", "_"), CASES.values(), ids=CASES)
def test_peak_of_single_blocks(row: dict[str, Any], defaults: dict[str, Any], _: list[str]) -> None:
    """In the zoo the peak is in early blocks, which are all of a kind."""
    spec = spec_of(row, defaults)
    assert cost(spec).peak_activations == peak_of(layer_rows.on_meta(spec).fuse(), spec.input_size)


@settings(max_examples=60)
@given(specs(), st.integers(8, 200))
@pytest.mark.slow
def test_random_networks_are_what_is_counted(spec: ArchSpec, size: int) -> None:
    network = layer_rows.on_meta(spec)
    try:
        found = cost(spec, size)
    except InputError:
        with pytest.raises(InputError, match=f"^an image of {size} x {size} px is too small for {spec.name}"):
            network(image(size))
        return
    recorder = layer_rows.record(network, size)
    assert recorder.rows == layer_rows.of_definition(spec, size)
    assert recorder.macs == found.macs
    assert sum(parameter.numel() for parameter in network.parameters()) == found.params
    assert peak_of(network.fuse(), size) == found.peak_activations


class TestErrors:
    def test_too_small(self) -> None:
        with pytest.raises(InputError) as caught:
            cost("fbnetv3_a", 16)
        layer = "stages.16.0.depthwise.0.conv"
        assert str(caught.value) == f"an image of 16 px is too small: {layer} has no output; expected at least 49 px"

    @pytest.mark.parametrize("size", [0, -3])
    def test_no_image(self, size: int) -> None:
        with pytest.raises(InputError, match=f"input_size cannot be {size}; expected a whole number from 1 to 4096"):
            cost("fbnet_b", size)

    def test_unknown(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'fbnet_b'"):
            cost("fbnet_bb")


def test_any_way_of_naming() -> None:
    path = next(path for path in FILES if path.stem == "fbnetv3_a")
    assert cost("fbnetv3_a") == cost("FBNetV3_A") == cost("fbnetv3_a.fb_in1k") == cost(path) == cost(get_spec(path))
