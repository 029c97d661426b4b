"""The evaluation transform against timm's and against a few lines of Pillow and numpy."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo import _require
from fbnet_zoo.data import load_image, photographs
from fbnet_zoo.preprocess import eval_transform
from fbnet_zoo.spec import PreprocessSpec

# Multiplying by 1/255 (torchvision v2) and dividing by 255 (timm, numpy) differ by one float32 rounding of a value
# of at most 1, which the division by a std of 0.2 or more enlarges fivefold: 5 * 2**-23.
ROUNDING = 1e-6
# Both resize uint8 images with fixed-point weights of different precision, so a value close to a half is rounded up by
# one and down by the other: one of 255 levels.
TENSOR_DIFFERENCE = 1 / 255 + ROUNDING

RECIPES = [
    pytest.param(224, 0.875, "bilinear", id="fbnetc_100"),
    pytest.param(224, 0.95, "bilinear", id="fbnetv3_b"),
    pytest.param(288, 0.95, "bilinear", id="fbnetv3_g"),
    pytest.param(299, 0.9, "bicubic", id="odd-bicubic"),
    pytest.param(192, 1.0, "nearest", id="whole-nearest"),
]
SIZES = [(600, 400), (333, 517), (401, 401), (150, 97)]


def recipe(crop: int, crop_pct: float, **options: Any) -> PreprocessSpec:
    return PreprocessSpec(resize=math.floor(crop / crop_pct), crop=crop, **options)


def noise(size: tuple[int, int]) -> Image.Image:
    """An image of `size` (width, height) in which a shift by one pixel cannot hide."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def by_hand(image: Image.Image, spec: PreprocessSpec) -> Tensor:
    scale = spec.resize / min(image.size)
    size = [spec.resize if side == min(image.size) else int(side * scale + 1e-9) for side in image.size]
    resized = image.resize(size, Image.Resampling[spec.interpolation.upper()])
    left, top = (round((side - spec.crop) / 2) for side in size)
    pixels = np.asarray(resized, dtype=np.float64)[top : top + spec.crop, left : left + spec.crop] / 255
    pixels = pixels[..., :: -1 if spec.order == "bgr" else 1]
    return torch.from_numpy(((pixels - spec.mean) / spec.std).transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop", "crop_pct", "interpolation"), RECIPES)
def test_equals_timm(crop: int, crop_pct: float, interpolation: str, size: tuple[int, int]) -> None:
    _require.torchvision()  # timm imports it too, and cannot beside a CPU build of torch
    from timm.data.transforms_factory import create_transform

    spec = recipe(crop, crop_pct, interpolation=interpolation)
    theirs = create_transform((3, crop, crop), interpolation=interpolation, crop_pct=crop_pct)
    torch.testing.assert_close(eval_transform(spec)(noise(size)), theirs(noise(size)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop", "crop_pct", "interpolation"), RECIPES)
def test_equals_pillow_and_numpy(
    crop: int, crop_pct: float, interpolation: str, size: tuple[int, int], order: str
) -> None:
    channels: dict[str, Any] = {"order": order, "mean": (0.1, 0.5, 0.8), "std": (0.2, 0.5, 1.0)}
    spec = recipe(crop, crop_pct, interpolation=interpolation, **channels)
    torch.testing.assert_close(eval_transform(spec)(noise(size)), by_hand(noise(size), spec), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("path", photographs(), ids=lambda path: path.stem)
def test_tensor_is_treated_like_a_pillow_image(path: Path, interpolation: str) -> None:
    spec = recipe(224, 0.875, interpolation=interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    image = load_image(path)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    transform = eval_transform(spec)
    torch.testing.assert_close(transform(tensor), transform(image), rtol=0, atol=TENSOR_DIFFERENCE)
    torch.testing.assert_close(transform(tensor[None])[0], transform(tensor), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    image = noise((300, 280)).convert(mode)
    transform = eval_transform(recipe(224, 0.875))
    torch.testing.assert_close(transform(image), transform(image.convert("RGB")), rtol=0, atol=0)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_output_is_a_plain_tensor_and_the_transform_can_be_pickled(order: str) -> None:
    transform = eval_transform(recipe(224, 0.875, order=order))
    output = transform(noise((300, 280)))
    assert type(output) is Tensor
    assert output.dtype == torch.float32
    assert output.shape == (3, 224, 224)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(noise((300, 280))), output)
