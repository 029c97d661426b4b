"""`fbnet-zoo oracle`, and a search in what it imports."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fbnet_zoo.cli.app import app
from fbnet_zoo.search.importers import TABLES
from fbnet_zoo.search.record import SearchRecord, load_record
from tests.helpers.paths import ROOT
from tests.helpers.published_accuracies import (
    ACCEL_NASBENCH,
    known_networks,
    published_archive,
    published_csv,
    published_results,
)

IMPORT = ("oracle", "import", "accel-nasbench")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "anb_dataset_jsons.tar.gz"
    path.write_bytes(published_archive(published_results(40)))
    return path


class TestImport:
    def test_prints_or_writes_the_table(self, archive: Path, tmp_path: Path) -> None:
        printed, out = run(*IMPORT, archive), tmp_path / "anb.csv"
        written = run(*IMPORT, archive, "--out", out)
        assert (printed.exit_code, written.exit_code) == (0, 0)
        assert (printed.stderr, written.stdout) == ("", "")
        assert out.read_text() == printed.stdout
        rows = list(csv.DictReader(printed.stdout.splitlines()))
        assert [row["top1"] for row in rows] == [row["top1"] for row in known_networks()[:40]]
        told = f"wrote {out}: 40 networks of accel_nasbench; Accel-NASBench, https://github.com/afzalxo/Accel-NASBench"
        assert told in written.stderr

    def test_as_json(self, tmp_path: Path) -> None:
        results = published_results(3)
        (tmp_path / "anb.tar.gz").write_bytes(published_archive([*results, results[0]]))
        result = run(*IMPORT, tmp_path / "anb.tar.gz", "--out", tmp_path / "anb.csv", "--json")
        told = json.loads(result.stdout)
        assert (told["space"], told["networks"], told["repeated"]) == ("accel_nasbench", 3, 1)
        assert told["costs"] == ["params", "macs_thop", "train_s", "latency_zcu102", "ms_per_image_tpuv9"]
        assert (told["credit"], told["file"]) == (TABLES["accel-nasbench"].credit, str(tmp_path / "anb.csv"))
        assert "3 networks of accel_nasbench, 1 of them published several times: the mean" in result.stderr

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("import", "nasbench", "a.csv"), "no published table is named 'nasbench'; "),
            (("import", "accel-nasbench", "none.tar.gz"), "none.tar.gz: cannot be read: No such file or directory; "),
            (("import", "accel-nasbench", "a.csv", "--out", "a.txt"), "--out cannot be a.txt; expected a .csv file"),
            (("import", "accel-nasbench", "a.csv", "--out", "a.csv"), "--out a.csv is the file that is read; "),
            (("import", "accel-nasbench", "a.csv"), "a.csv:2: block0_k cannot be 4; expected 3 or 5"),
            (("show", "a.csv", "--space", "accel_nasbench"), "a.csv:1: missing column 'stages.2.0'"),
            (("show", "a.csv", "--space", "accel"), "no search space is named 'accel'; "),
        ],
    )
    def test_mistakes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str) -> None:
        monkeypatch.chdir(tmp_path)
        lines = [line.split(",") for line in published_csv(2).splitlines()]
        lines[1][lines[0].index("block0_k")] = "4"
        Path("a.csv").write_text("\n".join(map(",".join, lines)))
        result = run("oracle", *words)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {told}")
        assert result.stderr.count("\n") == 1
        assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}


class TestShow:
    def columns(self, *words: object) -> dict[str, Any]:
        result = run("oracle", "show", *words, "--space", "accel_nasbench", "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["columns"]

    def test_ranges(self) -> None:
        found, rows = self.columns(ACCEL_NASBENCH), known_networks()
        assert list(found) == ["top1", "params", "macs_thop", "latency_zcu102"]
        for name, facts in found.items():
            values = sorted(float(row[name]) for row in rows)
            assert (facts["lowest"], facts["highest"], facts["unknown"]) == (values[0], values[-1], 0)
            assert facts["median"] == (values[49] + values[50]) / 2
        assert found["top1"]["spearman"] == pytest.approx(1)
        assert 0.5 < found["macs_thop"]["spearman"] < found["params"]["spearman"] < 1

    def test_unknown_costs(self, tmp_path: Path) -> None:
        text = ACCEL_NASBENCH.read_text().replace(",9.95439\n", ",\n")
        (tmp_path / "known.csv").write_text(text)
        assert self.columns(tmp_path / "known.csv")["latency_zcu102"]["unknown"] == 1

    def test_page(self) -> None:
        shown = run("oracle", "show", ACCEL_NASBENCH, "--space", "accel_nasbench").stdout
        assert "accel_nasbench.csv: 100 networks of accel_nasbench" in shown
        assert re.search(r"^latency_zcu102 +[\d.]+ +[\d.]+ +[\d.]+ +0 +0\.\d{3}$", shown, re.MULTILINE)


class TestSearch:
    """In the published accuracies: with limits on columns, of which some are not known of every network."""

    def found(self, folder: Path, method: str, *words: object) -> SearchRecord:
        table = folder / "known.csv"
        text = ACCEL_NASBENCH.read_text()
        table.write_text(text.replace(",9.95439\n", ",\n").replace(",8.19461\n", ",\n"))
        assert table.read_text().count(",\n") == 2
        base = ("search", "--space", "accel_nasbench", "--oracle", table, "--device", "cpu", "--method", method)
        result = run(*base, *words, "--out", folder / "run", "--json")
        assert result.exit_code == 0, result.stderr
        return load_record(folder / "run" / "search.json")

    @pytest.mark.parametrize("method", ["random", "evolution"])
    def test_limits(self, tmp_path: Path, method: str) -> None:
        (tmp_path / "s.yaml").write_text("population: 10\nsample: 4\n" if method == "evolution" else "{}\n")
        limits = ("--limit", "latency_zcu102=8", "--limit", "macs=350M")
        record = self.found(tmp_path, method, "--config", tmp_path / "s.yaml", "--budget", 25, *limits)
        rows = {row["latency_zcu102"]: row for row in known_networks()}
        assert len(record.networks) == 25
        for network in record.networks:
            row = rows[f"{network.costs['latency_zcu102']:g}"]
            assert network.top1 == float(row["top1"])
            assert (network.costs["params"], network.costs["macs_thop"]) == (int(row["params"]), int(row["macs_thop"]))
            assert network.costs["latency_zcu102"] <= 8
            assert network.costs["macs"] <= 350e6

    def test_without_a_limit_the_column_is_left_out(self, tmp_path: Path) -> None:
        record = self.found(tmp_path, "random", "--budget", 100)
        assert len(record.networks) == 100
        assert {metric.name for metric in record.metrics} == {"macs", "params", "macs_thop"}
        assert record.best.top1 == max(float(row["top1"]) for row in known_networks())


def test_documents_name_every_published_table() -> None:
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert all(f"fbnet-zoo oracle import {name} " in page for name in TABLES)
