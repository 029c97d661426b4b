"""`fbnet-zoo lut` as its user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fbnet_zoo.cli.app import app
from fbnet_zoo.latency.files import find_table, load_table, save_table
from tests.helpers.latency_tables import DEVICES, LATENCIES, table
from tests.helpers.measurements import measurement

CIFAR = ("--key", "choices", "--space", "fbnet_cifar", "--classes", 100)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["lut", *(str(word) for word in words)])


def read(*words: object) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_list(tmp_path: Path) -> None:
    assert all(name in run("list").stdout for name in DEVICES)
    sizes = {entry["name"]: entry["operators"] for entry in read("list")["tables"]}
    assert sizes.items() >= dict.fromkeys(DEVICES, 96).items()
    save_table(table(1.0), tmp_path / "small.json")
    assert [entry["name"] for entry in read("list", tmp_path)["tables"]] == ["small"]
    assert run("list", tmp_path / "nowhere").exit_code == 2


def test_show() -> None:
    shown = run("show", "pixel3", "--top", 1).stdout
    assert "Google Pixel 3" in shown
    assert "HW-NAS-Bench: MIT" in shown
    assert shown.count(" px, ") == 1
    assert run("show", "pixel3", "--top", 0).stdout.count(" px, ") == 96
    assert read("show", "pixel3") == json.loads(find_table("pixel3").model_dump_json())


def test_validate() -> None:
    assert "96 operators, 0 warnings" in run("validate", "fpga").stdout
    fit = read("validate", "fpga", "--networks", LATENCIES, "--column", "fpga", *CIFAR)["networks"]
    assert fit["mape"] == pytest.approx(0, abs=1e-3)
    assert (fit["networks"], fit["spearman"], fit["slope"]) == (60, 1.0, 1.0)


def test_validate_writes_a_correction(tmp_path: Path) -> None:
    out = tmp_path / "scaled.json"
    words = ("validate", "pixel3", "--networks", LATENCIES, "--column", "raspi4", *CIFAR, "--out", out)
    assert "rank correlation" in run(*words).stdout
    fit = load_table(out).calibration
    assert fit is not None
    assert fit.mape < 5 < 40 < fit.sum_mape
    assert load_table(out).operators == find_table("pixel3").operators


def test_validate_reads_measurements(tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    path.write_text(measurement(model="fbnet_b").model_dump_json() + "\n")
    result = run("validate", "pixel3", "--networks", path)
    assert result.exit_code == 2
    assert "this one has more operators 3->16, stride 2, at 224 px" in result.stderr


def test_warnings_are_no_errors(tmp_path: Path) -> None:
    save_table(table(8e6), tmp_path / "us.json")
    result = run("validate", tmp_path / "us.json")
    assert result.exit_code == 0
    assert "check that the times are milliseconds" in result.stderr
    assert len(read("validate", tmp_path / "us.json")["warnings"]) == 1


def test_merge_and_diff(tmp_path: Path) -> None:
    a, b, both = (tmp_path / f"{name}.json" for name in ("a", "b", "both"))
    save_table(table(1.0), a)
    save_table(table(1.01, 2.0), b)
    assert read("merge", a, b, "--out", both) | {"name": "both", "operators": 2, "path": str(both)} == read(
        "merge", a, b, "--out", both
    )
    assert run("merge", a, b, "--out", both, "--tolerance", 0.001).exit_code == 2
    assert run("merge", a, b, "--out", both, "--tolerance", 0.001, "--conflicts", "newer").exit_code == 0
    assert load_table(both).name == "both"
    told = read("diff", a, b)
    assert (told["median_ratio"], len(told["shared"]), len(told["only_b"])) == (1.01, 1, 1)
    assert "1 operators in both, 0 only in A, 1 only in B; B / A is 1.010" in run("diff", a, b).stdout


def test_import(tmp_path: Path) -> None:
    source, out = tmp_path / "theirs.json", tmp_path / "ours.json"
    source.write_text('{"FC_Cin8_Cout2": 0.5}')
    assert read("import", source, "--format", "hw_nas_bench", "--out", out, "--estimate")["kind"] == "estimate"
    assert len(load_table(out).operators) == 1
    assert run("import", source, "--format", "mobile_vision", "--out", out).exit_code == 2


def test_predictor() -> None:
    words = ("predictor", "--csv", LATENCIES, *CIFAR, "--samples", 40, "--seeds", 1)
    told = read(*words, "--column", "gold_6226", "--column", "1080ti_1", "--prior", "fpga")
    assert told["priors"] == ["fpga"]
    assert set(told["predictors"]) == {"gold_6226", "1080ti_1"}
    assert told["predictors"]["gold_6226"]["mean_spearman"] > 0.8
    assert "gold_6226" in run(*words, "--column", "gold_6226").stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--column", "pixel3"), "if it is written as choices, name the search space: --space"),
        (("--column", "pixel3", "--space", "fbnet_96"), "no search space is named"),
        (("--column", "pixel3", "--space", "digits_tiny"), "does not match digits_tiny; expected"),
        (("--column", "pixel3", "--space", "fbnetv2_f"), "so digits cannot express them"),
        (("--column", "pixl3"), "no column 'pixl3'; did you mean 'pixel3'?"),
    ],
)
def test_networks_that_are_not_understood(words: tuple[str, ...], problem: str) -> None:
    result = run("validate", "pixel3", "--networks", LATENCIES, "--key", "choices", *words)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_correction_needs_networks(tmp_path: Path) -> None:
    assert "add --networks" in run("validate", "pixel3", "--out", tmp_path / "x.json").stderr
