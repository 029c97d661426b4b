"""What was running when a number was taken."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from platform import python_version

import fbnet_zoo

_SECONDS = 10


def versions() -> dict[str, str]:
    """Return the versions of Python and of this package.

    >>> sorted(versions())
    ['fbnet_zoo', 'python']
    """
    return {"python": python_version(), "fbnet_zoo": fbnet_zoo.__version__}


@cache
def commit() -> str | None:
    """Return the commit that this package is at, with `-dirty` behind it when files were changed since.

    `None` where that cannot be told: an installed package, even inside a repository of something else, or no git.
    """
    return commit_of(Path(__file__).resolve())


def commit_of(file: Path) -> str | None:
    """Return the commit of the repository that tracks a file; see `commit`."""
    folder = file.parent
    tracked = _git(folder, "ls-files", file.name)
    return _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") if tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run(  # noqa: S603  fixed arguments
        [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    return done.stdout.strip() or None
