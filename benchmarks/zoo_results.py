"""Results for every converted file of the zoo: one JSON line each, written by `zoo_report.py`, shown in the docs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.converters.targets import runtimes_on
from fbnet_zoo.latency.device import Count, Milliseconds, Threads
from fbnet_zoo.reading import parse_record, read_lines
from fbnet_zoo.spec import Record

RESULTS = Path(__file__).parent / "results" / "zoo.jsonl"
FORMATS = ("onnx", "coreml", "executorch")
TIMED = tuple(target for target in FORMATS if target in runtimes_on("host"))
"""Formats with a native runtime on every host; outside macOS, Core ML files are only interpreted."""

LEFT_OUT = {"fbnetv3_20g": "20 G multiply-accumulates, a reference for servers: lowering it takes over an hour"}


class Latency(Record):
    """Latency of a file at batch size 1.

    Attributes:
        median_ms: median over the runs.
        low_ms: lower end of the median's 95 % confidence interval.
        high_ms: upper end of the same interval.
        runtime: runtime that ran the file.
        device: processor and number of cores.
        versions: package name to version, for the runtime and every library used.
    """

    median_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds
    runs: Count
    threads: Threads
    runtime: str
    device: str
    versions: dict[str, str]
    date: AwareDatetime


class ZooResult(Record):
    """One network in one format and precision: figures of its file, or the reason why the conversion failed.

    Attributes:
        failed: reason why the conversion failed.
        weights: weights that were converted.
        size: file size, bytes.
        snr_db: lowest signal-to-noise ratio of the logits against PyTorch, over all cases.
        max_error: largest error of a logit, relative to the largest logit.
        top1_agreement: fraction of images with the same top-1 class; for int8 files, on the evaluation images.
        cases: names of the images compared.
        checked_by: runtime that ran the file for the comparison.
        subgraphs: number of delegated subgraphs.
        delegated: number of delegated operators.
        left: undelegated operators, type to count.
        kept: number of layers of a quantized network kept in a higher precision.
        degraded: whether quantization degraded the predictions beyond the limit.
        latency: latency on the converting machine; `None` if it has no native runtime for the format.
        versions: package name to version, for every library used.
    """

    format: Literal[1] = 1
    model: str
    target: str
    precision: Precision
    failed: str | None = None
    weights: str | None = None
    size: Annotated[int, Field(ge=1)] | None = None
    snr_db: float | None = None
    max_error: float | None = None
    top1_agreement: float | None = None
    cases: tuple[str, ...] = ()
    checked_by: str | None = None
    subgraphs: int | None = None
    delegated: int | None = None
    left: dict[str, int] = Field(default_factory=dict)
    kept: int = 0
    degraded: bool = False
    latency: Latency | None = None
    versions: dict[str, str]
    date: AwareDatetime

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, target and precision, which identify a result."""
        return self.model, self.target, self.precision


def read(path: Path) -> dict[tuple[str, str, str], ZooResult]:
    """Return the results in a file by key; an empty dict if the file does not exist.

    Raises:
        InputError: a line is not a result of this version.
    """
    if not path.exists():
        return {}
    results = {}
    expected = "results, one JSON object per line"
    for number, line in read_lines(path, expected):
        result = parse_record(ZooResult, line, f"{path}:{number}: not a result of this version", expected)
        results[result.key] = result
    return results


def write(path: Path, results: Iterable[ZooResult]) -> None:
    """Replace the content of a file by results, sorted by model, format and precision."""
    lines = [result.model_dump_json(exclude_defaults=True) for result in sorted(results, key=lambda each: each.key)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{line}\n" for line in lines))
