"""Latency tables that are measured: operators as modules and files, rounds, what is taken off, and the command."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from fbnet_zoo import registry
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.lut.measuring import TableJob, held_out
from fbnet_zoo.benchmarks.lut.operator_files import Writer
from fbnet_zoo.benchmarks.lut.operator_modules import operator_module, operator_plan
from fbnet_zoo.benchmarks.lut.rounds import Rounds, Session, Subject
from fbnet_zoo.benchmarks.measure import RUNS, WARMUP, Device, Inputs, Measurement, ModelFile
from fbnet_zoo.cli.app import app
from fbnet_zoo.errors import DeviceLostError, InputError, ModelFileError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.files import load_table
from fbnet_zoo.latency.operators import Operator, block_operator, network_operators
from fbnet_zoo.layers import walk_blocks
from fbnet_zoo.model import FBNet
from fbnet_zoo.space import Space, list_spaces, load_space
from fbnet_zoo.space.operators import space_operators
from tests.helpers.latency_tables import TWO_LAYERS
from tests.helpers.marks import first_is_quick
from tests.helpers.measurements import PHONE, measurement

Files = dict[str, ModelFile]


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "two_layers.yaml"
    path.write_text(TWO_LAYERS)
    return path


@pytest.fixture
def space(space_file: Path) -> Space:
    return load_space(space_file)


class Pretender(Device):
    """Takes for each model what `act` says, ms."""

    def __init__(self, act: Callable[[str], float]) -> None:
        self.act = act
        self.pushed: list[str] = []
        self.ran: list[str] = []

    def info(self) -> DeviceInfo:
        return PHONE

    def push(self, model: ModelFile) -> None:
        self.pushed.append(model.name)

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        samples = [self.act(model.name)] * runs
        self.ran.append(model.name)
        return measurement(samples, model=model.name, target=model.target, threads=threads)

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None: ...

    def cleanup(self) -> None: ...


@contextmanager
def no_steps(title: str, total: int) -> Iterator[Callable[[str], None]]:
    del title, total
    yield lambda step: None


def subject(key: str, *, alone: bool = False) -> Subject:
    file = ModelFile(path=Path(key), name=key, target="executorch", precision="fp32")
    return Subject(key=key, about=f"operator {key}", macs=10**9, alone=alone, write=lambda: file)


def session(device: Device, folder: Path, **rounds: Any) -> Session:
    return Session(device=device, rounds=Rounds(**rounds), partial=folder / "measurements.jsonl", steps=no_steps)


class TestOperators:
    def test_a_plan_is_the_operator_that_it_is_made_of(self) -> None:
        spaces = [space for name in list_spaces() if (space := load_space(name)).name not in WIDE]
        found = {operator for space in spaces for operator in space_operators(space)}
        found |= {each for name in registry.list_models() for each in network_operators(registry.get_spec(name))}
        planned = [operator for operator in found if operator.op not in {"pool", "linear", "skip"}]
        assert {operator.op for operator in planned} == {"conv", "ir", "fused_ir", "ir_pool"}
        for operator in planned:
            assert block_operator(operator_plan(operator), operator.input_size) == operator

    def test_a_module_computes_what_the_block_of_a_network_does(self, shared_tiny_model: FBNet) -> None:
        network = shared_tiny_model.fuse()
        for name, block, size in walk_blocks(network.plan, 64):
            operator, part = block_operator(block, size), network.get_submodule(name)
            if operator.op == "skip":
                continue
            module = operator_module(operator)
            keys = module.load_state_dict(part.state_dict(), strict=False)
            assert not keys.unexpected_keys
            assert all(key.endswith(".bias") for key in keys.missing_keys)  # which is 0
            image = torch.randn(1, operator.in_channels, size, size, generator=torch.Generator().manual_seed(0))
            torch.testing.assert_close(module(image.clone()), part(image.clone()))

    def test_pool_and_classifier(self) -> None:
        pool = operator_module(Operator(op="pool", input_size=7, in_channels=24, out_channels=24))
        assert pool(torch.zeros(1, 24, 7, 7)).shape == (1, 24, 1, 1)
        classifier = operator_module(Operator(op="linear", input_size=1, in_channels=24, out_channels=10))
        assert classifier(torch.zeros(1, 24, 1, 1)).shape == (1, 10)
        assert isinstance(classifier, nn.Conv2d)  # as in converted files

    def test_two_inputs(self) -> None:
        add = Operator(op="add", input_size=7, in_channels=24, out_channels=24)
        with pytest.raises(
            InputError, match=r"^add 24->24, 7 px.* cannot be built alone; expected a convolution or a block"
        ):
            operator_module(add)


class TestInt8:
    @pytest.mark.onnx
    def test_operators_have_the_precision_that_they_have_in_a_network(self, space: Space, tmp_path: Path) -> None:
        """In ONNX files, everything is quantized but the stem."""
        writer = Writer(target="onnx", precision="int8", frame=space.frame, folder=tmp_path)
        network = held_out(space, 1)[0]
        whole = writer.network(network, "network", num_classes=3).path
        first, *others = [each for each in network_operators(network, num_classes=3) if not each.is_free]
        assert (_quantized(whole), first.in_channels) == ({False, True}, 3)
        assert _quantized(writer.operator(first, "stem").path) == {False}
        block = next(each for each in others if each.op == "ir")
        assert _quantized(writer.operator(block, "block").path) == {True}
        assert _quantized(writer.layers(2, 8, 16, "layers").path) == {True}

    @pytest.mark.slow
    @pytest.mark.executorch
    def test_a_phone_s_file_runs(self, space: Space, tmp_path: Path) -> None:
        writer = Writer(target="executorch", precision="int8", frame=space.frame, folder=tmp_path)
        operator = next(each for each in space_operators(space, num_classes=3) if each.op == "ir")
        file = writer.operator(operator, "block")
        assert (file.precision, file.backend) == ("int8", "xnnpack")
        (found,) = HostDevice().run_in_turn([file], runs=2)
        assert min(found.samples_ms) > 0


def _quantized(path: Path) -> set[bool]:
    """Return whether the weights of convolutions are integers, for some or all of them."""
    import onnx

    model = onnx.load(path)
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    return {made_by.get(node.input[1]) == "DequantizeLinear" for node in model.graph.node if node.op_type == "Conv"}


WIDE = {"chamnet", "fbnetv2_f", "fbnetv3"}
"""Spaces of ten thousands of operators, of the same kinds as those of the networks."""


class TestRounds:
    def test_rounds_meet_all_alike(self, tmp_path: Path) -> None:
        device = Pretender(lambda name: 1.0)
        found = session(device, tmp_path, count=2).measure([subject("a"), subject("b"), subject("n", alone=True)])
        assert device.pushed == ["a", "b", "n"]
        assert device.ran == ["a", "b", "n"] * 2
        assert {key: set(samples) for key, samples in found.items()} == {key: {1.0} for key in "abn"}

    def test_the_quarter_that_took_least_counts(self, tmp_path: Path) -> None:
        times = iter([4.0, 1.0, 3.0, 2.0])
        quiet = session(Pretender(lambda name: next(times)), tmp_path, count=4, spread=9.0)
        assert set(quiet.measure([subject("a")])["a"]) == {1.0}
        assert len(quiet.measure([subject("a")])["a"]) == len(quiet.stored()[0].samples_ms)

    def test_more_rounds_where_they_differ(self, tmp_path: Path) -> None:
        times = iter([1.2, 1.0, 1.3, 1.01])
        device = Pretender(lambda name: next(times) if name == "n" else 1.0)
        subjects = [subject("a"), subject("n", alone=True)]
        session(device, tmp_path, count=2, spread=0.05).measure(subjects)
        assert Counter(device.ran) == {"a": 2, "n": 4}

    def test_files_in_turn_stay_together(self, tmp_path: Path) -> None:
        times = iter([1.2, 1.0, 1.01])
        device = Pretender(lambda name: next(times) if name == "b" else 1.0)
        session(device, tmp_path, count=2).measure([subject("a"), subject("b"), subject("n", alone=True)])
        assert Counter(device.ran) == {"a": 3, "b": 3, "n": 2}

    def test_a_device_that_is_not_quiet(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        device = Pretender(lambda name: 2.0 ** len(device.ran))
        with caplog.at_level(logging.WARNING):
            session(device, tmp_path, count=2).measure([subject("a")])
        assert len(device.ran) == 6
        assert "rounds of operator a differ by more than 5 %: the device is not idle" in caplog.text

    def test_going_on_where_it_ended(self, tmp_path: Path) -> None:
        def act(name: str) -> float:
            if len(lost.ran) == 4:
                raise DeviceLostError("gone")
            return 1.0

        lost, subjects = Pretender(act), [subject("n", alone=True), subject("m", alone=True)]
        with pytest.raises(DeviceLostError, match="gone"):
            session(lost, tmp_path, count=3).measure(subjects)
        device = Pretender(lambda name: 1.0)
        session(device, tmp_path, count=3).measure(subjects)
        assert sorted(lost.ran + device.ran) == ["m"] * 3 + ["n"] * 3
        again = Pretender(lambda name: 1.0)
        found = session(again, tmp_path, count=3).measure(subjects)
        assert (again.ran, again.pushed) == ([], [])
        assert found.keys() == {"m", "n"}

    @pytest.mark.parametrize(("field", "value"), [("count", 0), ("threads", 0), ("spread", 0.0), ("spread", -1.0)])
    def test_numbers_that_mean_nothing(self, field: str, value: float) -> None:
        with pytest.raises(InputError, match="cannot be"):
            Rounds(**{field: value})


class TestTable:
    @pytest.mark.slow
    def test_what_a_file_takes_beside_its_operator_is_taken_off(self, space: Space, tmp_path: Path) -> None:
        """With a device of known times: 0.5 ms for each end of a file and 1 ns for each value that passes it."""

        def ends_ms(channels: int, size: int) -> float:
            return 0.5 + 1e-6 * channels * size**2

        def own_ms(operator: Operator) -> float:
            return 0.1 + 0.01 * operator.kernel_size + 0.001 * operator.expansion

        times, specs = {}, held_out(space, 4)
        for operator in space_operators(space, num_classes=3):
            after = {"pool": 1}.get(operator.op, operator.input_size // operator.stride)
            beside = ends_ms(operator.in_channels, operator.input_size) + ends_ms(operator.out_channels, after)
            times[operator] = own_ms(operator) + beside
        sums = {spec.name: sum(own_ms(each) for each in network_operators(spec, num_classes=3)) for spec in specs}

        def act(name: str) -> float:
            kind, *rest = name.split("_")
            if kind == "layers":
                count, channels, size = map(int, rest)
                return 2 * ends_ms(channels, size) + count * 0.05
            if kind == "network":
                return 1.1 * sums[name.removeprefix("network_")] + 0.3
            return times[self.by_key[name]]

        self.by_key = {}
        writer = Writer(target="torch", precision="fp32", frame=space.frame, folder=tmp_path)
        job = TableJob(name="known", space=space, num_classes=3, networks=specs, writer=writer, rounds=Rounds(count=1))
        self.by_key = {each.key: operator for each, operator in zip(job.subjects(), job.operators, strict=False)}
        table, networks = job.measure(Pretender(act), tmp_path / "store.jsonl", no_steps)
        for operator in job.operators:
            assert table.operator_ms(operator) == pytest.approx(own_ms(operator), rel=1e-9)
        assert table.calibration is not None
        assert table.calibration.slope == pytest.approx(1.1)
        assert table.calibration.intercept_ms == pytest.approx(0.3)
        assert [each.measured_ms for each in networks] == pytest.approx([each.predicted_ms for each in networks])
        assert (table.device, table.kind, table.runtime, table.threads) == (PHONE, "measured", "executor_runner", 1)

    def test_held_out_networks(self) -> None:
        found = held_out(load_space("fbnet"), 5)
        assert {"fbnet_a", "fbnet_b", "fbnet_c"} <= {spec.name for spec in found[5:]}
        assert len({network_operators(spec) for spec in found}) == len(found)

    def test_the_zoo_has_variants_with_operators_of_their_own(self, tmp_path: Path) -> None:
        space, variant = load_space("fbnet"), registry.get_spec("fbnet_b")
        writer = Writer(target="torch", precision="fp32", frame=space.frame, folder=tmp_path)
        job = TableJob(
            name="t", space=space, num_classes=1000, networks=(variant,), writer=writer, rounds=Rounds(count=1)
        )
        needed = {operator for operator in network_operators(variant) if not operator.is_free}
        assert not needed <= set(space_operators(space))
        assert set(job.operators) == needed | set(space_operators(space))

    def test_stored_measurements_of_something_else(self, space: Space, tmp_path: Path) -> None:
        writer = Writer(target="torch", precision="fp32", frame=space.frame, folder=tmp_path)
        job = TableJob(name="t", space=space, num_classes=3, networks=(), writer=writer, rounds=Rounds(count=1))
        job.measure(Pretender(lambda name: 1.0), tmp_path / "store.jsonl", no_steps)
        other = replace(job, rounds=Rounds(count=1, threads=2))
        with pytest.raises(
            InputError, match=r"store\.jsonl has target torch, precision fp32, threads 1 on device 0a1b2c3d;"
        ):
            other.measure(Pretender(lambda name: 1.0), tmp_path / "store.jsonl", no_steps)


@pytest.mark.onnx
@pytest.mark.executorch
class TestInTurn:
    @pytest.mark.parametrize("target", first_is_quick(["onnx", "executorch"]))
    def test_one_process(self, target: str, tiny_files: Files) -> None:
        files = [replace(tiny_files[target], name=name) for name in "ab"]
        found = HostDevice().run_in_turn(files, runs=4, warmup=2)
        assert [each.model for each in found] == ["a", "b"]
        assert [(len(each.warmup_ms), len(each.samples_ms)) for each in found] == [(2, 4)] * 2
        assert all(each.load_ms and min(each.samples_ms) > 0 and each.peak_rss_mb is None for each in found)

    def test_the_file_that_fails_is_named(self, tiny_files: Files, tmp_path: Path) -> None:
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(b"nothing")
        files = [tiny_files["onnx"], replace(tiny_files["onnx"], path=damaged)]
        with pytest.raises(ModelFileError, match=r"^damaged\.onnx: onnxruntime cannot load it"):
            HostDevice().run_in_turn(files, runs=1)

    @pytest.mark.parametrize(("targets", "told"), [(["onnx", "torch"], "onnxruntime, torch"), ([], "none")])
    def test_one_runtime(self, targets: Sequence[str], told: str, tiny_files: Files) -> None:
        with pytest.raises(InputError, match=f"must be for one runtime; got {told}"):
            HostDevice().run_in_turn([tiny_files[target] for target in targets])


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["lut", "measure", *(str(word) for word in words)])


@pytest.mark.slow
def test_measure_on_this_machine(space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, words = tmp_path / "host.json", ("--runtime", "torch", "--rounds", 1, "--classes", 3, "--validate", 3)
    with monkeypatch.context() as patch:
        patch.setattr(HostDevice, "run", interrupted)
        ended = run("--space", space_file, "--out", out, *words)
        assert ended.exit_code == 1
        assert "host.partial keeps the measurements so far; the same command with --resume continues" in ended.stderr
        before = state(tmp_path / "host.partial")
        assert len(before) > 16
        assert run("--space", space_file, "--out", out, *words).exit_code == 2  # what is there is not thrown away
        assert run("--space", space_file, "--out", out, *words, "--resume").exit_code == 1
        assert state(tmp_path / "host.partial") == before
    assert not out.exists()

    resumed = run("--space", space_file, "--out", out, *words, "--resume", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert {path.name for path in tmp_path.iterdir()} == {out.name, space_file.name}
    told, table = json.loads(resumed.stdout), load_table(out)
    assert {entry.operator for entry in table.operators} == set(space_operators(load_space(space_file), num_classes=3))
    assert (table.name, table.runtime, table.precision, table.kind) == ("host", "torch", "fp32", "measured")
    assert table.device == HostDevice().info()
    assert table.calibration is not None
    assert told["calibration"] == table.calibration.model_dump(mode="json")
    assert [each["network"] for each in told["networks"]] == [spec.name for spec in held_out(load_space(space_file), 3)]
    assert all(each["measured_ms"] > 0 for each in told["networks"])


def interrupted(*_: object) -> Measurement:
    raise DeviceLostError("gone")


def state(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "hots"], "there is no device 'hots'; did you mean 'host'?"),
        (["--device", "ios"], "operators cannot be measured on ios; expected host or android"),
        (["--device", "android", "--runtime", "torch"], "the device android runs executorch, not torch"),
        (["--runtime", "torch", "--precision", "fp16"], "torch is measured in fp32 only"),
        (["--validate", "2"], "--validate cannot be 2"),
        (["--out", "Host.JSON"], "the file names the table"),
        (["--space", "fbnett"], "no search space is named 'fbnett'; did you mean 'fbnet'?"),
        (["--spread", "0"], "spread cannot be 0"),
    ],
)
def test_what_cannot_be_measured(words: list[str], message: str, tmp_path: Path) -> None:
    usual = ["--space", "digits_tiny", "--out", str(tmp_path / "host.json")]
    result = run(*usual, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_missing_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    result = run("--space", "digits_tiny", "--out", tmp_path / "host.json")
    assert result.exit_code == 1
    assert "pip install 'fbnet-zoo[executorch]'" in result.stderr
    assert not list(tmp_path.iterdir())
