"""Putting finished files at their final names, so that a kill at any moment leaves the old ones or the new ones."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fbnet_zoo.atomic import sync
from fbnet_zoo.errors import InputError

_PREFIX, _LOCK, _REPLACED = ".fbnet_zoo-", "lock", "replaced"


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Make `out`, and in it a folder of this process for what is not finished; it goes at the end.

    Such folders of runs that were killed are removed. A lock that ends with its process tells them from those in use.

    Raises:
        InputError: `out` cannot be a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _clear(out)
        folder, lock = _make(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be used as a folder ({error.strerror}); give another one") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _make(out: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=out))
        lock = FileLock(folder / _LOCK)
        lock.acquire()
        if folder.exists():  # else another run took it for a leftover, before the lock
            return folder, lock
        lock.release()


def _clear(out: Path) -> None:
    for folder in out.glob(f"{_PREFIX}*"):
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _put_back(folder, out)
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _put_back(folder: Path, out: Path) -> None:
    """Restore a folder that was taken away and not replaced."""
    for old in folder.glob(f"*/{_REPLACED}/*"):
        if not (out / old.name).exists():
            old.rename(out / old.name)


def publish(path: Path, manifest: Path, out: Path) -> tuple[Path, Path]:
    """Move a finished file, the files written along with it, and its manifest to `out`; return where two of them are.

    The old manifest goes first and the new one comes last: a manifest is never beside a file that it does not describe.

    Args:
        path: of the file or folder, in a folder of its own in a workplace inside `out`.
        manifest: likewise.
        out: the folder.
    """
    final = out / manifest.name
    final.unlink(missing_ok=True)
    for companion in companions(path, manifest):
        replace_path(companion, out / companion.name)
    replace_path(path, out / path.name)
    manifest.replace(final)
    return out / path.name, final


def companions(path: Path, manifest: Path) -> list[Path]:
    """Return the files written along with `path`: those of the same stem."""
    return sorted(other for other in path.parent.glob(f"{path.stem}.*") if other not in {path, manifest})


def replace_path(new: Path, final: Path) -> None:
    """Replace a file in one step, a folder (which cannot be) in two.

    Args:
        new: in a folder of its own in a workplace beside `final`, which puts the old one back after a kill.
        final: what it becomes.
    """
    if final.exists() and (new.is_dir() or final.is_dir()):
        aside = new.parent / _REPLACED / final.name
        aside.parent.mkdir(exist_ok=True)
        final.rename(aside)
    sync(new)
    new.replace(final)
