"""ExecuTorch files: what the backend takes of them, what they carry, and what they compute."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbnet_zoo import registry
from fbnet_zoo._require import quiet, require
from fbnet_zoo.converters import to_executorch
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import Program, export, of_network
from fbnet_zoo.errors import ConversionError, InputError, ParityError
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights import randomize

pytestmark = pytest.mark.executorch

LABELS = ("Käse", 'a "quoted" one', "one, with a comma", *"abcdefg")
CASTS = {"dim_order_ops._to_dim_order_copy": 2}


def images(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, size, size)).astype(np.float32)


def reference(model: FBNet, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


def written(model: FBNet, path: Path, **options: Any) -> dict[str, Any]:
    asked = ConvertOptions(**options)
    return to_executorch.write(export(model, asked), path, asked)


def kernels(path: Path) -> list[str]:
    """Return the operators that the file runs outside of delegates, as the file itself lists them."""
    serialize = require("executorch.exir._serialize._program", extra="executorch")
    plans = serialize.deserialize_pte_binary(path.read_bytes()).program.execution_plan
    return [operator.name for plan in plans if plan.name == "forward" for operator in plan.operators]


class TestLogits:
    @pytest.mark.parametrize("batch", [1, 3])
    def test_agree_with_the_model(self, tiny_model: FBNet, tmp_path: Path, batch: int) -> None:
        written(tiny_model, tmp_path / "tiny.pte", batch=batch)
        got = to_executorch.load(tmp_path / "tiny.pte")(images(batch))
        assert got.dtype == np.float32
        assert snr_db(reference(tiny_model, images(batch)), got) > 100

    def test_of_a_dynamic_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        facts = written(tiny_model, tmp_path / "tiny.pte", dynamic_batch=True)
        assert (facts["subgraphs"], facts["left"]) == (1, {})
        runner = to_executorch.load(tmp_path / "tiny.pte")
        for count in (2, 64, 1, 3):
            assert snr_db(reference(tiny_model, images(count)), runner(images(count))) > 100

    def test_of_half_precision_are_float32(self, tiny_model: FBNet, tmp_path: Path) -> None:
        facts = written(tiny_model, tmp_path / "tiny.pte", precision="fp16")
        assert (facts["subgraphs"], facts["left"]) == (1, CASTS)
        got = to_executorch.load(tmp_path / "tiny.pte")(images(1))
        assert got.dtype == np.float32
        assert 40 < snr_db(reference(tiny_model, images(1)), got) < 100

    def test_stay_when_the_next_ones_come(self, tiny_model: FBNet, tmp_path: Path) -> None:
        written(tiny_model, tmp_path / "tiny.pte")
        runner = to_executorch.load(tmp_path / "tiny.pte")
        first = runner(images(1))
        kept = first.copy()
        assert not np.array_equal(runner(-images(1)), kept)
        np.testing.assert_array_equal(first, kept)


class TestDelegation:
    def test_is_of_the_whole_network(self, tiny_model: FBNet, tmp_path: Path) -> None:
        facts = written(tiny_model, tmp_path / "tiny.pte")
        assert (facts["backend"], facts["subgraphs"], facts["left"]) == ("xnnpack", 1, {})
        assert facts["delegated"] > sum(isinstance(module, nn.Conv2d) for module in tiny_model.modules())
        assert kernels(tmp_path / "tiny.pte") == []

    def test_of_a_part_tells_and_warns_what_was_left(
        self, tiny_model: FBNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        program = custom(tiny_model, lambda x: x.relu().cumsum(1).relu())
        with caplog.at_level(logging.WARNING):
            facts = to_executorch.write(program, tmp_path / "part.pte", ConvertOptions())
        assert (facts["subgraphs"], facts["delegated"], facts["left"]) == (2, 2, {"aten.cumsum": 1})
        assert kernels(tmp_path / "part.pte") == ["aten::cumsum"]
        assert caplog.messages == ["tiny: xnnpack leaves aten.cumsum to slow kernels"]

    def test_of_nothing_is_refused(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"^xnnpack took no part of tiny, which would run many times slower"):
            to_executorch.write(custom(tiny_model, lambda x: x.cumsum(1)), tmp_path / "none.pte", ConvertOptions())
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_leaves_nothing_of_any_kind_of_network_in_the_zoo(self, tmp_path: Path) -> None:
        kinds: dict[frozenset[str], str] = {}
        for name in registry.list_models():
            kinds.setdefault(operators(export(FBNet(registry.get_spec(name)), ConvertOptions())), name)
        left = {
            name: written(seeded(name), tmp_path / "net.pte", dynamic_batch=True)["left"] for name in kinds.values()
        }
        assert left == dict.fromkeys(left, {})


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


def constants(path: Path) -> dict[str, Any]:
    """Call every method but `forward`, as a device does."""
    runtime = require("executorch.runtime", extra="executorch")
    program = runtime.Runtime.get().load_program(path)
    names = program.method_names - {"forward"}
    return {name: program.load_method(name).execute([]) for name in names}


def test_constant_methods_tell_how_to_use_the_file(tiny_model: FBNet, tmp_path: Path) -> None:
    preprocess = tiny_model.spec.eval_preprocess().model_copy(update={"order": "bgr"})
    tiny_model.spec = tiny_model.spec.model_copy(update={"preprocess": preprocess})
    facts = written(tiny_model, tmp_path / "tiny.pte", labels=LABELS, input_size=96)
    said = constants(tmp_path / "tiny.pte")
    assert sorted(facts["constant_methods"]) == sorted(said)
    assert said.pop("labels")[0].split("\n") == list(LABELS)
    assert said == {
        "input_size": [96],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channel_order": ["bgr"],
    }


@pytest.mark.parametrize("label", ["two\nlines", "", "carriage\rreturn"])
def test_label_that_is_not_one_line_is_refused(tiny_model: FBNet, tmp_path: Path, label: str) -> None:
    with pytest.raises(InputError, match=r"^the label .* is not one line of text"):
        written(tiny_model, tmp_path / "tiny.pte", labels=(label, *LABELS[1:]))


class TestBundle:
    @pytest.mark.parametrize("options", [{}, {"precision": "fp16"}, {"dynamic_batch": True}, {"batch": 2}])
    def test_passes_its_own_test(self, tiny_model: FBNet, tmp_path: Path, options: dict[str, Any]) -> None:
        said = written(tiny_model, tmp_path / "tiny.pte", bundled=True, **options)["bundled"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.bpte", "tiny.pte"]
        bundle = read_bundle(tmp_path / "tiny.bpte")
        for case in range(said["cases"]):
            bundle.verify_result_with_bundled_expected_output("forward", case, said["rtol"], said["atol"])
            with pytest.raises(RuntimeError):
                bundle.verify_result_with_bundled_expected_output("forward", case, 0.0, 0.0)

    def test_that_expects_something_else_is_refused(self, tiny_model: FBNet, tmp_path: Path) -> None:
        program = export(tiny_model, ConvertOptions())
        shifted = Function(lambda x: program.module(x) + 0.01)
        with pytest.raises(ParityError, match=r"^tiny\.bpte does not pass case 0 of its own test: "):
            to_executorch.write(replace(program, module=shifted), tmp_path / "tiny.pte", ConvertOptions(bundled=True))
        assert not (tmp_path / "tiny.bpte").exists()


def read_bundle(path: Path) -> Any:
    library = require("executorch.extension.pybindings._portable_lib", extra="executorch")
    with quiet():
        return library._load_bundled_program_from_buffer(path.read_bytes())


class TestOtherBackends:
    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    @pytest.mark.parametrize("backend", [pytest.param("coreml", marks=pytest.mark.coreml), "vulkan"])
    def test_take_the_whole_network(self, tiny_model: FBNet, tmp_path: Path, backend: str, precision: str) -> None:
        facts = written(tiny_model, tmp_path / "tiny.pte", backend=backend, precision=precision, bundled=True)
        assert (facts["backend"], facts["subgraphs"], facts["left"]) == (backend, 1, {})
        assert kernels(tmp_path / "tiny.pte") == []
        assert (tmp_path / "tiny.bpte").stat().st_size > (tmp_path / "tiny.pte").stat().st_size
        if backend == "vulkan":  # whose runtime the library does not bring for any machine
            with pytest.raises(ConversionError, match=r"^ExecuTorch cannot load tiny\.pte: "):
                to_executorch.load(tmp_path / "tiny.pte")

    @pytest.mark.coreml
    def test_coreml_takes_a_dynamic_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        facts = written(tiny_model, tmp_path / "tiny.pte", backend="coreml", precision="fp16", dynamic_batch=True)
        assert (facts["subgraphs"], facts["left"]) == (1, {})

    def test_vulkan_refuses_a_dynamic_batch(self, tiny_model: FBNet, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"^the backend vulkan takes no dynamic_batch: "):
            written(tiny_model, tmp_path / "tiny.pte", backend="vulkan", dynamic_batch=True)
        assert not list(tmp_path.iterdir())


def test_trace_shows_nothing(tiny_model: FBNet, tmp_path: Path) -> None:
    written(tiny_model, tmp_path / "tiny.pte")
    assert list(to_executorch.load(tmp_path / "tiny.pte").trace(images(1))) == []


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pte").write_bytes(b"no flatbuffer at all")
    with pytest.raises(ConversionError, match=r"^ExecuTorch cannot load bad\.pte: "):
        to_executorch.load(tmp_path / "bad.pte")


def test_nothing_is_printed(tiny_model: FBNet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written(tiny_model, tmp_path / "tiny.pte", bundled=True)
    to_executorch.load(tmp_path / "tiny.pte")(images(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fbnet_b", "fbnetv3_a"])
def test_a_whole_network_agrees_with_the_model(name: str, tmp_path: Path) -> None:
    model = seeded(name)
    facts = written(model, tmp_path / "net.pte")
    assert (facts["subgraphs"], facts["left"]) == (1, {})
    batch = images(1, 224)
    assert snr_db(reference(model, batch), to_executorch.load(tmp_path / "net.pte")(batch)) > 100
