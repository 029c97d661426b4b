"""`manifest.json` of a bundle: its contents, and the digest of every file, including its own."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.converters.manifest import Manifest, Sha256, file_digest
from fbnet_zoo.converters.parity import CaseResult
from fbnet_zoo.deploy.platforms import PLATFORMS
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.latency.device import Milliseconds
from fbnet_zoo.reading import FileName, InnerPath, decode, parse_record, read_bytes
from fbnet_zoo.spec import Positive, Record

NAME = "manifest.json"

_UNSEALED = "0" * 64

_EXPECTED = "the folder of a bundle"


class FileEntry(Record):
    """Size in bytes and digest of one file of a bundle."""

    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Variant(Record):
    """One precision that `auto` tried.

    Attributes:
        size: size of the file, bytes; `None` if there is no file.
        p50_ms: median latency of all runs.
        ratio: ratio of its latency to that of the chosen variant, and the bounds of the 95 % interval.
        dropped: why it was dropped or not chosen; `None` for the chosen variant.
    """

    precision: str
    size: Annotated[int, Field(ge=0)] | None = None
    p50_ms: Milliseconds | None = None
    ratio: tuple[Positive, Positive, Positive] | None = None
    dropped: str | None = None

    def describe(self) -> str:
        """Return size, latency and outcome in one line."""
        size = f"{self.size / 1e6:.2f} MB" if self.size is not None else None
        timed = f"{self.p50_ms:.2f} ms" if self.p50_ms is not None else None
        return ", ".join(part for part in (size, timed, self.dropped or "chosen") if part)


class Choice(Record):
    """How `auto` chose a precision.

    Attributes:
        device: device on which the variants were timed; `None` if they were not.
        threads: number of threads of the timed runs.
        reason: reason for the choice, in words.
    """

    chosen: str
    device: str | None = None
    threads: int | None = None
    variants: tuple[Variant, ...]
    reason: str


class Deployed(Record):
    """The network for one platform.

    Attributes:
        platform: name of the platform.
        path: path of the file or folder in the bundle.
        snippets: files with code that runs it.
        manifest: manifest of the file.
        on_reference: comparison of its logits with `reference.safetensors`.
        choice: how its precision was chosen, if it was `auto`.
    """

    platform: str
    path: InnerPath
    snippets: tuple[FileName, ...]
    manifest: Manifest
    on_reference: CaseResult
    choice: Choice | None = None

    @field_validator("platform")
    @classmethod
    def _check_platform(cls, name: str) -> str:
        if name not in PLATFORMS:
            hint = did_you_mean(name, PLATFORMS) or f"; expected {' or '.join(PLATFORMS)}"
            raise InputError(f"there is no platform {name!r}{hint}")
        return name

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        expected = PLATFORMS[self.platform].target
        if self.manifest.target != expected:
            raise InputError(
                f"{self.platform} cannot have the target {self.manifest.target!r}; expected {expected}",
                location=("manifest", "target"),
            )
        return self

    @property
    def worst(self) -> CaseResult:
        """The metrics of the parity check, each of the worst image."""
        return self.manifest.parity.worst or self.on_reference

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio of the scores: of the worst image, or of all evaluation images of a quantized file."""
        quantized = self.manifest.quantization
        return quantized.sqnr_db if quantized else self.worst.snr_db

    @property
    def top1_agreement(self) -> float:
        """Share of images with the same top-1 class."""
        quantized = self.manifest.quantization
        return quantized.top1_agreement if quantized else self.worst.top1_agreement


class Bundle(Record):
    """The manifest of a bundle.

    Attributes:
        format: version of the manifest format.
        sha256: digest of the manifest's text, with zeros in place of the digest itself.
        created: date and time of creation, UTC, ISO 8601.
        labels: source of the class names, in words.
        deployed: the network for each platform.
        notes: important notes for users of the bundle, one sentence each.
        versions: package name to version, for Python and every library used.
        files: every other file, by its POSIX path in the bundle.
    """

    format: Literal[1] = 1
    sha256: Sha256 = _UNSEALED
    model: str
    weights: str | None
    license: str | None
    created: str
    labels: str
    deployed: Annotated[tuple[Deployed, ...], Field(min_length=1)]
    notes: tuple[str, ...] = ()
    versions: dict[str, str]
    files: dict[InnerPath, FileEntry]

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        """Refuse a network, or a snippet beside it, that is not one of the files, whose digests are checked."""
        for index, each in enumerate(self.deployed):
            folder = each.path.rpartition("/")[0]
            snippets = [f"{folder}/{name}" if folder else name for name in each.snippets]
            for key, path in (("path", each.path), *(("snippets", path) for path in snippets)):
                if path not in self.files and not any(name.startswith(f"{path}/") for name in self.files):
                    raise InputError(f"{path!r} is not one of the bundle's files", location=("deployed", index, key))
        return self

    def save(self, folder: Path) -> None:
        """Write the manifest, with its own digest, into the folder of the bundle."""
        text = self.model_copy(update={"sha256": _UNSEALED}).model_dump_json(indent=2) + "\n"
        sealed = text.replace(_UNSEALED, hashlib.sha256(text.encode()).hexdigest(), 1)
        write_atomically(folder / NAME, sealed)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest of a bundle.

        Raises:
            InputError: it is missing, damaged, or not a bundle's.
        """
        path = folder / NAME
        content = read_bytes(path, _EXPECTED)
        origin = f"{path}: damaged, or not a bundle's manifest in a format of this version"
        bundle = parse_record(cls, decode(content, str(path), _EXPECTED), origin, _EXPECTED)
        unsealed = content.replace(bundle.sha256.encode(), _UNSEALED.encode(), 1)
        if hashlib.sha256(unsealed).hexdigest() != bundle.sha256:
            raise InputError(f"{path}: damaged, its digest does not match")
        return bundle


def entries(folder: Path) -> dict[str, FileEntry]:
    """Return every file of a bundle except its manifest, sorted by path."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    paths = sorted(path for path in found if path != folder / NAME)
    return {path.relative_to(folder).as_posix(): _entry(path) for path in paths}


def _entry(path: Path) -> FileEntry:
    """Return the entry of a file; symbolic links are not followed."""
    if path.is_symlink():
        link = str(path.readlink()).encode()
        return FileEntry(size=len(link), sha256=hashlib.sha256(link).hexdigest())
    return FileEntry(size=path.stat().st_size, sha256=file_digest(path))
