"""The user's own zoo: a folder of definitions, with the files of their weights beside them, that outlives a process."""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fbnet_zoo.errors import InputError

if TYPE_CHECKING:
    from fbnet_zoo.spec import ArchSpec

HOME_VARIABLE = "FBNET_ZOO_HOME"
BESIDE = "file:"
"""What the source of weights starts with whose file lies beside the definition."""


def home() -> Path:
    """Return the folder: what `FBNET_ZOO_HOME` names, else `fbnet_zoo` in `$XDG_DATA_HOME`, else in `~/.local/share`.

    That is where the XDG Base Directory Specification wants a user's data; what was searched and trained is no cache.
    """
    said, data = os.environ.get(HOME_VARIABLE), Path(os.environ.get("XDG_DATA_HOME", ""))
    if said:
        return Path(said).expanduser()
    return (data if data.is_absolute() else Path("~/.local/share").expanduser()) / "fbnet_zoo"


def files() -> dict[str, Path]:
    """Return the files of the definitions by their stems, which are to be their names. Nothing is read of them.

    A file that cannot be named like its definition is left out with a warning, and so is a folder that cannot be read.
    """
    try:
        paths = sorted(path for path in home().iterdir() if path.suffix == ".yaml" and path.name[0] != ".")
    except (FileNotFoundError, RuntimeError):  # no folder; no home folder
        return {}
    except OSError as error:
        warn(f"the zoo of your own cannot be read: {error}")
        return {}
    for path in paths:
        if not path.stem.isidentifier():
            warn(f"{path} is no entry of the zoo: expected a file named like its definition, such as my_network.yaml")
    return {path.stem: path for path in paths if path.stem.isidentifier()}


@functools.cache
def warn(text: str) -> None:
    """Tell something through the logger, once in this process."""
    import logging  # a third of the time in which the names are had

    logging.getLogger(__name__).warning("%s", text)


@contextmanager
def writing() -> Iterator[Path]:
    """Give the folder, made where needed, to one process at a time.

    Raises:
        InputError: it cannot be made or written to; also where that shows later, inside the `with`.
    """
    from filelock import FileLock

    try:
        home().mkdir(parents=True, exist_ok=True)
        with FileLock(home() / ".lock"):
            yield home()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the zoo of your own cannot be written ({error}); set {HOME_VARIABLE} to a folder that takes files"
        ) from error


def write(folder: Path, spec: "ArchSpec", contents: Mapping[str, bytes]) -> None:
    """Write a definition, after the files beside it: what is interrupted leaves the entry that was there, if any.

    Args:
        folder: as `writing` gives it.
        spec: the definition.
        contents: of the files, by name; a name says the content (such as by a digest), and is never used for another.
    """
    from fbnet_zoo import arch_file
    from fbnet_zoo.atomic import write_atomically

    path = folder / f"{spec.name}.yaml"
    before = _beside(path)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    arch_file.save(spec, path)
    for name in before - files_of(spec):
        (folder / name).unlink(missing_ok=True)


def files_of(spec: "ArchSpec") -> set[str]:
    """Return the names of the files beside a definition that its weights are in."""
    return {entry.source.removeprefix(BESIDE) for entry in spec.weights if entry.source.startswith(BESIDE)}


def _beside(path: Path) -> set[str]:
    """Return the files of the entry that is to be replaced; none where there is no valid one."""
    from fbnet_zoo import arch_file

    try:
        return files_of(arch_file.load(path))
    except InputError:
        return set()
