"""Estimates for Ethos-U: what is compiled is the network, its parts add up, and the command makes a table of them."""

import csv
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from fbnet_zoo._require import require
from fbnet_zoo.benchmarks.devices.ethosu import Configuration, EthosUDevice
from fbnet_zoo.benchmarks.lut.operator_files import Writer
from fbnet_zoo.benchmarks.lut.operator_modules import operator_module
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.cli.app import app
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.program import export, export_module
from fbnet_zoo.converters.tflite.graph import TfliteGraph, range_scale
from fbnet_zoo.converters.tflite.lowering import tflite_graph
from fbnet_zoo.converters.tflite.writer import file_content
from fbnet_zoo.errors import (
    ConversionError,
    InputError,
    MissingExtraError,
    MissingKernelError,
    ModelFileError,
    UnknownNameError,
)
from fbnet_zoo.latency.checks import table_warnings
from fbnet_zoo.latency.files import find_table, load_table
from fbnet_zoo.latency.operator_costs import operator_cost
from fbnet_zoo.latency.operators import Operator, network_operators
from fbnet_zoo.latency.table import network_ms
from fbnet_zoo.model import FBNet
from fbnet_zoo.registry import get_spec
from fbnet_zoo.space import load_space
from fbnet_zoo.space.operators import space_operators
from fbnet_zoo.stats import spearman
from tests.helpers.latency_tables import TWO_LAYERS
from tests.helpers.marks import first_is_quick
from tests.helpers.tflite_reference import compute

pytestmark = pytest.mark.ethosu

SHIPPED, CIFAR = "ethosu55_128_digits_tiny", "ethosu55_128_fbnet_cifar"


@pytest.fixture(scope="module", autouse=True)
def _vela() -> None:
    try:
        require("ethosu.vela", extra="ethosu")
    except MissingExtraError as error:
        pytest.skip(str(error))


def device(accelerator: str = "ethos-u55-128") -> EthosUDevice:
    return EthosUDevice(Configuration.find(accelerator))


def writer(folder: Path) -> Writer:
    return Writer(target="tflite", precision="int8", frame=get_spec("fbnet_b"), folder=folder)


def block(**fields: Any) -> Operator:
    usual: dict[str, Any] = {"op": "ir", "input_size": 8, "in_channels": 16, "out_channels": 16, "padding": 1}
    return Operator(**usual | {"kernel_size": 3, "middle_channels": 32, "act": "relu"} | fields)


EXCITED = {"se_channels": 8, "se_act": "relu"}
KINDS = {
    "residual": block(residual=True),
    "strided": block(stride=2, kernel_size=5, padding=2),
    "shuffled": block(groups=2),
    "hard_swish": block(act="hard_swish"),
    "hard_sigmoid": block(se_gate="hard_sigmoid", **EXCITED),
    "sigmoid": block(se_gate="sigmoid", **EXCITED),
    "swish": block(act="swish"),
    "grouped": block(depthwise_groups=4),
    "dilated": block(dilation=2, padding=2),
    "fused": block(op="fused_ir"),
    "pooled": block(op="ir_pool", kernel_size=1, padding=0),
    "pool": Operator(op="pool", input_size=7, in_channels=24, out_channels=24),
    "linear": Operator(op="linear", input_size=1, in_channels=24, out_channels=10),
}


class TestGraph:
    def test_it_computes_what_the_network_does(self, shared_tiny_model: FBNet) -> None:
        program = export(shared_tiny_model, ConvertOptions())
        image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            # the image of which the ranges are: nothing is cut off, and what is left is the rounding of weights
            assert snr_db(shared_tiny_model(image), compute(tflite_graph(program.exported), image)) > 30

    @pytest.mark.parametrize("kind", ["shuffled", "sigmoid", "swish", "strided", "grouped", "dilated"])
    def test_parts(self, kind: str, tmp_path: Path) -> None:
        program = writer(tmp_path)._part(operator_module(KINDS[kind]), 16, 8)
        image = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
        expected = program.module(image).permute(0, 2, 3, 1)
        assert snr_db(expected, compute(tflite_graph(program.exported), image)) > 30

    def test_what_networks_do_not_have(self) -> None:
        with pytest.raises(ConversionError, match=r"^aten\.tanh cannot be written for Ethos-U; supported: conv2d, "):
            tflite_graph(export_module(nn.Tanh(), (1, 3, 8, 8)))


class TestDevice:
    @pytest.mark.parametrize("accelerator", first_is_quick(["ethos-u55-128", "ethos-u85-256"]))
    def test_every_kind_of_operator(self, accelerator: str, tmp_path: Path) -> None:
        found = [device(accelerator).run(writer(tmp_path).operator(each, name)) for name, each in KINDS.items()]
        assert all(len(each.samples_ms) == 1 and each.samples_ms[0] > 0 for each in found)
        assert {each.device.id.partition("/")[0] for each in found} == {accelerator}

    def test_the_same_each_time(self, tmp_path: Path) -> None:
        files = []
        for name in "ab":
            (tmp_path / name).mkdir()
            files.append(writer(tmp_path / name).operator(KINDS["residual"], "operator"))
        assert files[0].path.read_bytes() == files[1].path.read_bytes()
        first, again = (device().run(file) for file in files)
        assert (first.samples_ms, first.sha256) == (again.samples_ms, again.sha256)

    def test_layers_and_their_multiply_accumulates(self, tmp_path: Path) -> None:
        file, limit = writer(tmp_path).operator(KINDS["residual"], "operator"), sys.getrecursionlimit()
        device().profile(file, tmp_path / "layers.csv")
        with (tmp_path / "layers.csv").open(encoding="utf-8") as lines:
            layers = list(csv.DictReader(lines))
        assert {layer["NNG Operator"] for layer in layers} >= {"Conv2D", "DepthwiseConv2D", "Add"}
        assert sum(int(layer["MAC Count"]) for layer in layers) == operator_cost(KINDS["residual"]).macs
        cycles = sum(int(layer["Op Cycles"]) for layer in layers)
        assert device().run(file).samples_ms[0] == pytest.approx(cycles / 500e3)  # 500 MHz
        assert sys.getrecursionlimit() == limit

    def test_a_faster_accelerator(self, tmp_path: Path) -> None:
        file = writer(tmp_path).operator(block(input_size=32), "operator")
        slow, fast = (device(f"ethos-u55-{macs}").run(file).samples_ms[0] for macs in (32, 256))
        assert slow > 2 * fast

    def test_damaged_file(self, tmp_path: Path) -> None:
        path = tmp_path / "damaged.tflite"
        path.write_bytes(b"nothing")
        file = ModelFile(path=path, name="damaged", target="tflite", precision="int8")
        with pytest.raises(ModelFileError, match=r"^damaged\.tflite: Vela cannot compile it"):
            device().run(file)

    def test_what_the_accelerator_leaves_to_others(self, tmp_path: Path) -> None:
        graph = TfliteGraph(inputs=["x"], outputs=["y"])
        for name in "xy":
            graph.tensor(name, (1, 8, 8, 4), range_scale(-1.0, 1.0))
        graph.layer("COS", ("x",), "y")
        path = tmp_path / "wave.tflite"
        path.write_bytes(file_content(graph))
        with pytest.raises(MissingKernelError, match=r"^wave\.tflite: COS would run on the CPU beside Ethos-U"):
            device().run(ModelFile(path=path, name="wave", target="tflite", precision="int8"))


class TestConfiguration:
    def test_usual(self) -> None:
        info = Configuration.find("ethos-u85-256").info()
        assert (info.kind, info.model) == ("ethosu", "Ethos-U85-256")
        assert info.system == "Ethos_U85_SYS_DRAM_Mid, Sram_Only, 1000 MHz"

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (("ethos-u55-129",), "Vela has no accelerator 'ethos-u55-129'; did you mean"),
            (("tpu",), r"Vela has no accelerator 'tpu'; expected one of ethos-u55-32, .*ethos-u85-2048"),
            (("ethos-u55-128", "Ethos_U85_SYS_DRAM_Mid"), r"no system configuration .*Ethos_U55_Deep_Embedded"),
            (("ethos-u55-128", None, "Sram"), "no memory mode 'Sram'; did you mean 'Sram_Only'"),
        ],
    )
    def test_unknown_names(self, names: tuple[str | None, ...], message: str) -> None:
        with pytest.raises(UnknownNameError, match=message):
            Configuration.find(*names)  # type: ignore[arg-type]


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["lut", "measure", *(str(word) for word in words)])


class TestTable:
    def test_measure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        space, out = tmp_path / "two_layers.yaml", tmp_path / "u55.json"
        space.write_text(TWO_LAYERS)
        words = ("--space", space, "--out", out, "--device", "ethosu", "--classes", 3, "--validate", 3)
        compile_, left = EthosUDevice.run, iter(range(4))

        def interrupted(self: EthosUDevice, model: ModelFile, *others: Any) -> Any:
            if next(left, None) is None:
                raise InputError("gone")
            return compile_(self, model, *others)

        with monkeypatch.context() as patch:
            patch.setattr(EthosUDevice, "run", interrupted)
            assert "the same command with --resume continues" in run(*words).stderr
        kept = (tmp_path / "u55.partial" / "measurements.jsonl").read_text().splitlines()
        assert len(kept) == 4
        other = run(*words, "--resume", "--config", "ethos-u55-256")
        assert "threads 1 on device ethos-u55-128/Ethos_U55_High_End_Embedded/Shared_Sram; use the same" in other.stderr
        result = run(*words, "--resume", "--json")
        assert result.exit_code == 0, result.stderr
        told, table = json.loads(result.stdout), load_table(out)
        assert (table.kind, table.precision, table.threads, table.device.kind) == ("estimate", "int8", None, "ethosu")
        assert table.runtime == f"vela {table.versions['ethos-u-vela']}"
        assert "500 MHz" in table.source
        assert {each.operator for each in table.operators} == set(space_operators(load_space(space), num_classes=3))
        assert {each.samples for each in table.operators} == {None}
        figures = {each.median_ms for each in table.operators}
        assert {round(json.loads(line)["samples_ms"][0], 7) for line in kept} <= figures
        assert [network["measured_ms"] > 0 for network in told["networks"]] == [True] * 3

    def test_shipped_figures_are_those_of_the_command(self, tmp_path: Path) -> None:
        table, installed = find_table(SHIPPED), version("ethos-u-vela")
        if table.runtime != f"vela {installed}":
            pytest.skip(f"the figures are of {table.runtime}, and vela {installed} counts otherwise")
        for at in (3, 17):
            entry = table.operators[at]
            found = device().run(writer(tmp_path).operator(entry.operator, f"operator_{at}"))
            assert found.samples_ms[0] == pytest.approx(entry.median_ms, rel=1e-3)

    @pytest.mark.slow
    def test_networks_are_the_sum_of_their_operators(self, tmp_path: Path) -> None:
        """Closely with the shipped table's Vela; Vela 5.2.0 counts 11 % more for a whole network than for its parts."""
        table, space = find_table(SHIPPED), load_space("digits_tiny")
        for seed in (100, 101):  # not those of the calibration
            spec = space.decode(space.sample(seed))
            whole = device().run(writer(tmp_path).network(spec, spec.name, num_classes=10))
            parts = network_operators(spec, num_classes=10)
            alone = [
                device().run(writer(tmp_path).operator(part, f"part_{seed}_{at}"))
                for at, part in enumerate(parts)
                if not part.is_free
            ]
            same = whole.runtime == table.runtime
            wanted = pytest.approx(whole.samples_ms[0], rel=0.015 if same else 0.15)
            assert sum(part.samples_ms[0] for part in alone) == wanted
            if same:
                assert table.sum_ms(parts) == pytest.approx(whole.samples_ms[0], rel=0.015)
                assert network_ms(table, spec, num_classes=10) == pytest.approx(whole.samples_ms[0], rel=0.015)

    @pytest.mark.slow
    def test_another_device_wants_other_networks(self) -> None:
        space, names = load_space("fbnet_cifar"), ("pixel3", "raspi4", "eyeriss", "fpga", CIFAR)
        networks = [space.decode(space.sample(seed)) for seed in range(60)]
        times = {name: [network_ms(find_table(name), each, num_classes=100) for each in networks] for name in names}
        assert all(0.8 < spearman(times[CIFAR], times[name]) < 0.97 for name in names[:-1])
        where: dict[str, Any] = {"input_size": 8, "in_channels": 64, "out_channels": 112, "middle_channels": 64}
        grouped, plain = block(**where, groups=2), block(**where)
        assert find_table("pixel3").operator_ms(grouped) < find_table("pixel3").operator_ms(plain)
        assert find_table(CIFAR).operator_ms(grouped) > find_table(CIFAR).operator_ms(plain)

    def test_shipped_tables(self) -> None:
        for name in (SHIPPED, CIFAR):
            table = find_table(name)
            assert table.calibration is not None
            assert table.calibration.sum_mape < 1
            assert table.calibration.spearman > 0.99
            assert not table_warnings(table)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "ethosu", "--config", "ethos-u56"], "Vela has no accelerator 'ethos-u56'"),
        (["--device", "ethosu", "--threads", "1"], "--threads has no effect on the device ethosu; leave it out"),
        (["--device", "ethosu", "--runtime", "torch"], "--runtime has no effect on the device ethosu"),
        (["--device", "ethosu", "--rounds", "3"], "--rounds has no effect on the device ethosu"),
        (["--memory-mode", "Sram_Only"], "--memory-mode has no effect on the device host; leave it out"),
        (["--device", "ethosu:ethos-u85-256"], "use --device ethosu --config ethos-u85-256"),
        (["--device", "ethosu", "--validate", "2"], "--validate cannot be 2"),
    ],
)
def test_what_cannot_be_said(words: list[str], message: str, tmp_path: Path) -> None:
    result = run("--space", "digits_tiny", "--out", tmp_path / "u55.json", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_vela_that_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ethosu.vela.architecture_features", None)
    result = run("--space", "digits_tiny", "--device", "ethosu", "--out", tmp_path / "u55.json")
    assert result.exit_code == 1
    assert "pip install --upgrade 'fbnet-zoo[ethosu]'" in result.stderr
    assert not list(tmp_path.iterdir())
