"""Shipped photographs, image files good and bad, and the names of ImageNet's classes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fbnet_zoo
from fbnet_zoo.data import imagenet_labels, load_batch, load_image, photographs
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.paths import ROOT

SPEC = PreprocessSpec(resize=256, crop=224)
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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    gradient().convert(mode).save(tmp_path / "a.png")
    image = load_image(str(tmp_path / "a.png"))
    assert image.mode == "RGB"
    assert image.tobytes() == gradient().convert(mode).convert("RGB").tobytes()


@pytest.mark.parametrize(("dtype", "suffix"), [("uint16", "png"), ("int32", "tiff"), ("float32", "tiff")])
def test_deep_images_are_refused_rather_than_cut_off(tmp_path: Path, dtype: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.full((24, 40), 1000, dtype=dtype)).save(path)
    with pytest.raises(InputError, match="more than 8 bits"):
        load_image(path)


def test_unusable_paths_are_explained(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for path, message in [
        (tmp_path / "missing.jpg", "no such file"),
        (tmp_path, "cannot be read"),
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
