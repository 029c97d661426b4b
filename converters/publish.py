"""Move finished files to their final paths, so that a kill at any time leaves the old files or the new ones."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from fbnet_zoo.atomic import sync
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import PREFIX, temporary

_REPLACED = "replaced"


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Create `out`, and in it a temporary folder for unfinished files, which is removed at the end.

    Temporary folders left by killed runs are removed; those in use are locked by their processes.

    Raises:
        InputError: `out` cannot be used as a folder.
    """
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            rescue = partial(_put_back, out=out)
            folder = stack.enter_context(temporary(out, prefix=f".{PREFIX}", rescue=rescue))
        except OSError as error:
            raise InputError(f"{out}: cannot be used as a folder ({error.strerror}); choose another one") from error
        yield folder


def _put_back(folder: Path, out: Path) -> None:
    """Restore folders that were moved aside but not replaced."""
    for old in folder.glob(f"*/{_REPLACED}/*"):
        if not (out / old.name).exists():
            old.rename(out / old.name)


def publish(path: Path, manifest: Path, out: Path) -> tuple[Path, Path]:
    """Move a finished file, its companions and its manifest to `out`; return the new paths of file and manifest.

    The old manifest is removed first and the new one moved last, so that a manifest never describes a different file.

    Args:
        path: path of the file or folder, in a folder of its own in a workplace inside `out`.
        manifest: path of its manifest, in the same folder.
        out: the output folder.
    """
    final = out / manifest.name
    final.unlink(missing_ok=True)
    for companion in companions(path, manifest):
        replace_path(companion, out / companion.name)
    replace_path(path, out / path.name)
    manifest.replace(final)
    return out / path.name, final


def companions(path: Path, manifest: Path) -> list[Path]:
    """Return the files written along with `path`: those with the same stem."""
    return sorted(other for other in path.parent.glob(f"{path.stem}.*") if other not in {path, manifest})


def replace_path(new: Path, final: Path) -> None:
    """Replace a file in one step, or a folder in two, since folders cannot be replaced atomically.

    Args:
        new: path in a folder of its own in a workplace beside `final`; after a kill, the next run restores the old one.
        final: the path to replace.
    """
    if final.exists() and (new.is_dir() or final.is_dir()):
        aside = new.parent / _REPLACED / final.name
        aside.parent.mkdir(exist_ok=True)
        final.rename(aside)
    sync(new)
    new.replace(final)
