"""From an image to the input of a network: the evaluation transform of a definition or of weights."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from fbnet_zoo import _require
from fbnet_zoo.spec import PreprocessSpec


def eval_transform(preprocess: PreprocessSpec) -> Callable[[Image.Image | Tensor], Tensor]:
    """Return the transform from an image to the normalized input that `preprocess` describes.

    The image is a `PIL.Image.Image`, gray or color, or a uint8 tensor of shape (..., 3, H, W) in RGB order; both are
    scaled with antialiasing. Results differ by at most one level of 255; published accuracies were measured with
    Pillow. The transform can be pickled, for the workers of a data loader.

    Args:
        preprocess: sizes in pixels; mean and std in its own channel order, on the 0-1 scale.

    Returns:
        A `torchvision.transforms.v2.Compose` whose output is a float32 tensor of shape (..., 3, crop, crop).

    >>> transform = eval_transform(PreprocessSpec(resize=256, crop=224))
    >>> transform(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 224, 224])
    """
    v2 = _require.torchvision("torchvision.transforms.v2")
    # Pillow's "nearest" is the nearest pixel; PyTorch's is the one above and to the left.
    interpolation = preprocess.interpolation.replace("nearest", "nearest-exact")
    return v2.Compose(
        [
            v2.RGB(),
            v2.Resize(preprocess.resize, v2.InterpolationMode(interpolation), antialias=True),
            v2.CenterCrop(preprocess.crop),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Lambda(_rgb_to_bgr) if preprocess.order == "bgr" else v2.Identity(),
            v2.Normalize(mean=list(preprocess.mean), std=list(preprocess.std)),
        ]
    )


def _rgb_to_bgr(image: Tensor) -> Tensor:
    return image.flip(-3)
