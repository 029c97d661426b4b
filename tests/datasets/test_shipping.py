"""Data sets on their way to other processes."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fbnet_zoo.datasets import ImageDataset, Subset, dataset_digest, open_dataset, some_classes
from fbnet_zoo.datasets.shipping import Shipped
from fbnet_zoo.errors import InputError
from tests.helpers.image_folders import write_images


def part_of(dataset: ImageDataset) -> ImageDataset:
    """Some images of some classes, in another order."""
    few = some_classes(dataset, 2, seed=0)
    order = torch.arange(len(few.train.labels)).flip(0)[:8]
    return replace(few, train=Subset(few.train, order), held_out=Subset(few.train, order[:2]))


def arrived(content: bytes) -> ImageDataset:
    return pickle.loads(content).dataset


def test_what_was_opened_by_name_is_opened_again() -> None:
    whole = open_dataset("digits")
    content = pickle.dumps(Shipped(part_of(whole)))
    assert len(content) < 30_000 < len(pickle.dumps(whole.train))
    found = arrived(content)
    assert dataset_digest(found) == dataset_digest(part_of(whole))
    assert (found.name, found.classes, found.split) == (whole.name, part_of(whole).classes, whole.split)
    assert arrived(content) is found  # so that its images are not read again


def test_other_images_travel_themselves(few_digits: ImageDataset) -> None:
    own = replace(few_digits, name="mine")
    assert dataset_digest(arrived(pickle.dumps(Shipped(own)))) == dataset_digest(own)


def test_folder_is_opened_again_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", "a", "b", "c")
    monkeypatch.chdir(tmp_path)
    whole = open_dataset(Path("images"))
    content = pickle.dumps(Shipped(part_of(whole)))
    monkeypatch.chdir("/")
    assert dataset_digest(arrived(content)) == dataset_digest(part_of(whole))


def test_folder_that_has_changed_since(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a", "b")
    content = pickle.dumps(Shipped(open_dataset(tmp_path / "images")))
    first = min((tmp_path / "images").rglob("*.png"))
    first.rename(first.with_name("zzz.png"))
    with pytest.raises(InputError, match=r"^the images of images are others than when the search began"):
        arrived(content)


def test_images_that_cannot_travel(few_digits: ImageDataset) -> None:
    class Own(Subset):
        pass

    own = replace(few_digits, name="mine", train=Own(few_digits.train, torch.arange(5)))
    with pytest.raises(InputError, match=r"^the images of mine cannot be sent to other processes \(.*Own.*\); define"):
        pickle.dumps(Shipped(own))
