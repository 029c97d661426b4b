"""The record that lies beside every converted file."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Literal, Self

from pydantic import ValidationError

import fbnet_zoo
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.converters.parity import CaseResult, ParityReport, Tolerances
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import PreprocessSpec, Record

_CHUNK = 1 << 20


class FileRecord(Record):
    """A file, or a folder taken as one.

    Attributes:
        file: its name, without the folder.
        size: bytes.
        sha256: of the file; of a folder, of the lines `<sha256>  <relative path>` of its files in sorted order.
    """

    file: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Measure a file or folder."""
        if not path.is_dir():
            return cls(file=path.name, size=path.stat().st_size, sha256=_digest(path))
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = sorted(f"{_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        total = sum(file.stat().st_size for file in files)
        return cls(file=path.name, size=total, sha256=hashlib.sha256("".join(lines).encode()).hexdigest())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class TensorRecord(Record):
    """An input or output of the file; a size that is free has a name.

    Attributes:
        layout: letters of the axes, or `image` for an input that takes 8-bit images.
        channel_order: of an image; a tensor says it too.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: Literal["float32", "uint8", "string"]
    layout: str
    channel_order: Literal["rgb", "bgr", "grey"] | None = None


class ParityRecord(Record):
    """How the file compares with the model, or why that was not tried.

    Attributes:
        checked: whether the file was run and compared.
        reason: why not.
        runtime: what ran it.
        tolerances: what was demanded.
        worst: the worst figure of each kind.
        cases: all of them.
    """

    checked: bool
    reason: str | None = None
    runtime: str | None = None
    tolerances: Tolerances | None = None
    worst: CaseResult | None = None
    cases: tuple[CaseResult, ...] = ()

    @classmethod
    def of(cls, report: ParityReport) -> Self:
        """Write a report down."""
        return cls(
            checked=True,
            runtime=report.runtime,
            tolerances=report.tolerances,
            worst=report.worst,
            cases=report.cases,
        )


class LayerSqnr(Record):
    """How far a layer's output in a quantized network is from the original's, dB."""

    name: str
    sqnr_db: float


class QuantizationRecord(Record):
    """How a file was quantized, and what that did to its answers on real images.

    Attributes:
        scheme: what was quantized and how, in words.
        calibration: where the images for the ranges are from, in words.
        images: how many these were.
        kept: layers in a higher precision.
        layers: outputs of the layers compared with the float network's, in order.
        layers_from: what computed them: the file itself in its runtime, or a simulation.
        evaluated: images of the comparison below.
        sqnr_db: of all logits together.
        top1_agreement: share of the images with the same best class.
        threshold: smallest share that is not called degraded.
        fp32_top1: accuracy of the float network, percent, where the images have labels.
        top1: likewise of the file.
        degraded: the agreement is below the threshold.
    """

    scheme: str
    calibration: str
    images: int
    kept: tuple[str, ...] = ()
    layers: tuple[LayerSqnr, ...] = ()
    layers_from: str | None = None
    evaluated: int
    sqnr_db: float
    top1_agreement: float
    threshold: float
    fp32_top1: float | None = None
    top1: float | None = None
    degraded: bool


class Manifest(Record):
    """All that is known about one converted file.

    Attributes:
        format: version of this record.
        model: name of the definition.
        weights: where the parameters come from: a tag, a path or a seed.
        license: of the weights.
        created: UTC, ISO 8601.
        file: the file itself.
        companions: files written along with it.
        preprocess: how an image becomes the input.
        quantization: of a file with fewer than 16 bits.
        facts: what the target's writer tells of the file.
        versions: of Python and of the libraries that made it.
    """

    format: Literal[1] = 1
    model: str
    target: str
    precision: Precision
    weights: str | None
    license: str | None
    created: str
    file: FileRecord
    companions: tuple[FileRecord, ...]
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    preprocess: PreprocessSpec
    parity: ParityRecord
    quantization: QuantizationRecord | None = None
    facts: dict[str, Any]
    versions: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        write_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record back.

        Raises:
            InputError: it cannot be read, or is no manifest.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(f"{path}: not a manifest of this version of fbnet_zoo ({error})") from error


def now() -> str:
    """Return the time as manifests say it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, this package, PyTorch and the given libraries."""
    installed = {library: version(library) for library in ("torch", *libraries)}
    return {"python": python_version(), "fbnet_zoo": fbnet_zoo.__version__, **installed}
