"""The files of images below a folder, for every command that reads images."""

import logging
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fbnet_zoo.errors import InputError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Extensions of image files, lowercase."""

_BYPRODUCTS = frozenset(
    {
        *("__macosx", "icon\r"),  # macOS; its other files are hidden
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
        *("@eadir", "#recycle", "lost+found"),  # network drives, file systems
    }
)
"""Files and folders that systems create beside images, lowercase."""

log = logging.getLogger(__name__)


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones and byproducts of systems are left out.

    Raises:
        InputError: the folder cannot be read.
    """
    return [entry.name for entry in _entries(folder) if _kind(entry) == "folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """The images below a folder.

    Attributes:
        files: image files, ordered by folder and name.
        repeated: links to folders whose images were found already, which were not followed.
    """

    files: tuple[Path, ...]
    repeated: frozenset[Path]


def find_images(root: Path) -> FoundImages:
    """Return the image files below a folder.

    Hidden files and folders and byproducts of systems are left out, as are special files such as pipes. A link to a
    folder is followed unless its images were found already; a warning is logged. A link without a target counts as a
    file, which cannot be read.

    Raises:
        InputError: a folder cannot be read.
    """
    found, repeated, seen = list[Path](), set[Path](), {_identity(folder) for folder in root.resolve().parents}
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        folder = (folders or links).popleft()  # links last: an image is found in its own folder first
        identity = _identity(folder)
        if identity in seen:
            log.warning("%s is a link to a folder whose images were found already; it is left out", folder)
            repeated.add(folder)
            continue
        seen.add(identity)
        for entry in _entries(folder):
            kind, path = _kind(entry), folder / entry.name
            if kind == "folder":
                (links if entry.is_symlink() else folders).append(path)
            elif kind == "file" and path.suffix.lower() in SUFFIXES:
                found.append(path)
    files = sorted(found, key=lambda path: (str(path.parent), path.name))
    return FoundImages(files=tuple(files), repeated=frozenset(repeated))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not _is_ignored(entry.name)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); expected a folder of images") from error
    yield from sorted(visible, key=lambda entry: entry.name)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _BYPRODUCTS


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file"] | None:
    """Return what an entry is or links to; a link without a target is a file, which cannot be read."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() or (entry.is_symlink() and not Path(entry).exists()) else None
    except OSError:  # a link to itself
        return "file"


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
