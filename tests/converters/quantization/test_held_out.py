"""Quantized networks are judged on images that did not give their ranges, and all of a folder gives the ranges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbnet_zoo.converters.program import deploy_form
from fbnet_zoo.converters.quantization import sensitivity
from fbnet_zoo.converters.quantization.calibration import LARGEST_FOLDER, PreparedImages, load
from fbnet_zoo.converters.quantization.simulation import RoundedNetwork
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import PreprocessSpec

RANGES, JUDGED = 24, 24
"""Images for the ranges, and for the judgement."""

PREPROCESS = PreprocessSpec(resize=8, crop=8)


@pytest.fixture(scope="module")
def network(trained_digits_model: FBNet) -> FBNet:
    return deploy_form(trained_digits_model)


@pytest.fixture(scope="module")
def digits(network: FBNet) -> np.ndarray:
    return load("digits", network.spec.eval_preprocess(), 3).calibrate.images[: RANGES + JUDGED]


def kept(network: FBNet, images: np.ndarray) -> frozenset[str]:
    samples = PreparedImages(images=np.ascontiguousarray(images), source="a test")
    return sensitivity.choose(network, samples, min_top1_agreement=0.9)


class TestChoice:
    def test_is_judged_on_images_that_did_not_give_the_ranges(self, network: FBNet, digits: np.ndarray) -> None:
        """Faint images give ranges that bright ones exceed; on the faint ones alone, nothing would be kept."""
        faint = np.concatenate([digits[:RANGES] * 0.2, digits[RANGES:]])
        assert kept(network, digits[:RANGES] * 0.2) == frozenset()
        found = kept(network, faint)
        assert found
        simulation = RoundedNetwork(network, faint[:RANGES])
        expected = simulation(faint[RANGES:], ())
        quality = {
            count: sensitivity.snr_db(expected, simulation(faint[RANGES:], order))
            for count, order in (
                (0, simulation.layers),
                (len(found), [name for name in simulation.layers if name not in found]),
            )
        }
        assert quality[0] < sensitivity.MIN_SQNR_DB <= quality[len(found)]

    def test_ranges_are_those_of_the_first_images(self, network: FBNet, digits: np.ndarray) -> None:
        """Bright images give ranges that are too coarse for faint ones; judged on the bright ones, nothing is kept."""
        bright = np.concatenate([digits[:RANGES] * 40, digits[RANGES:]])
        assert kept(network, digits) == frozenset()
        assert kept(network, digits[:RANGES] * 40) == frozenset()
        assert kept(network, bright)


class TestFolder:
    @pytest.mark.parametrize("count", [LARGEST_FOLDER + 1, 600])
    def test_is_taken_evenly_to_its_end(self, tmp_path: Path, count: int) -> None:
        """Images of growing brightness; the first and the last tenth of the folder are among those taken."""
        for index in range(count):
            Image.new("L", (8, 8), 255 * index // count).save(tmp_path / f"{index:04}.bmp")
        both = load(str(tmp_path), PREPROCESS, 3)
        for samples in (both.calibrate, both.evaluate):
            assert len(samples.images) == LARGEST_FOLDER // 2
            levels = samples.images[:, 0, 0, 0] * PREPROCESS.std[0] + PREPROCESS.mean[0]
            assert levels.min() < 0.02
            assert levels.max() > 0.97
            steps = np.diff(levels)
            assert steps.max() < 0.02
            assert (steps >= 0).all()

    def test_shows_the_evaluation_no_image_of_the_calibration(self, tmp_path: Path) -> None:
        for index in range(9):
            Image.new("L", (8, 8), 20 * index).save(tmp_path / f"{index}.bmp")
        both = load(str(tmp_path), PREPROCESS, 3)
        taken = [{image.tobytes() for image in samples.images} for samples in (both.calibrate, both.evaluate)]
        assert [len(images) for images in taken] == [5, 4]
        assert not taken[0] & taken[1]


def test_digits_that_calibrate_are_none_that_judge() -> None:
    both = load("digits", PREPROCESS, 1)
    taken = [{image.tobytes() for image in samples.images} for samples in (both.calibrate, both.evaluate)]
    assert not taken[0] & taken[1]


def test_the_ranges_are_those_of_the_calibration(network: FBNet, digits: np.ndarray) -> None:
    """Values beyond them are cut: logits of brighter images end at the largest logit of the calibration."""
    rounded = RoundedNetwork(network, digits[:RANGES])
    with torch.no_grad():
        plain = network(torch.from_numpy(digits[:RANGES])).numpy()
    bright = rounded(digits[RANGES:] * 3, ["classifier"])
    step = (max(plain.max(), 0) - min(plain.min(), 0)) / 255
    assert plain.min() - step <= bright.min()
    assert bright.max() <= plain.max() + step
