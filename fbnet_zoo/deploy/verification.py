"""Verification of a bundle: the digest of every file, missing and extra files, and the scores of every network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.converters.artifact import Progress
from fbnet_zoo.deploy import record
from fbnet_zoo.deploy.record import Bundle, Deployed, FileEntry
from fbnet_zoo.deploy.reference import ReferenceImages, check_again
from fbnet_zoo.errors import FbnetZooError, ParityError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """Result of one check of one file.

    Attributes:
        path: path in the bundle.
        check: `digest` or `scores`.
        problem: what is wrong, a phrase that continues the path; `None` if the check passed.
        snr_db: signal-to-noise ratio of the scores on the reference images, if computed.
    """

    path: str
    check: str
    problem: str | None = None
    snr_db: float | None = None


def verify(folder: Path, *, progress: Progress | None = None) -> tuple[Bundle, tuple[FileCheck, ...]]:
    """Verify a bundle.

    The networks are run only if all files are intact, so that damaged files are not loaded.

    Args:
        folder: folder of the bundle.
        progress: called with each step as it begins.

    Returns:
        The manifest, and one check for each file and for each network.

    Raises:
        InputError: the manifest cannot be read, or is damaged.
    """
    progress = progress or (lambda _: None)
    bundle = Bundle.load(folder)
    progress("digests")
    digests = (*_digests(bundle.files, record.entries(folder)), *_links(folder))
    if any(check.problem for check in digests):
        return bundle, digests
    return bundle, (*digests, *_scores(folder, bundle, progress))


def count_steps(folder: Path) -> int:
    """Return the number of steps that `verify` reports to `progress`.

    Raises:
        InputError: the manifest cannot be read, or is damaged.
    """
    return 1 + len(Bundle.load(folder).deployed)


def _digests(expected: dict[str, FileEntry], found: dict[str, FileEntry]) -> Iterator[FileCheck]:
    for path in sorted(expected.keys() | found.keys()):
        yield FileCheck(path=path, check="digest", problem=_problem(expected.get(path), found.get(path)))


def _links(folder: Path) -> Iterator[FileCheck]:
    """Yield a problem for each link that leads out of the bundle: its own digest says nothing about what it names."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not _is_inside(path, folder):
            name = path.relative_to(folder).as_posix()
            yield FileCheck(path=name, check="digest", problem="is a link out of the bundle")


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def _problem(expected: FileEntry | None, found: FileEntry | None) -> str | None:
    if expected is None:
        return "is not part of the bundle"
    if found is None:
        return "is missing"
    if found.size != expected.size:
        return f"is damaged: {found.size:,} bytes, expected {expected.size:,}"
    return None if found == expected else "is damaged: its digest does not match"


def _scores(folder: Path, bundle: Bundle, progress: Progress) -> Iterator[FileCheck]:
    reference = ReferenceImages.load(folder)
    for each in bundle.deployed:
        progress(each.path)
        yield _score(folder, each, reference)


def _score(folder: Path, each: Deployed, reference: ReferenceImages) -> FileCheck:
    try:
        found = check_again(folder / each.path, each.manifest, reference, each.on_reference)
    except ParityError as error:
        return FileCheck(path=each.path, check="scores", problem=str(error))
    except FbnetZooError as error:
        return FileCheck(path=each.path, check="scores", problem=f"cannot be run: {error}")
    return FileCheck(path=each.path, check="scores", snr_db=found.snr_db)
