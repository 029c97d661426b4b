"""Which files below a folder are images, in which order, and what its subfolders are."""

import logging
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo.converters.quantization import calibration
from fbnet_zoo.datasets import Files, ImageDataset, open_dataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.image_folders import LEVELS, write_clutter, write_images

PREPROCESS = PreprocessSpec(resize=16, crop=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def paths(dataset: ImageDataset) -> set[Path]:
    assert isinstance(dataset.train, Files)
    assert isinstance(dataset.held_out, Files)
    found = [*dataset.train.paths, *dataset.held_out.paths]
    assert len(found) == len(set(found))
    return set(found)


def red_levels(images: calibration.PreparedImages) -> list[int]:
    return [round(float(image[0, 0, 0]) * 255) for image in images.images]


class TestWalker:
    def test_what_systems_leave_behind_is_no_image(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        root = write_images(tmp_path / "data", "cat", "dog")
        expected = set(root.glob("*/*.png"))
        write_images(tmp_path / "other", "cat", "dog")  # beside it, and reached by a link of `write_clutter`
        write_clutter(root, "cat")
        dataset = open_dataset(root)
        assert dataset.classes == ("cat", "dog")
        assert paths(dataset) == expected
        assert "around is a link to a folder whose images were found already" in caplog.text

    def test_calibration_finds_the_same_images(self, tmp_path: Path) -> None:
        root = write_images(tmp_path / "data", "cat", "dog")
        write_clutter(root, "cat")
        found = calibration.load(str(root), PREPROCESS, 3, num_classes=2, labels=("cat", "dog"))
        levels = sorted(red_levels(found.calibrate) + red_levels(found.evaluate))
        assert levels == 5 * [0] + 5 * [LEVELS]
        assert found.evaluate.classes is not None

    def test_linked_folders_are_classes(self, tmp_path: Path) -> None:
        write_images(tmp_path / "elsewhere", "cats", "dogs")
        (tmp_path / "data").mkdir()
        for name in ("cat", "dog"):
            (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere" / f"{name}s")
        assert {path.parent.name for path in paths(open_dataset(tmp_path / "data"))} == {"cat", "dog"}

    def test_a_second_link_to_the_same_images_is_no_class(self, tmp_path: Path) -> None:
        root = write_images(tmp_path, "cat", "dog")
        (root / "animal").symlink_to(root / "cat")
        assert open_dataset(root).classes == ("cat", "dog")

    def test_validation_may_link_to_the_training_images(self, tmp_path: Path) -> None:
        write_images(tmp_path / "train", "cat", "dog", count=2)
        (tmp_path / "val").symlink_to("train")
        assert len(open_dataset(tmp_path).held_out.labels) == 4

    def test_accents_are_the_same_however_they_are_stored(self, tmp_path: Path) -> None:
        root = write_images(tmp_path, "cafe\u0301", "tea")
        assert open_dataset(root).classes == ("caf\u00e9", "tea")
        images = calibration.load(str(root), PREPROCESS, 3, num_classes=2, class_names=("tea", "caf\u00e9")).evaluate
        assert images.classes is not None
        assert sorted(set(images.classes.tolist())) == [0, 1]
        write_images(root, "caf\u00e9")
        with pytest.raises(InputError, match="two folder names differ only in how accents are stored"):
            open_dataset(root)

    def test_a_name_with_a_line_break_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"the folder name 'a\\nb' has a line break"):
            open_dataset(write_images(tmp_path, "a\nb", "c"))


class TestOrder:
    NUMBERS = tuple(map(str, range(12)))

    def test_numbered_classes_have_one_order_everywhere(self, tmp_path: Path) -> None:
        dataset = open_dataset(write_images(tmp_path, *self.NUMBERS))
        assert dataset.classes == self.NUMBERS
        for part in (dataset.train, dataset.held_out):
            levels = [int(np.asarray(part.image(at))[0, 0, 0]) for at in range(len(part.labels))]
            assert levels == [LEVELS * label for label in part.labels.tolist()]
        for names in (None, self.NUMBERS):  # weights with and without names
            images = calibration.load(str(tmp_path), PREPROCESS, 3, num_classes=12, class_names=names).evaluate
            assert images.classes is not None
            assert red_levels(images) == [LEVELS * index for index in images.classes]

    def test_numbers_that_are_names_are_no_indices(self, tmp_path: Path) -> None:
        names = tuple(map(str, range(1, 13)))
        dataset = open_dataset(write_images(tmp_path, *names))
        assert dataset.classes == names
        images = calibration.load(str(tmp_path), PREPROCESS, 3, num_classes=12, class_names=names).evaluate
        assert images.classes is not None
        assert red_levels(images) == [LEVELS * index for index in images.classes]
        shifted = calibration.load(str(write_images(tmp_path, "0")), PREPROCESS, 3, num_classes=12, class_names=names)
        assert shifted.evaluate.classes is None

    def test_other_names_are_in_alphabetical_order(self, tmp_path: Path) -> None:
        assert open_dataset(write_images(tmp_path, "10", "9", "b9", "b10")).classes == ("10", "9", "b10", "b9")

    def test_calibration_goes_by_the_names_of_the_weights(self, tmp_path: Path) -> None:
        root = write_images(tmp_path, "a", "b")
        images = calibration.load(
            str(root), PREPROCESS, 3, num_classes=2, labels=("Bee", "Ant"), class_names=("b", "a")
        ).evaluate
        assert images.classes is not None
        assert red_levels(images) == [LEVELS * (1 - index) for index in images.classes]

    @pytest.mark.parametrize("names", [("a", "b", "c"), ("b", "c", "d")])
    def test_calibration_with_other_classes_has_no_accuracy(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        root = write_images(tmp_path, "c", "d", "e")
        assert calibration.load(str(root), PREPROCESS, 3, num_classes=3, class_names=names).evaluate.classes is None

    def test_digits_of_a_network_with_other_classes_have_no_accuracy(self) -> None:
        letters = calibration.load("digits", PREPROCESS, 3, num_classes=10, class_names=tuple("abcdefghij"))
        assert letters.evaluate.classes is None
        backwards = calibration.load("digits", PREPROCESS, 3, num_classes=10, class_names=tuple("9876543210"))
        plain = calibration.load("digits", PREPROCESS, 3, num_classes=10)
        assert backwards.evaluate.classes is not None
        assert plain.evaluate.classes is not None
        assert (backwards.evaluate.classes == 9 - plain.evaluate.classes).all()


class TestSplit:
    @pytest.mark.parametrize(
        ("train", "held_out"),
        [
            ("train", "val"),
            ("Train", "VALID"),
            ("TRAIN", "Validation"),
            ("train", "test"),
            ("training", "validation"),
        ],
    )
    def test_is_understood_in_any_spelling(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, train: str, held_out: str
    ) -> None:
        write_images(tmp_path / train, "cat", "dog", count=3)
        write_images(tmp_path / held_out, "cat", "dog", count=1)
        with caplog.at_level(logging.INFO):
            dataset = open_dataset(tmp_path)
        assert dataset.classes == ("cat", "dog")
        assert (len(dataset.train.labels), len(dataset.held_out.labels)) == (6, 2)
        assert dataset.split == f"the images of {held_out}/"
        assert f"held out are the images of {held_out}/" in caplog.text

    def test_validation_comes_before_test(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for part in ("train", "test", "valid"):
            write_images(tmp_path / part, "cat", "dog", count=2)
        with caplog.at_level(logging.INFO):
            assert open_dataset(tmp_path).split == "the images of valid/"
        assert "not used: test/" in caplog.text

    def test_calibration_learns_from_one_part_and_judges_by_the_other(self, tmp_path: Path) -> None:
        write_images(tmp_path / "train", "cat", "dog", count=6)
        write_images(tmp_path / "Val", "dog", "cat", count=2)  # with the other colors
        both = calibration.load(str(tmp_path), PREPROCESS, 3, num_classes=2, class_names=("cat", "dog"))
        assert red_levels(both.calibrate) == 6 * [0] + 6 * [LEVELS]
        assert red_levels(both.evaluate) == 2 * [LEVELS] + 2 * [0]
        assert both.evaluate.classes is not None
        assert both.evaluate.classes.tolist() == [0, 0, 1, 1]
        assert both.evaluate.source == f"4 images of the folder {tmp_path.name}/Val"

    @pytest.mark.parametrize(
        ("folders", "found"),
        [
            (["train/cat", "train/dog"], "found only a part of a split, train/"),
            (["Val/cat", "Val/dog"], "found only a part of a split, Val/"),
            (["val/cat", "val/dog", "test/cat", "test/dog"], "found only a part of a split, test/ and val/"),
            (["train/cat", "train/dog", "extra/cat"], "found only a part of a split, train/"),
            (["train/cat", "Train/cat", "val/cat"], "Train/ and train/ could be the same part of a split"),
            (["train/cat", "val/cat", "valid/cat"], "val/ and valid/ could be the same part of a split"),
            (["a/train/cat", "a/val/cat", "b/train/cat", "b/val/cat"], "a split inside a/, train/ and val/"),
            (["set/train/cat", "set/val/cat"], "a split inside set/, train/ and val/"),
            (["train/train/cat", "train/val/cat", "val/cat", "val/dog"], "found only a part|found a part of a split"),
            (["cat/train", "dog/train"], "found a part of a split inside cat/, train/"),
            (["train/cat", "val/cat"], "train: found a single class, 'cat'"),
            (["cat"], "found a single class, 'cat'"),
            (["train/cat", "train/dog", "val/cat", "val/owl"], "train/ has the class 'dog', val/ does not"),
            ([], "found neither subfolders nor images"),
        ],
    )
    def test_what_is_no_data_set_is_refused_with_what_was_found(
        self, tmp_path: Path, folders: list[str], found: str
    ) -> None:
        for folder in folders:
            write_images(tmp_path, folder)
        with pytest.raises(InputError, match=found):
            open_dataset(tmp_path)

    def test_images_without_folders_are_no_data_set(self, tmp_path: Path) -> None:
        write_images(tmp_path.parent, tmp_path.name, count=3)
        with pytest.raises(InputError, match="found 3 images but no subfolders"):
            open_dataset(tmp_path)

    def test_an_empty_class_is_refused(self, tmp_path: Path) -> None:
        write_images(tmp_path, "cat", "dog")
        (tmp_path / "owl" / ".hidden").mkdir(parents=True)
        with pytest.raises(InputError, match="the class 'owl' has no images; add some, or remove its folder"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize("names", [("bus", "car", "train"), ("invalid", "valid")])
    def test_classes_may_have_such_names(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...]
    ) -> None:
        assert open_dataset(write_images(tmp_path, *names)).classes == names
        assert f"{names[-1]}/ is taken for a class, since there is no other part of a split" in caplog.text
