"""Every image is read once before a long run: what cannot be read is named, and the content has a digest."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fbnet_zoo.converters.quantization import calibration
from fbnet_zoo.datasets import Pixels, Subset, dataset_digest, open_dataset, read_each, read_images, with_classes
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.image_folders import write_images


def damage(root: Path, count: int) -> list[Path]:
    """Damage the first images of a folder in every way there is; return their paths."""
    chosen = sorted(root.rglob("*.png"))[:count]
    for number, path in enumerate(chosen):
        content = path.read_bytes()
        path.unlink()
        if number % 3 == 0:
            path.write_text("no image")
        elif number % 3 == 1:
            path.write_bytes(content[: len(content) // 2])
        else:
            path.symlink_to(root / "nowhere.png")
    return chosen


def calibrate(root: Path) -> object:
    return calibration.load(str(root), PreprocessSpec(resize=16, crop=16), 3)


@pytest.mark.parametrize("read", [lambda root: dataset_digest(open_dataset(root)), calibrate])
def test_all_unreadable_images_are_named_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    write_images(tmp_path, "cat", "dog")
    bad = damage(tmp_path, 4)  # the first of which is held out
    with pytest.raises(InputError, match=r"^4 of 10 images cannot be read: ") as caught:
        read(tmp_path)
    assert all(str(path) in str(caught.value) for path in bad)
    assert "\n" not in str(caught.value)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    write_images(tmp_path, "cat", "dog", count=10)
    bad = damage(tmp_path, 20)
    with pytest.raises(InputError, match=r"^16 of 16 images cannot be read.*; and 6 more$") as caught:
        read_images(open_dataset(tmp_path).train)
    assert sum(str(path) in str(caught.value) for path in bad) == 10


def test_images_are_read_in_parallel_and_counted() -> None:
    both, seen = threading.Barrier(2, timeout=30), list[int]()

    def read(index: int) -> bytes:
        if index in {0, 40}:  # of two threads, which wait for each other
            both.wait()
        return bytes([index])

    def track(items: Sequence[int], title: str) -> Sequence[int]:
        assert title == "reading images"
        seen.append(len(items))
        return items

    assert read_each(read, 64, track) == [bytes([index]) for index in range(64)]
    assert seen == [64]


def test_digest_tells_other_images_of_the_same_names(tmp_path: Path) -> None:
    one, same, other = (write_images(tmp_path / name, "cat", "dog") for name in ("one", "same", "other"))
    for held_out in (False, True):
        path = other / "dog" / ("00.png" if held_out else "03.png")
        before = path.read_bytes()
        Image.new("RGB", (16, 16), (1, 2, 3)).save(path)
        assert dataset_digest(open_dataset(one)) == dataset_digest(open_dataset(same))
        assert dataset_digest(open_dataset(one)) != dataset_digest(open_dataset(other))
        path.write_bytes(before)
    assert dataset_digest(open_dataset(one)) == dataset_digest(open_dataset(other))


def test_digest_tells_other_labels_and_pixels() -> None:
    dataset = open_dataset("digits")
    assert isinstance(dataset.train, Pixels)
    digests = {dataset_digest(dataset)}
    changed = dataset.train.pixels.clone()
    changed[7, 0, 3, 3] += 1 / 16
    for part in (replace(dataset.train, labels=dataset.train.labels.flip(0)), replace(dataset.train, pixels=changed)):
        digests.add(dataset_digest(replace(dataset, train=part)))
    assert len(digests) == 3


def test_a_set_is_read_once_however_often_it_is_used() -> None:
    class Counting:
        labels = torch.tensor([0, 1, 1])
        reads = 0

        def image(self, index: int) -> torch.Tensor:
            self.reads += 1
            return torch.full((1, 2, 2), float(index))

        def fitted(self, index: int, preprocess: PreprocessSpec) -> torch.Tensor:
            raise NotImplementedError

    images = Counting()
    (whole,) = read_images(images)
    own, others = read_images(Subset(images, torch.tensor([2, 0])), Subset(images, torch.tensor([1])))
    assert (own == whole[[2, 0]]).all()
    assert (others == whole[[1]]).all()
    assert images.reads == 3


def test_classes_in_another_order_keep_their_images() -> None:
    dataset = open_dataset("digits")
    backwards = with_classes(dataset, tuple("9876543210"))
    assert backwards.classes[0] == "9"
    for ours, theirs in ((backwards.train, dataset.train), (backwards.held_out, dataset.held_out)):
        assert torch.equal(ours.labels, 9 - theirs.labels)
        assert torch.equal(torch.as_tensor(ours.image(5)), torch.as_tensor(theirs.image(5)))
