"""Accuracies of 100 networks of Accel-NASBench: in our form, and in the forms that others published them in."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from tests.helpers.paths import DATA

ACCEL_NASBENCH = DATA / "accel_nasbench.csv"
LAYERS = ("2.0", "4.0", "8.0", "16.0", "16.1", "32.0", "32.1")


def known_networks() -> list[dict[str, str]]:
    """Return the rows of the table in our form."""
    with ACCEL_NASBENCH.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published_results(count: int) -> list[dict[str, Any]]:
    """Return the first networks as the contents of the published files; they have more devices than our rows."""
    return [_result(row) for row in known_networks()[:count]]


def _result(row: Mapping[str, str]) -> dict[str, Any]:
    architecture: dict[str, int | bool] = {}
    for at, layer in enumerate(LAYERS):
        architecture[f"block{at}_e"] = int(row[f"stages.{layer} e"])
        architecture[f"block{at}_k"] = int(row[f"stages.{layer}"].removeprefix("k"))
        architecture[f"block{at}_l"] = int(row[f"stages.{layer} r"])
        architecture[f"block{at}_se"] = row[f"stages.{layer} se"] != "0"
    return {
        "architecture": architecture,
        "metrics": {"val_top1": float(row["top1"]), "val_top5": 80.5, "train_time": 1234.5},
        "model_info": {"macs": int(row["macs_thop"]) / 1e6, "params": int(row["params"]) / 1e6},
        "platform_perf": {
            "latency_zcu102": {"latency_mean": float(row["latency_zcu102"]), "latency_std": None},
            "throughput_tpuv9": {"throughput_mean": 500.0, "throughput_std": 1.5},
        },
    }


def published_archive(results: list[dict[str, Any]]) -> bytes:
    """Return results as the published archive."""
    files = {f"./anb_dataset_jsons/result_{at}.json": json.dumps(each).encode() for at, each in enumerate(results)}
    return packed(files)


def packed(files: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """Return files as a compressed archive, in a folder like the published one, the last one first."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        folder = tarfile.TarInfo("./anb_dataset_jsons/")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in reversed(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for other in others:
            archive.addfile(other)
    return gzip.compress(plain.getvalue(), mtime=0)


def published_csv(count: int) -> str:
    """Return the first networks as CSV, with the columns that the figures have in it."""
    text = io.StringIO()
    for at, result in enumerate(published_results(count)):
        chosen = {name: int(value) for name, value in result["architecture"].items()}
        info, metrics = result["model_info"], result["metrics"]
        measured = {name: each[f"{name.split('_')[0]}_mean"] for name, each in result["platform_perf"].items()}
        figures = {"top1": metrics["val_top1"], "top5": metrics["val_top5"], "train_s": metrics["train_time"]}
        row = {"id": at, **chosen, **figures, "macs_m_thop": info["macs"], "params_m": info["params"], **measured}
        if not at:
            writer = csv.DictWriter(text, row, lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()
