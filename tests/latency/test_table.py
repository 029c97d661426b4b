"""Latency tables: what they add up to, what they refuse, and the shipped ones against what was published."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fbnet_zoo.errors import InputError, UnknownNameError
from fbnet_zoo.latency import files
from fbnet_zoo.latency.files import find_table, list_tables, load_table, save_table, table_text
from fbnet_zoo.latency.importers.published import main as write_published
from fbnet_zoo.latency.table import Calibration, LatencyTable, OperatorLatency, network_ms
from fbnet_zoo.planner import plan
from fbnet_zoo.registry import get_spec
from fbnet_zoo.space import load_space
from fbnet_zoo.space.operators import space_operators
from tests.helpers.latency_tables import DEVICES, conv, network, operators_of, published, table

MEASURED = {
    "ethosu55_128_digits_tiny": ("digits_tiny", 10),
    "ethosu55_128_fbnet_cifar": ("fbnet_cifar", 100),
    "host_xnnpack_digits_tiny": ("digits_tiny", 10),
    "host_xnnpack_fbnet": ("fbnet", 1000),
}
"""Tables that this project made itself, with their search space and its classes."""

PRINTED = {
    "0000000000000000000000": (17.618579145142576, 7.788973100000002, 3.9408960000000004, 10.739520000000002),
    "0000000000000000000001": (17.505280663142912, 7.673164100000002, 3.9004160000000003, 10.347840000000001),
    "0000000000000000000011": (17.43969264414045, 7.596349100000001, 3.8665600000000007, 10.07136),
}
"""What HW-NAS-Bench itself prints for three networks at 32 px, ms, in the order of `DEVICES`."""


@pytest.mark.parametrize("device", DEVICES)
def test_sums_are_the_published_latencies_to_the_last_printed_digit(device: str) -> None:
    known = find_table(device)
    for operators, latencies in published():
        assert float(f"{known.sum_ms(operators):.6g}") == pytest.approx(latencies[device], abs=1e-6)


@pytest.mark.parametrize("choices", PRINTED)
def test_sums_are_what_hw_nas_bench_prints(choices: str) -> None:
    found = [network_ms(find_table(device), network(choices), num_classes=100) for device in DEVICES]
    assert found == pytest.approx(PRINTED[choices], abs=1e-9)


def test_a_resolved_network_takes_as_long_as_its_definition() -> None:
    spec, known = network("0" * 22), find_table("pixel3")
    assert network_ms(known, plan(spec, num_classes=100), 32) == network_ms(known, spec, num_classes=100)


def test_the_network_of_skips_is_the_base() -> None:
    known = find_table("fpga")
    assert known.sum_ms(operators_of("8" * 22)) == known.base_ms


@pytest.mark.parametrize(
    ("spec", "classes", "problem"),
    [
        ("fbnet_b", 100, r"more operators 3->16, stride 2, at 224 px"),
        ("0" * 22, 1000, r"more operators 1504->1000, stride 1, at 1 px"),
    ],
)
def test_a_relative_table_refuses_networks_of_other_spaces(spec: str, classes: int, problem: str) -> None:
    other = network(spec) if spec.isdigit() else get_spec(spec)
    with pytest.raises(InputError, match=problem):
        network_ms(find_table("pixel3"), other, num_classes=classes)


def test_a_missing_operator_is_named_with_the_command_that_measures_it() -> None:
    expected = (
        r"table small has no figure for conv 8->64, 8 px, relu; measure it with fbnet-zoo lut measure --space NAME "
    )
    with pytest.raises(InputError, match=expected + "--device host --runtime onnxruntime"):
        table(1.0).sum_ms([conv(16), conv(64)])


def test_the_correction_is_applied_to_networks_and_not_to_sums() -> None:
    fit = Calibration(slope=2.0, intercept_ms=0.5, networks=9, mape=1.0, spearman=1.0, sum_mape=60.0)
    known = find_table("pixel3").model_copy(update={"calibration": fit})
    operators = operators_of("8" * 22)
    assert network_ms(known, network("8" * 22), num_classes=100) == 2 * known.sum_ms(operators) + 0.5


def test_a_file_holds_everything(tmp_path: Path) -> None:
    fit = Calibration(networks=9, mape=1.0, spearman=1.0, sum_mape=2.0)
    entry = OperatorLatency(operator=conv(), median_ms=0.3, minimum_ms=0.1, p10_ms=0.2, p90_ms=1 / 3, samples=7)
    full = table(operators=(entry,), calibration=fit, versions={"onnxruntime": "1.23"}, credit=("Us",))
    save_table(full, tmp_path / "new" / "full.json")
    assert load_table(tmp_path / "new" / "full.json") == full
    for name in list_tables():
        save_table(find_table(name), tmp_path / "again.json")
        assert load_table(tmp_path / "again.json") == find_table(name)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        save_table(table(1.0), path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"unit": "us"}, "unit: Input should be 'ms'"),
        ({"format": 2}, "format: "),
        ({"speed": 1}, "speed: Extra inputs"),
        ({"operators": []}, "operators: "),
        ({"relative_to": "skip"}, "require each other"),
        ({"operators": [{"operator": {"op": "conv"}, "median_ms": 1.0}]}, "operators.0.operator.input_size: "),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(json.loads(table_text(table(1.0))) | change))
    with pytest.raises(InputError, match=rf"wrong\.json: .*{problem}"):
        load_table(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"wrong\.json: "):
        load_table(path)


def test_wrong_figures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes -1\.0 ms; expected more than 0"):
        table(-1.0)
    with pytest.raises(ValueError, match="duplicate operator"):
        table(operators=(OperatorLatency(operator=conv(), median_ms=1.0),) * 2)
    with pytest.raises(ValueError, match="must be in ascending order"):
        OperatorLatency(operator=conv(), median_ms=1.0, p90_ms=0.5)


@pytest.mark.parametrize("name", MEASURED)
def test_a_table_of_ours_has_all_of_its_space(name: str) -> None:
    space, num_classes = MEASURED[name]
    measured = find_table(name)
    assert set(measured.by_operator) >= set(space_operators(load_space(space), num_classes=num_classes))
    assert measured.calibration is not None
    assert measured.calibration.mape < 10
    assert measured.calibration.spearman > 0.97


def test_names() -> None:
    assert list_tables() == sorted((*DEVICES, *MEASURED))
    assert {find_table(name).kind for name in ("eyeriss", "fpga")} == {"estimate"}
    with pytest.raises(UnknownNameError, match="did you mean 'pixel3'"):
        find_table("pixel4")
    with pytest.raises(InputError, match="cannot be read"):
        find_table("nowhere.json")


def test_the_schema_is_current_and_fits_the_tables() -> None:
    text = (files.TABLES / files.SCHEMA).read_text(encoding="utf-8")
    assert text == files.schema_text(), "write it again: make schema"
    validator = Draft202012Validator(json.loads(text))
    for name in list_tables():
        validator.validate(json.loads((files.TABLES / f"{name}.json").read_text()))
    assert not validator.is_valid(json.loads(table_text(table(1.0))) | {"unit": "us"})


def facts_of(known: LatencyTable) -> dict[str, Any]:
    """Return the facts that a shipped table was written from, in the form that its writer reads."""
    stem, *_, head, _, classifier = known.base_operators
    layers = [dict(zip(("H", "cin", "cout", "stride"), each.place, strict=True)) for each in known.base_operators[1:-3]]
    groups = [{"group": at} | layer for at, layer in enumerate(map(dict, dict.fromkeys(map(_items, layers))))]
    differences: dict[str, dict[str, float]] = {str(group["group"]): {} for group in groups}
    for entry in known.operators:
        each = entry.operator
        suffix = f"_g{each.groups}" if each.groups > 1 else ""
        group = next(
            group for group in groups if (group["H"], group["cin"], group["cout"], group["stride"]) == each.place
        )
        differences[str(group["group"])][f"k{each.kernel_size}_e{each.expansion:g}{suffix}"] = entry.median_ms
    return {
        "input": [stem.in_channels, stem.input_size, stem.input_size],
        "stem_channels": stem.out_channels,
        "header_channels": head.out_channels,
        "classes": classifier.out_channels,
        "layers": layers,
        "shape_groups": groups,
        "devices": {known.name: {"base_all_skip_ms": known.base_ms, "delta_vs_skip_ms": differences}},
    }


def _items(layer: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(layer.items())


def test_the_shipped_tables_are_written_from_their_facts(tmp_path: Path) -> None:
    facts = facts_of(find_table("raspi4"))
    facts["devices"] = {name: facts_of(find_table(name))["devices"][name] for name in DEVICES}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    assert write_published([str(tmp_path / "facts.json"), "--out", str(tmp_path / "tables")]) == 0
    for name in DEVICES:
        written = (tmp_path / "tables" / f"{name}.json").read_text(encoding="utf-8")
        assert written == (files.TABLES / f"{name}.json").read_text(encoding="utf-8")


def test_facts_that_lack_something_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "facts.json").write_text('{"devices": {}}')
    assert write_published([str(tmp_path / "facts.json"), "--out", str(tmp_path)]) == 2
    assert "the facts of raspi4 lack the key 'raspi4'" in capsys.readouterr().err
