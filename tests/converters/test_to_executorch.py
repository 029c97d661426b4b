"""ExecuTorch files: what the backend takes of them, what they carry, and what they compute."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo import registry
from fbnet_zoo._private import load_bundle
from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters import to_executorch
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import Program, export, of_network
from fbnet_zoo.errors import ConversionError, InputError, ParityError
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights.loading import randomize
from tests.helpers.marks import first_is_quick

pytestmark = pytest.mark.executorch

LABELS = ("Käse", 'a "quoted" one', "one, with a comma", *"abcdefg")
CASTS = {"dim_order_ops._to_dim_order_copy": 2}


def images(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, size, size)).astype(np.float32)


def reference(model: FBNet, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


@dataclass(frozen=True)
class File:
    """A file, and the facts about it."""

    path: Path
    facts: dict[str, Any]


@pytest.fixture(scope="module")
def fixed(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> File:
    """A file for two images, in float32."""
    folder = tmp_path_factory.mktemp("fixed")
    return write(shared_tiny_model, folder, labels=LABELS, input_size=96, batch=2, bundled=True)


@pytest.fixture(scope="module")
def dynamic_half(shared_tiny_model: FBNet, tmp_path_factory: pytest.TempPathFactory) -> File:
    """A file for any number of images, in float16."""
    folder = tmp_path_factory.mktemp("dynamic_half")
    return write(shared_tiny_model, folder, precision="fp16", dynamic_batch=True, bundled=True)


def write(model: FBNet, folder: Path, *, precision: str = "fp32", **options: Any) -> File:
    program, path = export(model, ConvertOptions(**options)), folder / "net.pte"
    return File(path, to_executorch.write(program, path, ConvertOptions(precision=precision, **options)).facts)


def kernels(path: Path) -> list[str]:
    """Return the operators that the file runs outside of delegates, as the file itself lists them."""
    serialize = require("executorch.exir._serialize._program", extra="executorch")
    plans = serialize.deserialize_pte_binary(path.read_bytes()).program.execution_plan
    return [operator.name for plan in plans if plan.name == "forward" for operator in plan.operators]


class TestLogits:
    def test_agree_with_the_model(self, shared_tiny_model: FBNet, fixed: File) -> None:
        got = to_executorch.load(fixed.path)(images(2, 96))
        assert got.dtype == np.float32
        assert snr_db(reference(shared_tiny_model, images(2, 96)), got) > 100

    @pytest.mark.slow
    def test_of_half_precision_are_float32(self, shared_tiny_model: FBNet, dynamic_half: File) -> None:
        got = to_executorch.load(dynamic_half.path)(images(3))
        assert got.dtype == np.float32
        assert 40 < snr_db(reference(shared_tiny_model, images(3)), got) < 100

    @pytest.mark.slow
    def test_of_any_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        file = write(tiny_model, tmp_path, dynamic_batch=True)
        assert (file.facts["subgraphs"], file.facts["left"]) == (1, {})
        runner = to_executorch.load(file.path)
        for count in (2, 64, 1, 3):
            assert snr_db(reference(tiny_model, images(count)), runner(images(count))) > 100

    def test_do_not_depend_on_the_layout_of_images(self, fixed: File) -> None:
        runner, batch = to_executorch.load(fixed.path), images(2, 96)
        channels_last = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last).numpy()
        assert not channels_last.flags.c_contiguous
        np.testing.assert_array_equal(runner(channels_last), runner(batch))

    def test_stay_when_the_next_ones_come(self, fixed: File) -> None:
        runner = to_executorch.load(fixed.path)
        first = runner(images(2, 96))
        kept = first.copy()
        assert not np.array_equal(runner(-images(2, 96)), kept)
        np.testing.assert_array_equal(first, kept)


class TestDelegation:
    def test_is_of_the_whole_network(self, shared_tiny_model: FBNet, fixed: File) -> None:
        assert (fixed.facts["backend"], fixed.facts["subgraphs"], fixed.facts["left"]) == ("xnnpack", 1, {})
        assert fixed.facts["delegated"] > sum(isinstance(module, nn.Conv2d) for module in shared_tiny_model.modules())
        assert kernels(fixed.path) == []

    @pytest.mark.slow
    def test_leaves_the_casts_at_the_ends_of_half_precision(self, dynamic_half: File) -> None:
        assert (dynamic_half.facts["subgraphs"], dynamic_half.facts["left"]) == (1, CASTS)
        assert kernels(dynamic_half.path) == ["dim_order_ops::_to_dim_order_copy"]

    def test_of_a_part_tells_and_warns_what_was_left(
        self, tiny_model: FBNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        program = custom(tiny_model, lambda x: x.relu().cumsum(1).relu())
        with caplog.at_level(logging.WARNING):
            facts = to_executorch.write(program, tmp_path / "part.pte", ConvertOptions()).facts
        assert (facts["subgraphs"], facts["delegated"], facts["left"]) == (2, 2, {"aten.cumsum": 1})
        assert kernels(tmp_path / "part.pte") == ["aten::cumsum"]
        assert caplog.messages == ["tiny: not delegated to xnnpack: aten.cumsum"]

    @pytest.mark.slow
    def test_of_nothing_is_refused(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"^no operator of tiny was delegated to xnnpack; "):
            to_executorch.write(custom(tiny_model, lambda x: x.cumsum(1)), tmp_path / "none.pte", ConvertOptions())
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_leaves_nothing_of_any_kind_of_network_in_the_zoo(self, tmp_path: Path) -> None:
        kinds: dict[frozenset[str], str] = {}
        for name in registry.list_models():
            kinds.setdefault(operators(export(FBNet(registry.get_spec(name)), ConvertOptions(input_size=64))), name)
        left = {name: write(seeded(name), tmp_path, dynamic_batch=True).facts["left"] for name in kinds.values()}
        assert left == {name: {} for name in kinds.values()}


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def custom(model: FBNet, function: Callable[[Tensor], Tensor]) -> Program:
    return of_network(export(model, ConvertOptions()), Function(function), 3)


def operators(program: Program) -> frozenset[str]:
    return frozenset(str(node.target) for node in program.exported.graph.nodes if node.op == "call_function")


def seeded(name: str) -> FBNet:
    model = FBNet(registry.get_spec(name))
    randomize(model, 0)
    return model.eval()


def test_constant_methods_tell_how_to_use_the_file(fixed: File) -> None:
    said = constants(fixed.path)
    assert sorted(fixed.facts["constant_methods"]) == sorted(said)
    assert said.pop("labels")[0].split("\n") == list(LABELS)
    assert said == {
        "input_size": [96],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channel_order": ["rgb"],
    }


def constants(path: Path) -> dict[str, Any]:
    """Call every method but `forward`, as a device does."""
    runtime = require("executorch.runtime", extra="executorch")
    program = runtime.Runtime.get().load_program(path)
    names = program.method_names - {"forward"}
    return {name: program.load_method(name).execute([]) for name in names}


def test_label_that_is_not_one_line_is_refused(tiny_model: FBNet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the label 'two\\nlines' is not a single line of text"):
        write(tiny_model, tmp_path, labels=("two\nlines", *LABELS[1:]))


class TestBundle:
    @pytest.mark.parametrize("kind", first_is_quick(["fixed", "dynamic_half"]))
    def test_passes_its_own_test(self, kind: str, request: pytest.FixtureRequest) -> None:
        file = request.getfixturevalue(kind)
        said, bundle = file.facts["bundled"], read_bundle(file.path.with_suffix(".bpte"))
        assert said["cases"] == 2
        for case in range(2):
            bundle.verify_result_with_bundled_expected_output("forward", case, said["rtol"], said["atol"])
            with pytest.raises(RuntimeError, match=r"(?i)result|error"):
                bundle.verify_result_with_bundled_expected_output("forward", case, 0.0, 0.0)

    @pytest.mark.slow
    def test_is_only_written_where_it_is_asked_for(self, tiny_model: FBNet, tmp_path: Path) -> None:
        to_executorch.write(custom(tiny_model, torch.relu), tmp_path / "relu.pte", ConvertOptions())
        assert [path.name for path in tmp_path.iterdir()] == ["relu.pte"]

    def test_that_expects_something_else_is_refused(self, tiny_model: FBNet, tmp_path: Path) -> None:
        program = replace(custom(tiny_model, torch.relu), module=Function(lambda x: x.relu() + 0.1))
        with pytest.raises(ParityError, match=r"^relu\.bpte fails case 0 of its own test: "):
            to_executorch.write(program, tmp_path / "relu.pte", ConvertOptions(bundled=True))
        assert not (tmp_path / "relu.bpte").exists()


def read_bundle(path: Path) -> Any:
    with quiet():
        return load_bundle(path.read_bytes())


class TestOtherBackends:
    @pytest.mark.coreml
    @pytest.mark.parametrize(
        "options", [pytest.param({}, marks=pytest.mark.slow), {"precision": "fp16", "dynamic_batch": True}]
    )
    @pytest.mark.slow
    def test_coreml_takes_the_whole_network(self, tiny_model: FBNet, tmp_path: Path, options: dict[str, Any]) -> None:
        file = write(tiny_model, tmp_path, backend="coreml", bundled=True, **options)
        assert (file.facts["backend"], file.facts["subgraphs"], file.facts["left"]) == ("coreml", 1, {})
        assert kernels(file.path) == []
        assert file.path.with_suffix(".bpte").stat().st_size > file.path.stat().st_size

    @pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "fp16"])
    @pytest.mark.slow
    def test_vulkan_takes_the_whole_network(self, tiny_model: FBNet, tmp_path: Path, precision: str) -> None:
        file = write(tiny_model, tmp_path, backend="vulkan", precision=precision)
        assert (file.facts["backend"], file.facts["subgraphs"], file.facts["left"]) == ("vulkan", 1, {})
        assert kernels(file.path) == []
        with pytest.raises(ConversionError, match=r"^ExecuTorch cannot load net\.pte: "):
            to_executorch.load(file.path)  # the library brings no runtime for Vulkan

    @pytest.mark.slow
    def test_vulkan_refuses_a_dynamic_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"^the backend vulkan delegates no convolution of dynamic_batch; "):
            write(tiny_model, tmp_path, backend="vulkan", dynamic_batch=True)
        assert not list(tmp_path.iterdir())


def test_trace_shows_nothing(fixed: File) -> None:
    assert list(to_executorch.load(fixed.path).trace(images(2, 96))) == []


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pte").write_bytes(b"no flatbuffer at all")
    with pytest.raises(ConversionError, match=r"^ExecuTorch cannot load bad\.pte: "):
        to_executorch.load(tmp_path / "bad.pte")


def test_nothing_is_printed(tiny_model: FBNet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = custom(tiny_model, torch.relu)
    to_executorch.write(program, tmp_path / "relu.pte", ConvertOptions(bundled=True))
    to_executorch.load(tmp_path / "relu.pte")(images(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fbnet_b", "fbnetv3_a"])
def test_a_whole_network_agrees_with_the_model(name: str, tmp_path: Path) -> None:
    model = seeded(name)
    file = write(model, tmp_path)
    assert (file.facts["subgraphs"], file.facts["left"]) == (1, {})
    assert snr_db(reference(model, images(1, 224)), to_executorch.load(file.path)(images(1, 224))) > 100
