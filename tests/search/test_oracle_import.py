"""Published tables of accuracies become the table that a search reads; a damaged or hostile file is refused."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.importers import TABLES, ImportedTable, import_table
from fbnet_zoo.search.oracle import read_oracle
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from tests.helpers.published_accuracies import (
    ACCEL_NASBENCH,
    known_networks,
    packed,
    published_archive,
    published_csv,
    published_results,
)

NAME = "accel-nasbench"
ADDED = ("train_s", "ms_per_image_tpuv9")
"""Costs of the published forms beside those of our rows: 1,234.5 s, and 2 ms for 500 images per second."""


def read(folder: Path, content: bytes | str, name: str = "anb.tar.gz") -> ImportedTable:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return import_table(NAME, path)


def cells(table: ImportedTable) -> list[dict[str, str]]:
    header, *rows = (line.split(",") for line in table.text.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


class TestForms:
    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("anb.tar.gz", lambda: published_archive(published_results(100))),
            ("anb.tar", lambda: gzip.decompress(published_archive(published_results(100)))),
            ("anb.csv", lambda: published_csv(100)),
            ("anb.csv", lambda: "\ufeff" + published_csv(100).replace("\n", "\r\n")),
        ],
        ids=["archive", "archive without compression", "CSV", "CSV of a spreadsheet"],
    )
    def test_figures_are_those_of_our_rows(self, tmp_path: Path, file: str, content: Callable[[], bytes | str]) -> None:
        table = read(tmp_path, content(), file)
        assert (table.space, table.networks, table.repeated) == ("accel_nasbench", 100, 0)
        assert set(table.columns) == {"params", "macs_thop", "latency_zcu102", *ADDED}
        found = cells(table)
        for row in found:
            assert [row.pop(name) for name in ADDED] == ["1234.5", "2"]
        assert found == known_networks()

    def test_unpacked_folder(self, tmp_path: Path) -> None:
        with tarfile.open(fileobj=io.BytesIO(published_archive(published_results(12)))) as archive:
            archive.extractall(tmp_path, filter="data")
        (tmp_path / "anb_dataset_jsons" / "notes.json").write_text("[]")
        table = import_table(NAME, tmp_path)
        assert table == read(tmp_path, published_archive(published_results(12)))

    def test_order_is_that_of_the_numbers(self, tmp_path: Path) -> None:
        names = [row["top1"] for row in known_networks()[:12]]
        assert [row["top1"] for row in cells(read(tmp_path, published_archive(published_results(12))))] == names

    def test_a_search_can_read_it(self, tmp_path: Path) -> None:
        table = read(tmp_path, published_csv(100), "published.csv")
        encoding = Encoding(load_space(table.space))
        (tmp_path / "known.csv").write_text(table.text)
        found, ours = read_oracle(tmp_path / "known.csv", encoding), read_oracle(ACCEL_NASBENCH, encoding)
        assert (found.candidates == ours.candidates).all()
        assert found.known == ours.known
        assert {name: found.columns[name] for name in ours.columns} == ours.columns

    def test_networks_that_were_trained_twice(self, tmp_path: Path) -> None:
        """Their mean; what only one of them has is kept."""
        results = published_results(3)
        again = json.loads(json.dumps(results[1]))
        again["metrics"] |= {"val_top1": results[1]["metrics"]["val_top1"] + 1, "train_time": 1235.5}
        again["platform_perf"]["latency_zcu102"]["latency_mean"] = None
        table = read(tmp_path, published_archive([*results, again]))
        assert (table.networks, table.repeated) == (3, 1)
        ours, row = known_networks()[1], cells(table)[1]
        assert float(row["top1"]) == pytest.approx(float(ours["top1"]) + 0.5)
        assert (row["train_s"], row["latency_zcu102"]) == ("1235", ours["latency_zcu102"])

    def test_figures_that_are_unknown(self, tmp_path: Path) -> None:
        results = published_results(3)
        results[1]["platform_perf"]["latency_zcu102"]["latency_mean"] = None
        for each in results:
            each["platform_perf"]["throughput_tpuv9"]["throughput_mean"] = None
        table = read(tmp_path, published_archive(results))
        assert [row["latency_zcu102"] == "" for row in cells(table)] == [False, True, False]
        assert table.columns == ("params", "macs_thop", "train_s", "latency_zcu102")

    def test_other_columns_of_a_csv_file_are_costs(self, tmp_path: Path) -> None:
        text = published_csv(3).replace("latency_zcu102", "energy_mj")
        assert "energy_mj" in read(tmp_path, text, "anb.csv").columns

    def test_the_registry(self) -> None:
        for entry in TABLES.values():
            assert load_space(entry.space).name == entry.space
            assert "http" in entry.credit
        with pytest.raises(InputError, match=r"no published table is named 'accel_nasbench'; did you mean 'accel-nasb"):
            import_table("accel_nasbench", ACCEL_NASBENCH)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return an archive of four results, of which the third is changed."""
    results = published_results(4)
    change(results[2])
    return published_archive(results)


class TestMistakesInTheArchive:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda each: each.pop("metrics"), r"metrics: Field required"),
            (lambda each: each["metrics"].update(val_top1=101.0), r"metrics\.val_top1: Input should be less than"),
            (lambda each: each["metrics"].update(val_top1=None), r"metrics\.val_top1: Input should be a valid number"),
            (lambda each: each["metrics"].update(val_top1=float("nan")), r"metrics\.val_top1: cannot be nan"),
            (
                lambda each: each["metrics"].update(train_time=-1.0),
                r"train_s cannot be -1; expected a number that is not",
            ),
            (lambda each: each["model_info"].update(params="5"), r"model_info\.params: Input should be a valid number"),
            (lambda each: each["model_info"].update(params=1e305), r"params cannot be inf; expected a number"),
            (lambda each: each["architecture"].pop("block6_k"), r"block6_k is missing; add it, or remove the network"),
            (lambda each: each["architecture"].update(block0_k=7), r"block0_k cannot be 7; expected 3 or 5"),
            (lambda each: each["architecture"].update(block3_se=2), r"block3_se cannot be 2; expected 0 or 1"),
            (lambda each: each["architecture"].update(block1_l=0), r"block1_l cannot be 0; expected 1, 2, 3 or 4"),
            (lambda each: each["architecture"].update(block7_k=3), r"architecture: unknown key 'block7_k'"),
            (lambda each: each["platform_perf"].update(energy_x={}), r"platform_perf\.energy_x: expected a latency or"),
            (
                lambda each: each["platform_perf"].update(latency_x={}),
                r"platform_perf\.latency_x: expected a latency or",
            ),
            (
                lambda each: each["platform_perf"]["throughput_tpuv9"].update(throughput_mean=0.0),
                r"throughput_tpuv9 cannot be 0; expected images per second",
            ),
            (
                lambda each: each["platform_perf"].update({"latency_A 1": {"latency_mean": 1.0}}),
                r"the column 'latency_A 1' is neither a decision nor a cost",
            ),
        ],
    )
    def test_are_told_with_file_and_key(
        self, tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
    ) -> None:
        with pytest.raises(InputError, match=rf"anb\.tar\.gz: result_2\.json: {told}"):
            read(tmp_path, changed(change))

    @pytest.mark.parametrize("content", [b"[]", b"{", b"\xff"])
    def test_text_that_is_no_result(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InputError, match=r"anb\.tar\.gz: result_0\.json:.* expected a result of Accel-NASBench"):
            read(tmp_path, packed({"result_0.json": content}))

    def test_archive_of_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"has no file result_N\.json; expected anb_dataset_jsons\.tar\.gz"):
            read(tmp_path, packed({"a.json": b"{}", "._result_1.json": b"{}"}))
        with pytest.raises(InputError, match=r"anb\.tar\.gz is damaged and cannot be unpacked"):
            read(tmp_path, gzip.compress(b""))
        with pytest.raises(InputError, match=r"has no file result_N\.json"):
            import_table(NAME, tmp_path)

    @pytest.mark.parametrize("cut", [0.3, 0.7, 0.99])
    def test_archive_that_is_cut_off(self, tmp_path: Path, cut: float) -> None:
        content = published_archive(published_results(9))
        with pytest.raises(
            InputError, match=r"anb\.tar\.gz is damaged and cannot be unpacked; expected anb_dataset_jsons"
        ):
            read(tmp_path, content[: int(cut * len(content))])

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none: cannot be read: No such file or directory; expected anb_dataset"):
            import_table(NAME, tmp_path / "none")


class TestHostileArchives:
    def test_names_lead_nowhere(self, tmp_path: Path) -> None:
        """Nothing is written, whatever the names of the files are."""
        content = json.dumps(published_results(1)[0]).encode()
        (tmp_path / "in").mkdir()
        table = read(tmp_path / "in", packed({"../../result_1.json": content, "/tmp/result_2.json": content}))
        assert (table.networks, table.repeated) == (1, 1)
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["anb.tar.gz", "in"]

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    def test_what_is_not_a_plain_file(self, tmp_path: Path, kind: bytes) -> None:
        other = tarfile.TarInfo("result_7.json")
        other.type, other.linkname = kind, "/etc/passwd"
        with pytest.raises(InputError, match=r"'result_7\.json' is not a plain file"):
            read(tmp_path, packed({}, other))

    def test_content_that_is_much_larger_than_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, "file_bytes=100000")
        content = packed({"result_0.json": b" " * 10_000_000})
        assert len(content) < 20_000
        with pytest.raises(InputError, match=r"anb\.tar\.gz, unpacked, has at least 100,001 bytes; expected at most"):
            read(tmp_path, content)

    def test_sparse_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A header may claim any size without that many bytes behind it."""
        monkeypatch.setenv(limits.VARIABLE, "file_bytes=100000")
        other = tarfile.TarInfo("result_0.json")
        other.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100000000"}
        with pytest.raises(InputError, match=r"the files in .* have at least 100,000,000 bytes|is damaged"):
            read(tmp_path, packed({}, other))

    def test_too_many_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(limits.VARIABLE, "rows=5")
        with pytest.raises(InputError, match=r"anb\.tar\.gz has at least 6 rows; expected at most 5"):
            read(tmp_path, published_archive(published_results(9)))


class TestMistakesInCsvFiles:
    @pytest.mark.parametrize(
        ("right", "wrong", "told"),
        [
            ("block2_l", "block2_x", r"1: missing column 'block2_l'; did you mean"),
            ("top1", "accuracy", r"1: missing column 'top1'"),
            ("latency_zcu102", "block7_e", r"1: unknown column 'block7_e'; expected block0_e to block6_se"),
            ("latency_zcu102", "Latency", r"2: the column 'Latency' is neither a decision nor a cost"),
            ("train_s", "params_m", r"1: duplicate column 'params_m'; keep one"),
            (",60.218002,", ",160.218,", r"2: top1 cannot be 160\.218; expected percent, from 0 to 100"),
            (",60.218002,", ",,", r"2: top1 is missing; add it, or remove the network"),
            (",60.218002,", ",x,", r"2: top1 cannot be 'x'; expected a number, or nothing where it is unknown"),
            (",9.95439,", ",-9.9,", r"2: latency_zcu102 cannot be -9\.9; expected a number that is not negative"),
            (",9.95439,", ",inf,", r"2: latency_zcu102 cannot be 'inf'; expected a number, or nothing"),
            (",9.95439,500.0", "", r"2: latency_zcu102 cannot be None; expected a number, or nothing"),
        ],
    )
    def test_are_told_with_line_and_column(self, tmp_path: Path, right: str, wrong: str, told: str) -> None:
        text = published_csv(3)
        assert text.count(right)
        with pytest.raises(InputError, match=rf"anb\.csv:{told}"):
            read(tmp_path, text.replace(right, wrong, 1), "anb.csv")

    def test_file_of_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"anb\.csv:1: missing column 'block0_k'; expected anb_dataset_jsons"):
            read(tmp_path, "a,b\n1,2\n", "anb.csv")
        with pytest.raises(InputError, match=r"anb\.csv has no networks; expected Accel-NASBench"):
            read(tmp_path, published_csv(1).splitlines()[0], "anb.csv")
