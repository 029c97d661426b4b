"""Atomic writing of files: they appear complete or not at all, even if the process is killed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fbnet_zoo.errors import InputError


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
