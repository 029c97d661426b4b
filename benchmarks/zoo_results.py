"""What is known of every file of the zoo: one JSON line each, written by `zoo_report.py`, shown by the docs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import Count, Milliseconds
from fbnet_zoo.spec import Record

RESULTS = Path(__file__).parent / "results" / "zoo.jsonl"
FORMATS = ("onnx", "coreml", "executorch")
TIMED = ("onnx", "executorch")
"""What this machine runs at speed; Core ML files are evaluated off macOS, not run."""

LEFT_OUT = {"fbnetv3_20g": "20 G multiply-accumulates, a reference for servers: lowering it takes over an hour"}


class Latency(Record):
    """How long a file takes, batch 1.

    Attributes:
        median_ms: of the runs.
        low_ms: lower end of the 95 % interval of the median.
        high_ms: upper end.
        runtime: what ran it.
        device: processor.
        versions: of the runtime among others.
    """

    median_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds
    runs: Count
    threads: Count
    runtime: str
    device: str
    versions: dict[str, str]
    date: AwareDatetime


class ZooResult(Record):
    """One network in one format and precision: its file, or why there is none.

    Attributes:
        failed: why there is no file.
        weights: what it was converted with.
        size: bytes; of the file alone.
        snr_db: of the logits against PyTorch's, the worst case.
        max_error: of a logit, as a share of the largest.
        top1_agreement: share of images with the same best class; of an int8 file, on the images of its evaluation.
        cases: images that it was compared on.
        checked_by: what ran the file for that.
        subgraphs: of a delegate.
        delegated: operators that it took.
        left: operators that it did not take, and how many of each.
        kept: how many layers of a quantized network stay in a higher precision.
        degraded: a quantized file that has lost the network's answers.
        latency: on the machine that made the file; `None` where nothing there runs the format at speed.
        versions: of what made the file.
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
        """What there is one result of."""
        return self.model, self.target, self.precision


def read(path: Path) -> dict[tuple[str, str, str], ZooResult]:
    """Return the results of a file by their keys; nothing if there is no file.

    Raises:
        InputError: a line is no result of this version.
    """
    if not path.exists():
        return {}
    results = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            result = ZooResult.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{path}:{number}: not a result of this version: {error.errors()[0]['msg']}") from error
        results[result.key] = result
    return results


def write(path: Path, results: Iterable[ZooResult]) -> None:
    """Write results sorted by model, format and precision, in place of what the file held."""
    lines = [result.model_dump_json(exclude_defaults=True) for result in sorted(results, key=lambda each: each.key)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{line}\n" for line in lines))
