"""Whether a bundle is still what was made: every digest, no missing or extra file, and the scores of every network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fbnet_zoo.deploy import record
from fbnet_zoo.deploy.record import Bundle, Deployed, FileEntry
from fbnet_zoo.deploy.reference import Reference, check_again
from fbnet_zoo.errors import FbnetZooError, ParityError

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is known of one file, or of one network when it was run.

    Attributes:
        path: inside the bundle.
        check: `digest` or `scores`.
        problem: what is wrong, as words that go on after the path; `None` if nothing is.
        snr_db: of the scores on the reference pictures, where they were computed.
    """

    path: str
    check: str
    problem: str | None = None
    snr_db: float | None = None


def verify(folder: Path, *, progress: Progress | None = None) -> tuple[Bundle, tuple[Finding, ...]]:
    """Check a bundle.

    The networks are run only if every file is what it was: what is damaged is not loaded.

    Args:
        folder: of the bundle.
        progress: is told what happens next.

    Returns:
        Its record, and a finding for each file and for each network.

    Raises:
        InputError: its manifest cannot be read, or is damaged.
    """
    say = progress or (lambda _: None)
    bundle = Bundle.load(folder)
    say("digests")
    digests = tuple(_digests(bundle.files, record.entries(folder)))
    if any(finding.problem for finding in digests):
        return bundle, digests
    return bundle, (*digests, *_scores(folder, bundle, say))


def count_steps(folder: Path) -> int:
    """Return how many steps `verify` announces.

    Raises:
        InputError: the manifest cannot be read, or is damaged.
    """
    return 1 + len(Bundle.load(folder).deployed)


def _digests(expected: dict[str, FileEntry], found: dict[str, FileEntry]) -> Iterator[Finding]:
    for path in sorted(expected.keys() | found.keys()):
        yield Finding(path=path, check="digest", problem=_problem(expected.get(path), found.get(path)))


def _problem(expected: FileEntry | None, found: FileEntry | None) -> str | None:
    if expected is None:
        return "is not part of the bundle"
    if found is None:
        return "is missing"
    if found.size != expected.size:
        return f"is damaged: {found.size:,} bytes, expected {expected.size:,}"
    return None if found == expected else "is damaged: its digest is another one"


def _scores(folder: Path, bundle: Bundle, say: Progress) -> Iterator[Finding]:
    reference = Reference.load(folder)
    for each in bundle.deployed:
        say(each.path)
        yield _score(folder, each, reference)


def _score(folder: Path, each: Deployed, reference: Reference) -> Finding:
    try:
        found = check_again(folder / each.path, each.manifest, reference, each.on_reference)
    except ParityError as error:
        return Finding(path=each.path, check="scores", problem=str(error))
    except FbnetZooError as error:
        return Finding(path=each.path, check="scores", problem=f"cannot be run: {error}")
    return Finding(path=each.path, check="scores", snr_db=found.snr_db)
