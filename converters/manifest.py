"""The manifest that is written beside every converted file."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator

import fbnet_zoo
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.converters.artifact import Backend, Precision
from fbnet_zoo.converters.parity import LIMIT_DB, CaseResult, ParityReport, Tolerances
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import FileName, parse_record, read_text
from fbnet_zoo.spec import Percent, PreprocessSpec, Record

_EXPECTED = "the manifest of a converted file"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Decibels = Annotated[float, Field(ge=-LIMIT_DB, le=LIMIT_DB)]
Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]


class FileRecord(Record):
    """Name, size and digest of a file, or of a folder as a whole.

    Attributes:
        file: file name, without the folder.
        size: size, bytes.
        sha256: digest of the file; for a folder, of the sorted lines `<sha256>  <relative path>` of its files.
    """

    file: FileName
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the record of a file or folder."""
        if not path.is_dir():
            return cls(file=path.name, size=path.stat().st_size, sha256=file_digest(path))
        files = [file for file in path.rglob("*") if file.is_file()]
        lines = sorted(f"{file_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        total = sum(file.stat().st_size for file in files)
        return cls(file=path.name, size=total, sha256=hashlib.sha256("".join(lines).encode()).hexdigest())


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TensorRecord(Record):
    """An input or output of the file.

    Attributes:
        shape: size of each axis; a name, such as `batch`, where the size is dynamic.
        layout: letters of the axes, or `image` for an input that accepts 8-bit images.
        channel_order: order of the color channels, of images and of tensors.
    """

    name: str
    shape: tuple[Annotated[int, Field(ge=1)] | str, ...]
    dtype: Literal["float32", "uint8", "string"]
    layout: str
    channel_order: Literal["rgb", "bgr", "grey"] | None = None


class ParityRecord(Record):
    """Result of the parity check, or why there was none.

    Attributes:
        checked: whether the file was run and compared with the model.
        reason: reason if not checked.
        runtime: name and version of the runtime.
        tolerances: tolerances applied.
        worst: worst value of each metric over all cases.
        cases: result of each case.
    """

    checked: bool
    reason: str | None = None
    runtime: str | None = None
    tolerances: Tolerances | None = None
    worst: CaseResult | None = None
    cases: tuple[CaseResult, ...] = ()

    @classmethod
    def of(cls, report: ParityReport) -> Self:
        """Return the record of a report."""
        return cls(
            checked=True,
            runtime=report.runtime,
            tolerances=report.tolerances,
            worst=report.worst,
            cases=report.cases,
        )


class LayerSqnr(Record):
    """Signal-to-quantization-noise ratio of a layer's output, dB."""

    name: str
    sqnr_db: Decibels


class QuantizationRecord(Record):
    """How a file was quantized, and the effect on its predictions for real images.

    Attributes:
        scheme: quantization scheme, in words.
        calibration: source of the calibration images, in words.
        images: number of calibration images.
        kept: layers in a higher precision.
        layers: error of each layer's output relative to the float network, in order.
        layers_from: runtime that computed the layers' outputs: the file's own, or a simulation.
        evaluated: number of evaluation images, to which the values below refer.
        sqnr_db: signal-to-quantization-noise ratio of all logits together, dB.
        top1_agreement: share of images with the same top-1 class as the float network.
        threshold: minimum agreement of a file that is not degraded.
        fp32_top1: top-1 accuracy of the float network, percent, if the images have labels.
        top1: top-1 accuracy of the file, percent, if the images have labels.
        degraded: whether the agreement is below the threshold.
    """

    scheme: str
    calibration: str
    images: _Count
    kept: tuple[str, ...] = ()
    layers: tuple[LayerSqnr, ...] = ()
    layers_from: str | None = None
    evaluated: _Count
    sqnr_db: Decibels
    top1_agreement: Share
    threshold: Share
    fp32_top1: Percent | None = None
    top1: Percent | None = None
    degraded: bool


class Manifest(Record):
    """The manifest of a converted file.

    Attributes:
        format: version of the manifest format.
        model: name of the definition.
        weights: source of the weights: a tag, a path or a seed.
        license: license of the weights.
        class_names: names of the classes by index, if known.
        created: date and time of creation, UTC, ISO 8601.
        file: the file itself.
        companions: files written along with it.
        preprocess: preprocessing of the input.
        quantization: quantization of a file with fewer than 16 bits, else `None`.
        facts: target-specific entries, as returned by the target's writer.
        versions: package name to version, for Python and every library used.
    """

    format: Literal[1] = 1
    model: str
    target: str
    precision: Precision
    weights: str | None
    license: str | None
    class_names: tuple[str, ...] | None = None
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

    @field_validator("target")
    @classmethod
    def _check_target(cls, name: str) -> str:
        if name not in TARGETS:
            hint = did_you_mean(name, TARGETS) or f"; expected {' or '.join(TARGETS)}"
            raise InputError(f"there is no target {name!r}{hint}")
        return name

    @field_validator("facts")
    @classmethod
    def _check_backend(cls, facts: dict[str, Any]) -> dict[str, Any]:
        known = get_args(Backend)
        if facts.get("backend") not in {None, *known}:
            raise InputError(f"'backend' cannot be {facts['backend']!r}; expected {' or '.join(known)}")
        return facts

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        write_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a manifest.

        Raises:
            InputError: it cannot be read, or is not a manifest.
        """
        text = read_text(path, _EXPECTED)
        return parse_record(cls, text, f"{path}: not a manifest of this version of fbnet_zoo", _EXPECTED)


def now() -> str:
    """Return the current time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, this package, PyTorch and the given libraries."""
    installed = {library: version(library) for library in ("torch", *libraries)}
    return {"python": python_version(), "fbnet_zoo": fbnet_zoo.__version__, **installed}
