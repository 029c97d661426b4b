"""Image files of the kinds that readers disagree about: depth, transparency, formats, and files that are not images."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (70, 64)
"""Width and height of the images, px."""

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 70 64\n%%EndComments\nshowpage\n"


def noise(channels: int, bits: int = 8) -> np.ndarray:
    """Return `(64, 70, channels)` random levels."""
    shape = (SIZE[1], SIZE[0], channels)
    return np.random.default_rng(channels).integers(0, 1 << bits, shape, dtype=f"uint{bits}")


def png16(levels: np.ndarray, key: tuple[int, ...] = ()) -> bytes:
    """Return a PNG file with 16 bits per channel, which Pillow cannot write in color; `key` is transparent.

    Args:
        levels: uint16 `(H, W, C)`: gray, gray and alpha, RGB or RGBA.
    """
    height, width, channels = levels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    chunks += [(b"tRNS", struct.pack(f">{len(key)}H", *key))] if key else []
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def image_kinds(folder: Path) -> Iterator[Path]:
    """Write one file of each kind, and yield its path."""
    yield from _deep(folder)
    yield from _transparent(folder)
    for name, content in {"eps.jpg": POSTSCRIPT, "text.png": b"no image", "empty.jpg": b""}.items():
        (folder / name).write_bytes(content)
        yield folder / name
    os.mkfifo(folder / "pipe.png")
    yield folder / "pipe.png"


def _deep(folder: Path) -> Iterator[Path]:
    for channels in (1, 2, 3, 4):
        (folder / f"deep{channels}.png").write_bytes(png16(noise(channels, 16)))
        yield folder / f"deep{channels}.png"
    gray = noise(1, 16)
    (folder / "key.png").write_bytes(png16(gray, (int(gray[0, 0, 0]),)))
    yield folder / "key.png"
    for dtype in ("<u2", ">u2", "int32", "float32"):
        path = folder / f"{dtype.strip('<>')}{dtype[0] == '>'}.tiff"
        Image.fromarray(gray[..., 0].astype(dtype)).save(path)
        yield path


def _transparent(folder: Path) -> Iterator[Path]:
    color = Image.fromarray(noise(4))
    yield from (_saved(color, folder / name) for name in ("a.png", "a.webp", "a.tiff", "a.gif"))
    yield _saved(color.convert("LA"), folder / "la.png")
    yield _saved(color.convert("RGB"), folder / "rgb_key.png", transparency=color.getpixel((0, 0))[:3])
    yield _saved(color.convert("L"), folder / "l_key.png", transparency=100)
    palette = color.convert("RGB").quantize(16)
    yield _saved(palette, folder / "p_key.png", transparency=3)
    yield _saved(palette, folder / "p_alpha.png", transparency=bytes(range(0, 256, 16)))


def _saved(image: Image.Image, path: Path, **settings: object) -> Path:
    image.save(path, **settings)
    return path
