"""What every measurement records alike: the model file, versions, the commit and the date."""

import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from platform import python_version
from typing import Any

from pydantic import ValidationError

import fbnet_zoo
from fbnet_zoo.benchmarks.measure import DeviceState, Measurement, ModelFile, was_throttled
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.errors import InputError, RunnerError
from fbnet_zoo.reading import record_error

_SECONDS = 10


def measurement(model: ModelFile, before: DeviceState, after: DeviceState, **fields: Any) -> Measurement:
    """Return the record of a measurement that has just ended.

    Args:
        model: model that was measured.
        before: state of the device before the measurement.
        after: state of the device after it.
        **fields: remaining fields of `Measurement`; `versions` is merged with those of Python and this package.

    Raises:
        InputError: the model cannot be read.
        RunnerError: a figure of the device is not possible.
    """
    file, libraries = file_record(model.path), fields.pop("versions", {})
    try:
        return Measurement(
            model=model.name,
            file=file.file,
            sha256=file.sha256,
            size=file.size,
            target=model.target,
            backend=model.backend,
            precision=model.precision,
            before=before,
            after=after,
            throttled=was_throttled(before, after),
            versions={**versions(), **libraries},
            commit=commit(),
            date=datetime.now(UTC),
            **fields,
        )
    except ValidationError as error:
        raise RunnerError(str(record_error(f"{file.file}: the device reports a wrong figure", error))) from error


def file_record(path: Path) -> FileRecord:
    """Return name, size and digest of a model.

    Raises:
        InputError: the model cannot be read.
    """
    try:
        return FileRecord.of(path)
    except OSError as error:
        raise InputError(f"{path}: the model cannot be read: {error.strerror}") from error


def versions() -> dict[str, str]:
    """Return the versions of Python and of this package.

    >>> sorted(versions())
    ['fbnet_zoo', 'python']
    """
    return {"python": python_version(), "fbnet_zoo": fbnet_zoo.__version__}


@cache
def commit() -> str | None:
    """Return the commit of this package, with the suffix `-dirty` if files were changed since.

    `None` if it is unknown: the package is installed, even inside another repository, or git is missing.
    """
    return commit_of(Path(__file__).resolve())


def commit_of(file: Path) -> str | None:
    """Return the commit of the repository that tracks a file, as `commit` does."""
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
