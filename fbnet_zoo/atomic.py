"""Atomic writing of files: they appear complete or not at all, even if the process is killed."""

import errno
import os
import secrets
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


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write, which replaces `path`, synced to disk, when the block ends without an error.

    Until then, and after an error, an existing `path` is unchanged. The permissions follow the user's umask.

    Raises:
        InputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}); use a path in a writable folder") from error
    finally:
        with suppress(OSError):  # where its folder is none, there is nothing to remove
            partial.unlink()


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
