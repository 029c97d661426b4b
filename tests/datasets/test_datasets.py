"""Data sets: what is held out, that it never changes, how an image reaches the network, and what is refused."""

import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fbnet_zoo import _require, data
from fbnet_zoo.data import Digits, load_image, photographs
from fbnet_zoo.datasets import Files, ImageDataset, Pixels, digits, normalised, open_dataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.hub_server import HubServer

WHOLE = PreprocessSpec(resize=32, crop=32)
QUARTERS = [[37.9, 51.0, 37.1, 54.3], [33.6, 23.3, 30.2, 55.8]]
"""Mean level (of 255) in the quarters of image 3: to train on, and held out."""


@pytest.fixture(scope="module")
def cluttered() -> ImageDataset:
    return open_dataset("digits_cluttered")


@pytest.mark.parametrize("channels", [1, 3])
def test_digits_reach_the_network_as_they_do_in_calibration(channels: int) -> None:
    ours, theirs = open_dataset("digits").held_out, data.digits()[1]
    images = torch.stack([ours.fitted(index, WHOLE) for index in range(8)])
    expected = theirs.images(WHOLE, channels=channels, limit=8)
    torch.testing.assert_close(normalised(images, WHOLE, channels), expected)
    assert torch.equal(ours.labels, theirs.classes)


def test_cluttered_digits_are_the_same_on_every_machine(cluttered: ImageDataset) -> None:
    train, held_out = cluttered.train, cluttered.held_out
    assert (len(train.labels), len(held_out.labels), cluttered.size) == (4 * 1437, 4 * 360, 32)
    assert train.labels[:6].tolist() == [0, 1, 2, 3, 4, 5]
    quarters = [
        torch.nn.functional.avg_pool2d(part.image(3), 16).flatten().mul(255).tolist() for part in (train, held_out)
    ]
    np.testing.assert_allclose(quarters, QUARTERS, atol=0.5)  # levels of 255: libraries may round differently


def test_cluttered_digits_that_are_held_out_show_nothing_of_the_others(
    cluttered: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Digits(pixels=torch.zeros(2, 8, 8), classes=torch.zeros(2, dtype=torch.long))
    monkeypatch.setattr(digits, "digits", lambda: (blank, data.digits()[1]))
    again = digits.cluttered_digits.__wrapped__()
    assert len(again.train.labels) == 8
    assert all(torch.equal(again.held_out.image(at), cluttered.held_out.image(at)) for at in range(0, 1440, 60))


def test_cluttered_digits_lie_within_the_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_DISTRACTORS": 0, "_NOISE": 0.0, "_PAPER": 0.0, "_CONTRAST": (1.0, 1.0)}.items():
        monkeypatch.setattr(digits, name, value)
    square = Digits(pixels=torch.ones(64, 8, 8), classes=torch.zeros(64, dtype=torch.long))
    ink = digits._clutter(square, 0).pixels.float().sum((1, 2, 3)) / 255  # px of ink
    side = ink.sqrt()
    assert 14 < side.min() < 16.5
    assert 22.5 < side.max() < 25


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_files_reach_the_network_as_they_do_in_predictions(order: Any) -> None:
    preprocess = PreprocessSpec(resize=72, crop=64, interpolation="bicubic", mean=(0.5, 0.4, 0.3), order=order)
    files = Files(paths=photographs(), labels=torch.tensor([0, 1]))
    expected = eval_transform(preprocess)(load_image(photographs()[1]))
    torch.testing.assert_close(normalised(files.fitted(1, preprocess)[None], preprocess, 3)[0], expected)


def test_colours_of_a_grey_network_are_averaged() -> None:
    pixels = Pixels(pixels=torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2), labels=torch.tensor([0]))
    plain = WHOLE.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    grey = normalised(pixels.image(0)[None], plain, 1)
    torch.testing.assert_close(grey.flatten() * 255, torch.tensor([4.0, 5.0, 6.0, 7.0]))
    with pytest.raises(InputError, match="1 or 3 channels, but the network expects 4"):
        normalised(grey, plain, 4)


def tree(root: Path, **counts: int) -> Path:
    """Make a folder of images per class; the level of red tells the number of the image."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (20, 12), (number, 0, 0)).save(root / name / f"{number:02}.png")
    return root


def numbers(images: Files) -> list[tuple[str, int]]:
    return [(path.parent.name, np.asarray(images.image(at))[0, 0, 0]) for at, path in enumerate(images.paths)]


def test_folder_with_train_and_val(tmp_path: Path) -> None:
    tree(tmp_path / "train", cat=3, dog=2)
    tree(tmp_path / "val", cat=1, dog=1)
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert dataset.held_out.labels.tolist() == [0, 1]
    assert dataset.train.fitted(0, WHOLE).shape == (3, 32, 32)


def test_every_fifth_image_of_a_class_is_held_out(tmp_path: Path) -> None:
    dataset = open_dataset(tree(tmp_path, cat=7, dog=2))
    assert isinstance(dataset.train, Files)
    assert isinstance(dataset.held_out, Files)
    assert numbers(dataset.held_out) == [("cat", 0), ("cat", 5), ("dog", 0)]
    assert numbers(dataset.train) == [("cat", 1), ("cat", 2), ("cat", 3), ("cat", 4), ("cat", 6), ("dog", 1)]


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a folder; expected train/ and val/"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"found neither subfolders nor images; expected train/ and val/"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"class 'cat' has one image; expected at least two"):
        open_dataset(tree(tmp_path / "few", cat=1, dog=2))
    split = tree(tmp_path / "odd" / "train", cat=2, dog=2).parent
    tree(split / "val", cat=1)
    with pytest.raises(InputError, match=r"train/ has the class 'dog', val/ does not"):
        open_dataset(split)


def test_names_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set is named 'digit'; did you mean 'digits'\?"):
        open_dataset("digit")
    with pytest.raises(InputError, match="omit them for digits"):
        open_dataset("digits", root=tmp_path)
    with pytest.raises(InputError, match="cifar10 requires its folder"):
        open_dataset("cifar10")
    with pytest.raises(InputError, match=r"cifar10 is incomplete .*give the folder of cifar-10-batches-py"):
        open_dataset("cifar10", root=tmp_path)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files in CIFAR-10's format, two images in each, and give torchvision their digests."""
    reader, folder = _require.torchvision("torchvision.datasets").CIFAR10, root / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batches = {}
    for number, (name, _) in enumerate([*reader.train_list, *reader.test_list]):
        pixels = np.zeros((2, 3, 32, 32), np.uint8)
        pixels[:, 1], pixels[:, :, 0, 5] = number, 255  # green all over, white in the first row
        batches[name] = write(name, {"data": pixels.reshape(2, -1), "labels": [number, 9]})
    meta = write(reader.meta["filename"], {"label_names": [f"kind {index}" for index in range(10)]})
    monkeypatch.setattr(reader, "train_list", [batches[name] for name, _ in reader.train_list])
    monkeypatch.setattr(reader, "test_list", [batches[name] for name, _ in reader.test_list])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": meta[1]})


def test_cifar_is_downloaded_once_and_junk_is_not_kept(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    write_cifar(tmp_path / "there", monkeypatch)
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "gztar", tmp_path / "there"))
    reader = _require.torchvision("torchvision.datasets").CIFAR10
    monkeypatch.setattr(reader, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(reader, "url", hub.add_file("cifar.tar.gz", b"<!DOCTYPE html><p>Please log in"))
    with pytest.raises(InputError, match=r"sent a damaged or another file.*; check the network"):
        open_dataset("cifar10", root=tmp_path / "here", download=True)
    assert list((tmp_path / "here").iterdir()) == []
    hub.add_file("cifar.tar.gz", archive.read_bytes())
    for _ in range(2):
        assert len(open_dataset("cifar10", root=tmp_path / "here", download=True).train.labels) == 10
    assert hub.count("GET") == 2


def test_cifar_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch)
    dataset = open_dataset("cifar10", root=tmp_path)
    assert dataset.classes[9] == "kind 9"
    assert dataset.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert dataset.held_out.labels.tolist() == [5, 9]
    image = dataset.held_out.fitted(0, WHOLE)
    assert image[:, 0, 5].tolist() == [1, 1, 1]
    assert image[:, 5, 0].tolist() == pytest.approx([0, 5 / 255, 0])
