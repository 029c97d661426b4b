"""Atomic writing of files: they appear complete or not at all, even if the process is killed."""

import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fbnet_zoo.errors import InputError

_DISK_ERRORS = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)]


@contextmanager
def storing_in(folder: Path) -> Iterator[None]:
    """Name the folder where the disk is full or cannot be written inside: libraries often report no path.

    Raises:
        InputError: the disk is full, read-only or damaged.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the classes of libraries that write files have only the text in common
        reason = next((each for each in _DISK_ERRORS if each in f"{error} {error.__cause__}"), None)
        if reason is None:
            raise
        raise InputError(f"{folder} cannot be written ({reason}); free some space, or use another folder") from error


def require_space(folder: Path, size: int) -> None:
    """Check that a folder has room for `size` bytes: some libraries map their files, and die where the disk is full.

    Raises:
        InputError: it has less.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder} has {free / 1e6:.1f} MB left, but about {size / 1e6:.1f} MB are needed; free some space, or use "
            "another folder"
        )


try:
    import fcntl
except ImportError:  # Windows, where partial files of killed processes stay, and open files cannot be replaced
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write, which replaces `path`, synced to disk, when the block ends without an error.

    Until then, and after an error, an existing `path` is unchanged. The permissions follow the user's umask. Partial
    files that killed processes left are removed.

    Raises:
        InputError: the file cannot be written.
    """
    partial = None
    try:
        _clear(path)
        partial, opened = _partial(path)
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # while it is locked
                partial.replace(path)
        if fcntl is None:
            partial.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}); use a path in a writable folder") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _partial(path: Path) -> tuple[Path, IO[bytes]]:
    """Create a partial file, locked as long as it is open."""
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        file = partial.open("xb")
        _is_ours_now(file)
        if os.fstat(file.fileno()).st_nlink:  # else another process has removed it before it was locked
            return partial, file
        file.close()


def _clear(path: Path) -> None:
    """Remove partial files of the same path whose processes have ended."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.partial"):
        with suppress(OSError), left.open("r+b") as file:
            if _is_ours_now(file):
                left.unlink()


def _is_ours_now(file: IO[bytes]) -> bool:
    """Lock a file if no other process does, and if the file system and the operating system can."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text (as UTF-8) or bytes atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Flush a file, or all files of a folder, to disk, so that a rename publishes complete content."""
    for each in (path, *path.rglob("*")):
        if each.is_file():
            with each.open("rb") as file:
                os.fsync(file.fileno())
