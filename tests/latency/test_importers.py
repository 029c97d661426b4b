"""Tables of other projects, in small synthetic files of their formats."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import load_table, save_table
from fbnet_zoo.latency.importers.hw_nas_bench import operator_of_key, read_hw_nas_bench
from fbnet_zoo.latency.importers.mobile_vision import read_mobile_vision
from fbnet_zoo.latency.operators import Operator, network_operators
from fbnet_zoo.latency.table import network_ms
from fbnet_zoo.registry import get_spec
from tests.helpers.latency_tables import network

CHOICES = "0123456788012345678012"


def key_of(operator: Operator) -> str:
    """Return HW-NAS-Bench's key."""
    size, before, after, stride = operator.place
    shape, spread = f"H{size}_W{size}_Cin{before}_Cout{after}", f"kernel{operator.kernel_size}_stride{stride}"
    match operator.op:
        case "conv" if operator.kernel_size == 1 and after != 1504:
            return f"Skip_{shape}_stride{stride}"
        case "conv":
            return f"ConvNorm_{shape}_{spread}_group{operator.groups}"
        case "ir":
            return f"ConvBlock_{shape}_exp{operator.expansion:g}_{spread}_group{operator.groups}"
        case "skip":
            return f"Skip_{shape}_stride1"
        case "pool":
            return f"AvgP_{shape}_kernel{size}_stride1"
        case _:
            return f"FC_Cin{before}_Cout{after}"


def test_hw_nas_bench_networks_are_the_sums_of_their_keys(tmp_path: Path) -> None:
    spec = network(CHOICES)
    keys = [key_of(each) for each in network_operators(spec, num_classes=100)]
    figures = {key: 0.125 * at for at, key in enumerate(dict.fromkeys(keys), start=1)}
    path = tmp_path / "tables.json"
    path.write_text(json.dumps({"pixel3_energy": {}, "pixel3_latency": figures}))
    table = read_hw_nas_bench(path, name="pixel3", metric="pixel3_latency")
    assert network_ms(table, spec, num_classes=100) == sum(figures[key] for key in keys)
    assert {key_of(entry.operator): entry.median_ms for entry in table.operators} == figures
    assert "HW-NAS-Bench: MIT" in table.credit[0]
    save_table(table, tmp_path / "ours.json")
    assert load_table(tmp_path / "ours.json") == table


def test_hw_nas_bench_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"FC_Cin8_Cout2": 0.5}')
    table = read_hw_nas_bench(path, name="one", kind="estimate")
    assert table.operator_ms(Operator(op="linear", input_size=1, in_channels=8, out_channels=2)) == 0.5
    assert table.kind == "estimate"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("ConvBlock_H32", "is not a key of HW-NAS-Bench"),
        ("Skip_H8_W4_Cin8_Cout8_stride1", "is not square"),
        ("Skip_H8_W8_Cin8_Cout16_stride3", "is not a valid operator"),
        ("FC_Cin0_Cout8", "is not a valid operator"),
    ],
)
def test_wrong_keys_are_refused(key: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        operator_of_key(key)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("pickled", "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"pixel3_latency": {}, "fpga_energy": {}}', "no latency metric None; it has pixel3_latency"),
        ('{"FC_Cin8_Cout2": "1"}', "FC_Cin8_Cout2: expected milliseconds, got '1'"),
        ('{"FC_Cin8_Cout2": -1}', r"table\.json: .*expected more than 0"),
    ],
)
def test_wrong_hw_nas_bench_files_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(InputError, match=problem):
        read_hw_nas_bench(path, name="x")


def record_of(operator: Operator, us: float, *, int8: bool = True) -> dict[str, Any]:
    """Return mobile-vision's record of a layer: int8 has the channels last."""
    size, before, after = operator.input_size, operator.in_channels, operator.out_channels
    kernel, share = operator.kernel_size, before // operator.groups
    tensor = [1, size, size, before] if int8 else [1, before, size, size]
    weights = [after, kernel, kernel, share] if int8 else [after, share, kernel, kernel]
    said = {"kernel": kernel, "stride": operator.stride, "pad": operator.padding, "group": operator.groups}
    kinds: dict[str, tuple[str, list[list[int]], dict[str, int]]] = {
        "conv": ("ConvRelu" if operator.act else "Conv", [tensor, weights, [after]], said),
        "linear": ("FC", [[1, before], [after, before], [after]], {}),
        "pool": ("AveragePool", [tensor], {"global_pooling": 1} if size > 4 else {"kernel": size}),
        "add": ("Sum" if not int8 else "Add", [tensor, tensor], {}),
        "shuffle": ("ChannelShuffle", [tensor], {"group": operator.groups}),
    }
    kind, shapes, arguments = kinds[operator.op]
    return {
        "op_type": f"Int8{kind}" if int8 else kind,
        "op_args": [f'name: "{name}"\ni: {value}\n' for name, value in sorted(arguments.items())]
        + [f'name: "order"\ns: "{"NHWC" if int8 else "NCHW"}"\n'],
        "input_shapes": shapes,
        "input_dtypes": [1] * len(shapes),
        "device": "SM-1",
        **{f"runtime_us_p{at}": us * (1 + at / 1000) for at in (0, 10, 50, 90, 100)},
    }


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("int8", [True, False])
def test_mobile_vision_networks_are_the_sums_of_their_layers(tmp_path: Path, int8: bool) -> None:
    spec = network(CHOICES)
    layers = network_operators(spec, level="layer", num_classes=100)
    us = {layer: 8.0 * at for at, layer in enumerate(dict.fromkeys(layers), start=1)}
    path = write(tmp_path / "lut.json", [record_of(layer, each, int8=int8) for layer, each in us.items()])
    precision: Any = "int8" if int8 else "fp32"
    table = read_mobile_vision(path, name="phone", precision=precision, source="A test.")
    assert network_ms(table, spec, num_classes=100) == pytest.approx(sum(us[layer] for layer in layers) * 1.05 / 1000)
    entry = table.by_operator[layers[0]]
    assert (entry.minimum_ms, entry.p10_ms, entry.p90_ms) == pytest.approx((0.008, 0.00808, 0.00872))
    save_table(table, tmp_path / "ours.json")
    assert load_table(tmp_path / "ours.json") == table


def test_a_convolution_without_its_activation_takes_as_long_as_with_it(tmp_path: Path) -> None:
    stem = network_operators(get_spec("fbnet_b"), level="layer")[0]
    table = read_mobile_vision(write(tmp_path / "l", [record_of(stem, 100)]), name="x", source="A test.")
    assert table.operator_ms(stem.model_copy(update={"act": None})) == table.operator_ms(stem) == pytest.approx(0.105)


def test_several_records_of_one_operator_are_averaged(tmp_path: Path) -> None:
    stem = network_operators(get_spec("fbnet_b"), level="layer")[0]
    path = write(tmp_path / "l", [record_of(stem, 100), record_of(stem, 300)])
    assert read_mobile_vision(path, name="x", source="A test.").operator_ms(stem) == pytest.approx(0.21)


def test_what_networks_do_not_have_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stem = network_operators(get_spec("fbnet_b"), level="layer")[0]
    copy = record_of(stem, 1) | {"op_type": "Int8Quantize"}
    oblong = record_of(stem, 1) | {"input_shapes": [[1, 8, 4, 3], [16, 3, 3, 3], [16]]}
    strided = record_of(stem.model_copy(update={"stride": 4}), 1)
    batch = record_of(stem, 1) | {"input_shapes": [[2, 8, 8, 3], [16, 3, 3, 3], [16]]}
    other = record_of(stem, 1) | {"device": "SM-2"}
    path = write(tmp_path / "l", [record_of(stem, 100), copy, oblong, strided, batch, other])
    with caplog.at_level(logging.INFO):
        table = read_mobile_vision(path, name="x", source="A test.", device="SM-1")
    assert {entry.operator.model_copy(update={"act": "relu"}) for entry in table.operators} == {stem}
    assert "skipped 3 Int8ConvRelu, 1 Int8Quantize" in caplog.text
    with pytest.raises(InputError, match="choose a device; the file has SM-1, SM-2"):
        read_mobile_vision(path, name="x", source="A test.")
    with pytest.raises(InputError, match="no operator for SM-1 in fp32"):
        read_mobile_vision(path, name="x", source="A test.", device="SM-1", precision="fp32")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", ":1: expected a JSON object"),
        ("{", ":1: not JSON .*; expected an operator of mobile-vision"),
        ("{}", ":1: missing key 'device'"),
    ],
)
def test_wrong_mobile_vision_files_are_refused(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "lut.json"
    path.write_text(line)
    with pytest.raises(InputError, match=problem):
        read_mobile_vision(path, name="x", source="A test.")


@pytest.mark.parametrize(
    "change",
    [
        {"input_shapes": [[1, 8, 8, 3]]},
        {"op_args": 3},
        {"runtime_us_p50": "fast"},
        {"runtime_us_p50": float("nan")},
        {"runtime_us_p90": 0.5},
        {"input_shapes": [["a"] * 4, [1] * 4]},
    ],
)
def test_wrong_mobile_vision_records_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    stem = network_operators(get_spec("fbnet_b"), level="layer")[0]
    path = write(tmp_path / "lut.json", [record_of(stem, 100) | change])
    with pytest.raises(InputError, match=r"lut\.json:(1:)? "):
        read_mobile_vision(path, name="x", source="A test.", device="SM-1")
