"""Folders of images that are told apart by their color."""

import os
from pathlib import Path

from PIL import Image

LEVELS = 20
"""Difference of the red levels of neighboring classes."""


def write_images(root: Path, *names: str, count: int = 5) -> Path:
    """Write so many images per class; red tells the class, green the number of the image. Return the folder."""
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            color = (LEVELS * index, number, 0)
            Image.new("RGB", (16, 16), color).save(root / name / f"{number:02}.png")
    return root


def write_clutter(root: Path, name: str) -> None:
    """Add to a folder of classes what systems leave there, a pipe, and links that lead in circles.

    Args:
        root: the folder.
        name: one of its classes.
    """
    image = next((root / name).glob("*.png")).read_bytes()
    for folder in (
        ".git",
        "__MACOSX",
        ".ipynb_checkpoints",
        f"{name}/.thumbnails",
        f"{name}/__MACOSX",
        f"{name}/@eaDir",
    ):
        (root / folder).mkdir()
        (root / folder / "00.png").write_bytes(image)
    for file in (f"{name}/._00.png", f"{name}/.hidden.jpg", "loose.txt"):
        (root / file).write_bytes(image)
    for file in ("Thumbs.db", "desktop.ini", "notes.txt"):
        (root / name / file).write_text("no image")
    (root / "around").symlink_to(root, target_is_directory=True)
    (root / name / "up").symlink_to("..", target_is_directory=True)
    (root / name / "itself").symlink_to(".", target_is_directory=True)
    (root / name / "outside").symlink_to(root.parent, target_is_directory=True)
    (root / name / "nowhere").symlink_to(root / "nowhere")
    os.mkfifo(root / name / "pipe.png")
