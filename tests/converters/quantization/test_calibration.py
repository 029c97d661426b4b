"""The images that networks are quantized with: shipped photographs, folders and digits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbnet_zoo.converters.quantization.calibration import LARGEST_FOLDER, PreparedImages, load
from fbnet_zoo.data import digits
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import PreprocessSpec

PREPROCESS = PreprocessSpec(resize=40, crop=32)
KINDS = "(bmp, gif, jpeg, jpg, pgm, png, ppm, tif, tiff, webp)"


def picture(path: Path, level: int) -> None:
    """Write a flat grey picture, which is known again after it was prepared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (48, 40), level).save(path)


def levels(samples: PreparedImages) -> list[int]:
    mean, std = PREPROCESS.mean[0], PREPROCESS.std[0]
    return [round(float(image[0, 0, 0] * std + mean) * 255) for image in samples.images]


class TestPhotographs:
    def test_are_cut_into_distinct_images_that_are_the_same_every_time(self) -> None:
        first, again = (load(None, PREPROCESS, 3) for _ in range(2))
        assert first.calibrate.images.shape == (48, 3, 32, 32)
        assert first.evaluate.images.shape == (24, 3, 32, 32)
        images = np.concatenate([first.calibrate.images, first.evaluate.images])
        assert len(np.unique(images.reshape(72, -1), axis=0)) == 72
        np.testing.assert_array_equal(first.calibrate.images, again.calibrate.images)
        np.testing.assert_array_equal(first.evaluate.images, again.evaluate.images)
        assert first.calibrate.source == "48 crops and flips of 2 photographs that come with fbnet_zoo"
        assert first.evaluate.classes is None

    def test_look_like_photographs(self) -> None:
        images = load(None, PREPROCESS, 3).calibrate.images
        assert images.dtype == np.float32
        assert (images.std((1, 2, 3)) > 0.1).all()
        assert 0.5 < images.std() < 1.5

    @pytest.mark.parametrize("channels", [1, 4])
    def test_of_other_channels(self, channels: int) -> None:
        both = load(None, PREPROCESS, channels)
        assert both.evaluate.images.shape == (24, channels, 32, 32)
        assert ("noise" in both.evaluate.source) == (channels == 4)


class TestFolder:
    def test_is_split_in_two_with_all_its_sub_folders(self, tmp_path: Path) -> None:
        for index in range(5):
            picture(tmp_path / f"{'ab'[index % 2]}" / "deep" / f"{index}.png", 10 * index)
        (tmp_path / "a" / "notes.txt").write_text("no image")
        both = load(str(tmp_path), PREPROCESS, 3)
        assert levels(both.calibrate) == [0, 40, 30]  # a: 0, 2, 4; b: 1, 3; every second one
        assert levels(both.evaluate) == [20, 10]
        assert both.calibrate.source == f"3 images of the folder {tmp_path.name}"
        assert both.calibrate.classes is None

    @pytest.mark.parametrize(("names", "labels"), [(("3", "1"), None), (("lid", "cat"), ("owl", "cat", "dog", "lid"))])
    def test_of_classes_knows_them(
        self, tmp_path: Path, names: tuple[str, str], labels: tuple[str, ...] | None
    ) -> None:
        for name, index in zip(names, (3, 1), strict=True):
            for number in range(4):
                picture(tmp_path / name / f"{number}.png", index)
        both = load(str(tmp_path), PREPROCESS, 3, num_classes=4, labels=labels)
        for samples in (both.calibrate, both.evaluate):
            assert samples.classes is not None
            assert samples.classes.tolist() == levels(samples)
            assert set(samples.classes) == {1, 3}

    def test_with_one_other_sub_folder_knows_none(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("0", "1", "others"):
            picture(tmp_path / name / "a.png", 1)
        assert load(str(tmp_path), PREPROCESS, 3, num_classes=4).evaluate.classes is None
        assert "not every subfolder is named after a class; accuracy is not measured" in caplog.text

    def test_of_very_many_images_is_taken_evenly(self, tmp_path: Path) -> None:
        picture(tmp_path / "0000.png", 0)
        for index in range(1, 2 * LARGEST_FOLDER):
            (tmp_path / f"{index:04}.png").symlink_to(tmp_path / "0000.png")
        both = load(str(tmp_path), PREPROCESS, 3)
        assert len(both.calibrate.images) + len(both.evaluate.images) == LARGEST_FOLDER

    def test_in_grey(self, tmp_path: Path) -> None:
        for index in range(2):
            picture(tmp_path / f"{index}.png", 100)
        assert load(str(tmp_path), PREPROCESS, 1).calibrate.images.shape == (1, 1, 32, 32)

    @pytest.mark.parametrize(
        ("source", "channels", "message"),
        [
            ("digts", 3, r"^calibration cannot be 'digts'; did you mean 'digits'\?$"),
            ("/no/such", 3, "^calibration cannot be '/no/such'; expected a folder of images, or digits$"),
            (".", 4, "^calibration images have 1 or 3 channels, the network has 4; leave out calibration$"),
            ("digits", 4, "^images have 1 or 3 channels, but the network expects 4; use other images$"),
        ],
    )
    def test_mistakes(self, source: str, channels: int, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load(source, PREPROCESS, channels)

    def test_without_two_images(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as caught:
            load(str(tmp_path), PREPROCESS, 3)
        assert str(caught.value) == f"{tmp_path}: 0 images are too few for calibration; expected two or more {KINDS}"

    def test_with_a_broken_image_names_it(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", 1)
        (tmp_path / "b.png").write_text("no image")
        with pytest.raises(InputError, match=r"b\.png: not an image"):
            load(str(tmp_path), PREPROCESS, 3)


class TestDigits:
    def test_calibrate_with_those_to_train_on_and_evaluate_with_others(self) -> None:
        both, (train, held_out) = load("digits", PREPROCESS, 3, num_classes=10), digits()
        np.testing.assert_array_equal(both.calibrate.images, train.images(PREPROCESS)[:128])
        np.testing.assert_array_equal(both.evaluate.images, held_out.images(PREPROCESS))
        assert both.evaluate.classes is not None
        assert both.evaluate.classes.tolist() == held_out.classes.tolist()

    def test_have_no_classes_for_a_network_of_others(self) -> None:
        assert load("digits", PREPROCESS, 3, num_classes=1000).evaluate.classes is None

    def test_are_split_once_and_for_all(self) -> None:
        train, held_out = digits()
        assert (len(train.classes), len(held_out.classes)) == (1437, 360)
        assert train.classes[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
        assert held_out.classes[-3:].tolist() == [8, 9, 8]  # as in UCI's optdigits.tes
        shared = torch.cdist(train.pixels.flatten(1), held_out.pixels.flatten(1)).min()
        assert shared > 0

    def test_fill_the_input_and_are_normalized(self) -> None:
        train, _ = digits()
        color, grey = (train.images(PREPROCESS, channels=channels, limit=5) for channels in (3, 1))
        assert (color.shape, grey.shape) == ((5, 3, 32, 32), (5, 1, 32, 32))
        mean, std = (torch.tensor(values)[:, None, None] for values in (PREPROCESS.mean, PREPROCESS.std))
        pixels = color * std + mean
        torch.testing.assert_close(pixels[:, 0], pixels[:, 2])
        torch.testing.assert_close(pixels[:, :1], grey * std.mean() + mean.mean())
        small = torch.nn.functional.avg_pool2d(pixels[:, 0], 4)
        assert torch.corrcoef(torch.stack([small.flatten(), train.pixels[:5].flatten()]))[0, 1] > 0.95


def test_batches_are_filled_up_with_the_first_images() -> None:
    samples = PreparedImages(images=np.arange(5, dtype=np.float32)[:, None], source="numbers")
    assert [batch[:, 0].tolist() for batch in samples.batches(2)] == [[0, 1], [2, 3], [4, 0]]
    assert [batch[:, 0].tolist() for batch in samples.batches(7)] == [[0, 1, 2, 3, 4, 0, 1]]
