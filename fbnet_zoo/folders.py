"""Folders that belong to one process: run folders, which are claimed, and temporary ones.

Ownership is a lock on a file in the folder. The system releases it when the process ends, even by `kill -9`, so that no
claim outlives its owner; processes forked by the owner, such as those that read images, do not hold it.
"""

import errno
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from fbnet_zoo.errors import InputError

PREFIX = "fbnet_zoo-"
"""Prefix of the names of temporary folders."""

_CLAIM, _MARK = ".lock", "lock"
"""Files whose lock says that a claimed or a temporary folder is in use."""

_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}

_claims: ContextVar[frozenset[tuple[int, Path]]] = ContextVar("_claims", default=frozenset())

log = logging.getLogger(__name__)


@contextmanager
def claimed(folder: Path, *, wait_s: float = 0) -> Iterator[None]:
    """Claim a folder, created if needed, for this process; whoever holds it may claim it again inside.

    Args:
        folder: the folder.
        wait_s: how long to wait for a claim of another process to end, seconds.

    Raises:
        InputError: another run uses the folder, or it cannot be created or written.
    """
    place = (os.getpid(), folder.resolve())  # a forked process holds nothing
    if place in _claims.get():
        yield
        return
    lock = _acquire(folder, wait_s)
    token = _claims.set(_claims.get() | {place})
    try:
        yield
    finally:
        _claims.reset(token)
        with suppress(OSError):
            (folder / _CLAIM).unlink()  # before the release: whoever waits for it notices that the file is gone
        lock.release()


def _acquire(folder: Path, wait_s: float) -> FileLock:
    lock = FileLock(folder / _CLAIM, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise InputError(f"{folder} is in use by another run; wait until it ends, or use another folder") from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise InputError(f"{folder} cannot be created or written ({error.strerror}); use another folder") from error
        log.warning("%s cannot be locked (%s); let only one process at a time use it", folder, error.strerror)
    return lock


def _ignore(_: Path) -> None:
    """Rescue nothing."""


@contextmanager
def temporary(
    parent: Path | None = None, *, prefix: str = PREFIX, rescue: Callable[[Path], None] = _ignore
) -> Iterator[Path]:
    """Create a temporary folder, which is removed at the end, and remove those that killed processes left.

    Args:
        parent: parent folder (default: the system's folder for temporary files).
        prefix: prefix of the names of such folders.
        rescue: called with each folder that a killed process left, before it is removed.

    Raises:
        OSError: `parent` is not a folder, or cannot be written.
    """
    place = parent or Path(tempfile.gettempdir())
    for left in place.glob(f"{prefix}*"):
        _remove_abandoned(left, rescue)
    folder, lock = _make(place, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _make(parent: Path, prefix: str) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = FileLock(folder / _MARK, fallback_to_soft=False)
        try:
            lock.acquire()
        except (FileNotFoundError, FileExistsError):  # another process has removed it before it was locked
            continue
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        if folder.exists():  # else as above
            return folder, lock
        lock.release()


def _remove_abandoned(folder: Path, rescue: Callable[[Path], None]) -> None:
    """Remove a folder made by `temporary` whose process has ended; leave all others alone."""
    with suppress(OSError, Timeout):
        if not _is_own_folder(folder):
            return
        if not (folder / _MARK).exists():
            folder.rmdir()  # only if it is empty: its process was killed right after it was made
            return
        with FileLock(folder / _MARK, fallback_to_soft=False).acquire(timeout=0):
            rescue(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _is_own_folder(folder: Path) -> bool:
    """Return whether this is a folder of the same user, not a link that may lead elsewhere."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
