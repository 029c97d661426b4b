"""The user's own zoo: a permanent folder of definitions and the files of their weights."""

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fbnet_zoo.errors import InputError

if TYPE_CHECKING:
    from fbnet_zoo.spec import ArchSpec

HOME_VARIABLE = "FBNET_ZOO_HOME"


def home() -> Path:
    """Return the folder: `$FBNET_ZOO_HOME`, else `$XDG_DATA_HOME/fbnet_zoo`, else `~/.local/share/fbnet_zoo`.

    These are the places for user data in the XDG Base Directory Specification; trained networks are not a cache.
    """
    own, data = os.environ.get(HOME_VARIABLE), Path(os.environ.get("XDG_DATA_HOME", ""))
    if own:
        return Path(own).expanduser()
    return (data if data.is_absolute() else Path("~/.local/share").expanduser()) / "fbnet_zoo"


def files() -> dict[str, Path]:
    """Return the files of the definitions by their stems, the names of the entries, without reading them.

    Files whose stem is not a valid name are left out with a warning; so is a folder that cannot be read.
    """
    try:
        paths = sorted(path for path in home().iterdir() if path.suffix == ".yaml" and path.name[0] != ".")
    except (FileNotFoundError, RuntimeError):  # no folder; no home folder
        return {}
    except OSError as error:
        warn(f"your own zoo cannot be read: {error}")
        return {}
    for path in paths:
        if not path.stem.isidentifier():
            warn(f"{path} is not an entry of the zoo; expected a file with the name of its entry, such as my_net.yaml")
    return {path.stem: path for path in paths if path.stem.isidentifier()}


@functools.cache
def warn(text: str) -> None:
    """Log a warning, once per process."""
    import logging  # would take a third of the time in which the names are listed

    logging.getLogger(__name__).warning("%s", text)


@contextmanager
def writing() -> Iterator[Path]:
    """Yield the folder, created if needed, to one process at a time.

    Raises:
        InputError: the folder cannot be created or written to, also where that happens inside the `with`.
    """
    from filelock import FileLock

    try:
        home().mkdir(parents=True, exist_ok=True)
        with FileLock(home() / ".lock"):
            yield home()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"your own zoo cannot be written ({error}); set {HOME_VARIABLE} to a writable folder"
        ) from error


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep other processes from changing the folder while it is read, where its permissions allow that."""
    from filelock import FileLock

    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(FileLock(home() / ".lock"))
        yield


def write(folder: Path, spec: "ArchSpec", contents: Mapping[str, bytes]) -> None:
    """Write a definition after its files, so that an interruption leaves the previous entry, if any.

    Files of the previous entry are removed, except those that another definition in the folder names.

    Args:
        folder: the folder that `writing` yields.
        spec: the definition.
        contents: file name to content; a name is unique to its content, as with a digest in it.
    """
    from fbnet_zoo import arch_file
    from fbnet_zoo.atomic import write_atomically

    path = folder / f"{spec.name}.yaml"
    before = _previous_files(path)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    arch_file.save(spec, path)
    for name in before:
        if not _is_named(name, folder):
            (folder / name).unlink(missing_ok=True)


def _is_named(name: str, folder: Path) -> bool:
    """Return whether the text of any definition, even an invalid one, has the name of a weights file."""
    definitions = [path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"}]
    try:
        return any(name.encode() in path.read_bytes() for path in definitions)
    except OSError:  # one that cannot be read may name it
        return True


def files_of(spec: "ArchSpec") -> set[str]:
    """Return the names of the weights files in the folder of a definition."""
    return {entry.file for entry in spec.weights if entry.file is not None}


def _previous_files(path: Path) -> set[str]:
    """Return the files of the entry to be replaced; none if there is no valid one."""
    from fbnet_zoo import arch_file

    try:
        return files_of(arch_file.load(path))
    except InputError:
        return set()
