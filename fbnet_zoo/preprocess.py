"""From an image to the input of a network: the evaluation transform of a definition or of weights."""

from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo import _require
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import PreprocessSpec


def rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB with 8 bits per channel, which is what networks are trained on.

    Transparent images are placed on white. Of 16 bits, the upper eight are used, which is also what Pillow and browsers
    do with 16-bit colors. The code that bundles carry for apps does the same.

    Raises:
        InputError: the image has 32-bit values, which have no fixed range.

    >>> rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    >>> rgb(Image.new("I;16", (1, 1), 40000)).getpixel((0, 0))  # 40000 // 256
    (156, 156, 156)
    """
    if image.mode in {"I", "F"}:
        raise InputError(f"has 32-bit values without a fixed range (Pillow's mode {image.mode}); convert it to 8 bits")
    if image.mode.startswith("I;16"):
        levels = np.asarray(image)
        hidden = levels == image.info.get("transparency")
        return Image.fromarray(np.where(hidden, 255, levels >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(layer, mask=layer)
    return white


def eval_transform(preprocess: PreprocessSpec, channels: int = 3) -> Callable[[Image.Image | Tensor], Tensor]:
    """Return the transform from an image to the normalized input that `preprocess` describes.

    The image is a `PIL.Image.Image` of any kind that `rgb` converts, or a uint8 tensor of shape (..., 3, H, W) in RGB
    order; both are scaled with antialiasing. Results differ by at most one level of 255; published accuracies were
    measured with Pillow. The transform can be pickled, for the workers of a data loader.

    Args:
        preprocess: sizes in pixels; mean and std in its own channel order, on the 0-1 scale.
        channels: channels of the network's input; a single one is the mean of RGB, normalized by the means of the three
            channels' statistics.

    Returns:
        A `torchvision.transforms.v2.Compose` whose output is a float32 tensor of shape (..., channels, crop, crop).

    Raises:
        InputError: `channels` is neither 1 nor 3.

    >>> transform = eval_transform(PreprocessSpec(resize=256, crop=224))
    >>> transform(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 224, 224])
    """
    if channels not in {1, 3}:
        raise InputError(f"images have 1 or 3 channels, but the network expects {channels}; prepare them yourself")
    v2 = _require.torchvision("torchvision.transforms.v2")
    # Pillow's "nearest" is the nearest pixel; PyTorch's is the one above and to the left.
    interpolation = preprocess.interpolation.replace("nearest", "nearest-exact")
    return v2.Compose(
        [
            v2.Lambda(rgb, Image.Image),
            v2.RGB(),
            v2.Resize(preprocess.resize, v2.InterpolationMode(interpolation), antialias=True),
            v2.CenterCrop(preprocess.crop),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            *(_gray(preprocess) if channels == 1 else _colors(preprocess)),
        ]
    )


def _colors(preprocess: PreprocessSpec) -> list[Any]:
    v2 = _require.torchvision("torchvision.transforms.v2")
    order = v2.Lambda(_rgb_to_bgr) if preprocess.order == "bgr" else v2.Identity()
    return [order, v2.Normalize(mean=list(preprocess.mean), std=list(preprocess.std))]


def _gray(preprocess: PreprocessSpec) -> list[Any]:
    v2 = _require.torchvision("torchvision.transforms.v2")
    return [v2.Lambda(_mean_of_colors), v2.Normalize(mean=[fmean(preprocess.mean)], std=[fmean(preprocess.std)])]


def _mean_of_colors(image: Tensor) -> Tensor:
    return image.mean(-3, keepdim=True)


def _rgb_to_bgr(image: Tensor) -> Tensor:
    return image.flip(-3)
