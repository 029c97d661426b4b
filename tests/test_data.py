"""Shipped photographs, image files good and bad, and the names of ImageNet's classes."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fbnet_zoo
from fbnet_zoo.data import FORMATS, imagenet_labels, load_batch, load_image, photographs
from fbnet_zoo.errors import InputError
from fbnet_zoo.preprocess import eval_transform, rgb
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.image_files import POSTSCRIPT, image_kinds, png16
from tests.helpers.paths import ROOT

SPEC = PreprocessSpec(resize=256, crop=224)
CODE = {".py", ".jinja", ".md", ".ipynb"}
ROTATED_BY_EXIF = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}


def gradient(width: int = 40, height: int = 24) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def test_photographs_are_small_colour_jpegs_that_fill_any_crop() -> None:
    assert len(photographs()) == 2
    for path in photographs():
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert min(image.size) >= 320  # pixels: the largest input of the zoo
            assert not image.getexif()
            assert np.asarray(image).std(axis=-1).mean() > 10  # levels of 255: not a grey picture in RGB
        assert path.stat().st_size <= 60_000


def test_photographs_are_credited() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for path in photographs():
        assert f"fbnet_zoo/photos/{path.name}" in notice


@pytest.mark.slow
def test_photographs_are_real_files_even_in_a_zipped_package(tmp_path: Path) -> None:
    others = shutil.ignore_patterns("__pycache__", "arch_defs", "benchmarks", "converters")
    shutil.copytree(Path(fbnet_zoo.__path__[0]), tmp_path / "tree" / "fbnet_zoo", ignore=others)
    archive = shutil.make_archive(str(tmp_path / "package"), "zip", tmp_path / "tree")
    script = f"import sys; sys.path.insert(0, {archive!r}); from fbnet_zoo import data; print(data.__file__);"
    script += "print(*[data.load_image(path).size for path in data.photographs()])"
    process = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert process.stdout.splitlines() == [f"{archive}/fbnet_zoo/data.py", "(600, 400) (600, 400)"]


@pytest.mark.parametrize(("orientation", "transpose"), ROTATED_BY_EXIF.items())
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, transpose: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient().transpose(transpose).save(tmp_path / "a.png", exif=exif)
    assert load_image(tmp_path / "a.png").tobytes() == gradient().tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    gradient().convert(mode).save(tmp_path / f"a.{'tiff' if mode == 'CMYK' else 'png'}")
    image = load_image(str(next(tmp_path.iterdir())))
    assert image.mode == "RGB"
    assert image.tobytes() == gradient().convert(mode).convert("RGB").tobytes()


def test_transparency_is_placed_on_white_exactly() -> None:
    """Every level with every alpha, against the formula; what is fully transparent has no color of its own."""
    level, alpha = np.meshgrid(np.arange(256), np.arange(256))
    image = Image.fromarray(np.stack([level, level, level, alpha], -1).astype(np.uint8))
    expected = np.rint((level * alpha + 255 * (255 - alpha)) / 255)
    assert (np.asarray(rgb(image)) == expected[..., None]).all()
    assert (np.asarray(rgb(image.convert("LA"))) == expected[..., None]).all()


@pytest.mark.parametrize("kind", ["rgb", "gray", "palette"])
def test_transparent_colors_of_a_file_are_white(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(np.array([[0, 0, 90, 90]], np.uint8))
    image, key = {"rgb": (image.convert("RGB"), (0, 0, 0)), "gray": (image, 0), "palette": (image.convert("P"), 0)}[
        kind
    ]
    image.save(tmp_path / "a.png", transparency=key)
    assert np.asarray(load_image(tmp_path / "a.png"))[0, :, 0].tolist() == [255, 255, 90, 90]


@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_eight_are_used(tmp_path: Path, channels: int) -> None:
    levels = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256, 1).repeat(channels, -1)
    (tmp_path / "a.png").write_bytes(png16(levels))
    assert (np.asarray(load_image(tmp_path / "a.png")) == (levels >> 8)).all()
    for dtype in ("<u2", ">u2"):
        Image.fromarray(levels[..., 0].astype(dtype)).save(tmp_path / "a.tiff")
        assert (np.asarray(load_image(tmp_path / "a.tiff")) == (levels[..., :1] >> 8)).all()


def test_transparent_level_of_16_bits_is_white(tmp_path: Path) -> None:
    levels = np.array([[[300], [301], [0]]], np.uint16)
    (tmp_path / "a.png").write_bytes(png16(levels, (300,)))
    assert np.asarray(load_image(tmp_path / "a.png"))[0, :, 0].tolist() == [255, 1, 0]


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_values_without_a_range_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(np.full((24, 40), 1000, dtype=dtype)).save(path)
    with pytest.raises(InputError, match=r"a\.tiff: has 32-bit values without a fixed range .*; convert it to 8 bits$"):
        load_image(path)


def test_images_in_memory_and_in_files_are_treated_alike(tmp_path: Path) -> None:
    transform = eval_transform(PreprocessSpec(resize=32, crop=32))
    read = 0
    for path in image_kinds(tmp_path):
        with contextlib.suppress(InputError):
            expected = transform(load_image(path))
            with Image.open(path) as image:
                assert torch.equal(transform(image), expected), path.name
            read += 1
    assert read == 16


def test_no_other_format_is_tried_and_only_regular_files_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EPS file called photo.jpg would start Ghostscript; reading a pipe would wait for ever."""
    for name in FORMATS:
        assert name in Image.registered_extensions().values()
    (tmp_path / "photo.jpg").write_bytes(POSTSCRIPT)
    with Image.open(tmp_path / "photo.jpg") as image:
        assert image.format == "EPS"
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, message in [
        (tmp_path / "photo.jpg", "not an image in a supported format; expected JPEG, PNG"),
        (tmp_path / "pipe.jpg", "a pipe or a device"),
        (Path(os.devnull), "a pipe or a device"),
    ]:
        with pytest.raises(InputError, match=message):
            load_image(path)


def test_one_place_opens_images() -> None:
    """Everywhere else, `load_image` is called; a bundle's snippet, which stands alone, names the formats, too."""
    folders = [ROOT / name for name in ("fbnet_zoo", "benchmarks", "converters", "examples", "docs")]
    files = {path.resolve() for folder in folders for path in folder.rglob("*") if path.suffix in CODE}
    opened = {
        path.name: re.findall(r"Image\.open\(.*|imread\(.*|read_image\(.*|default_loader.*", path.read_text("utf-8"))
        for path in files
    }
    assert {name: calls for name, calls in opened.items() if calls} == {
        "data.py": ["Image.open(path, formats=FORMATS) as image:"],
        "classify.py.jinja": ["Image.open(path, formats=FORMATS) as image:"],
    }


def test_unusable_paths_are_explained(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for path, message in [
        (tmp_path / "missing.jpg", "no such file"),
        (tmp_path, "cannot be read, since it is a folder"),
        (text, "not an image"),
        (tmp_path / "empty.jpg", "not an image"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            load_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp"])
def test_cut_off_files_are_refused_or_read_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    gradient().save(path)
    content = path.read_bytes()
    refused = 0
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        try:
            assert load_image(path).size == (40, 24)
        except InputError:
            refused += 1
    assert refused > len(content) // 7 // 4


def test_huge_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit, lowered
    with pytest.raises(InputError, match="far too large"):
        load_image(tmp_path / "a.png")


def test_batch_keeps_the_order_and_refuses_nothing_and_wrong_files(tmp_path: Path) -> None:
    coffee, rocket = photographs()
    batch = load_batch([rocket, coffee], SPEC)
    assert batch.shape == (2, 3, 224, 224)
    assert torch.equal(batch.flip(0), load_batch([coffee, rocket], SPEC))
    assert not torch.equal(batch[0], batch[1])
    with pytest.raises(InputError, match="no images"):
        load_batch([], SPEC)
    with pytest.raises(InputError, match="missing"):
        load_batch([coffee, tmp_path / "missing.jpg"], SPEC)


def test_labels_are_the_thousand_classes_in_order() -> None:
    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    # Spot checks from the published class index: first, last, the photographs', and a name once given twice.
    assert {index: labels[index] for index in (0, 657, 967, 999)} == {
        0: "tench",
        657: "missile",
        967: "espresso",
        999: "toilet tissue",
    }
