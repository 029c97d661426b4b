"""`manifest.json` of a bundle: what is in it, and the digest of every file, its own included."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.converters.parity import CaseResult
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import Record

NAME = "manifest.json"

_UNSEALED = "0" * 64
_CHUNK = 1 << 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Record):
    """One file of a bundle: its size in bytes, and its digest."""

    size: int
    sha256: Sha256


class Variant(Record):
    """One precision that `auto` tried.

    Attributes:
        size: of the file, bytes; `None` if there is none.
        p50_ms: median of all runs.
        ratio: of its time over the chosen one's when they were run in turn, with the ends of its 95 % interval.
        dropped: why it was not considered, or not chosen; `None` for the one that was.
    """

    precision: str
    size: int | None = None
    p50_ms: float | None = None
    ratio: tuple[float, float, float] | None = None
    dropped: str | None = None

    def describe(self) -> str:
        """Say in one line what came of it."""
        size = f"{self.size / 1e6:.2f} MB" if self.size is not None else None
        timed = f"{self.p50_ms:.2f} ms" if self.p50_ms is not None else None
        return ", ".join(part for part in (size, timed, self.dropped or "chosen") if part)


class Choice(Record):
    """How `auto` came to a precision.

    Attributes:
        device: what the variants were timed on; `None` if they could not be.
        threads: likewise.
        reason: for the choice, in words.
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
        path: of the file or folder inside the bundle.
        snippets: files that run it.
        manifest: all that is known of the file.
        on_reference: how its logits compare with `reference.safetensors`.
        choice: how its precision was chosen, if that was asked for.
    """

    platform: str
    path: str
    snippets: tuple[str, ...]
    manifest: Manifest
    on_reference: CaseResult
    choice: Choice | None = None

    @property
    def worst(self) -> CaseResult:
        """The figures of the check after writing, each of the worst image."""
        return self.manifest.parity.worst or self.on_reference

    @property
    def snr_db(self) -> float:
        """Of the scores: of the worst image, of a quantized file over all images that judged it."""
        quantized = self.manifest.quantization
        return quantized.sqnr_db if quantized else self.worst.snr_db

    @property
    def top1_agreement(self) -> float:
        """Share of the same images with the same best class."""
        quantized = self.manifest.quantization
        return quantized.top1_agreement if quantized else self.worst.top1_agreement


class Bundle(Record):
    """What a bundle is.

    Attributes:
        format: version of this record.
        sha256: of the text of this record with zeros in place of these digits.
        created: UTC, ISO 8601.
        labels: where the names of the classes are from, in words.
        deployed: the network for each platform.
        notes: what a user of the bundle should know, one sentence each.
        versions: of Python and of the libraries that made it.
        files: every other file, by its path with `/` between folders.
    """

    format: Literal[1] = 1
    sha256: Sha256 = _UNSEALED
    model: str
    weights: str | None
    license: str | None
    created: str
    labels: str
    deployed: tuple[Deployed, ...]
    notes: tuple[str, ...] = ()
    versions: dict[str, str]
    files: dict[str, FileEntry]

    def save(self, folder: Path) -> None:
        """Write the record, sealed, into the folder of the bundle."""
        text = self.model_copy(update={"sha256": _UNSEALED}).model_dump_json(indent=2) + "\n"
        sealed = text.replace(_UNSEALED, hashlib.sha256(text.encode()).hexdigest(), 1)
        write_atomically(folder / NAME, sealed)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the record of a bundle.

        Raises:
            InputError: there is none, or it is no longer what was written.
        """
        path = folder / NAME
        try:
            content = path.read_bytes()
            bundle = cls.model_validate_json(content)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected the folder of a bundle") from error
        except ValidationError as error:
            raise InputError(f"{path}: damaged, or not the manifest of a bundle that this version knows") from error
        unsealed = content.replace(bundle.sha256.encode(), _UNSEALED.encode(), 1)
        if hashlib.sha256(unsealed).hexdigest() != bundle.sha256:
            raise InputError(f"{path}: damaged, its own digest does not fit")
        return bundle


def entries(folder: Path) -> dict[str, FileEntry]:
    """Return every file of a bundle, its manifest excepted, in the order of their paths."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    paths = sorted(path for path in found if path != folder / NAME)
    return {path.relative_to(folder).as_posix(): _entry(path) for path in paths}


def _entry(path: Path) -> FileEntry:
    """Measure a file; a link is what it says, not what it leads to."""
    if path.is_symlink():
        said = str(path.readlink()).encode()
        return FileEntry(size=len(said), sha256=hashlib.sha256(said).hexdigest())
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return FileEntry(size=path.stat().st_size, sha256=digest.hexdigest())
