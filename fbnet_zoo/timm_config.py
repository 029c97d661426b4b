"""What a network's weights expect, in the form of timm's `pretrained_cfg`."""

import math
from typing import Any

from fbnet_zoo.spec import ArchSpec, PreprocessSpec


def pretrained_cfg(spec: ArchSpec, *, weights: str | None, in_chans: int, num_classes: int) -> dict[str, Any]:
    """Return the configuration of a network, as `timm.data.resolve_data_config` and timm's trainers read it.

    Mean and std are in the order of RGB: timm has no other order of channels, so the images of its transform must be
    flipped (`image.flip(-3)`) for definitions whose preprocessing has the order `bgr`.

    Args:
        spec: definition of the network.
        weights: name of its weights, as in `FBNet.weights`.
        in_chans: channels of the image.
        num_classes: outputs of the classifier.
    """
    images = spec.eval_preprocess(weights)
    step = -1 if images.order == "bgr" else 1
    return {
        "architecture": spec.name,
        "tag": weights,
        "num_classes": num_classes,
        "input_size": (in_chans, images.crop, images.crop),
        "crop_pct": _crop_pct(images),
        "crop_mode": "center",
        "interpolation": images.interpolation,
        "mean": images.mean[::step],
        "std": images.std[::step],
        "first_conv": "stem.conv",
        "classifier": "classifier",
    }


def _crop_pct(images: PreprocessSpec) -> float:
    """Return the share of the resized image that is kept; timm computes `floor(crop / crop_pct)` from it."""
    share = images.crop / images.resize
    while math.floor(images.crop / share) < images.resize:  # a rounding error
        share = math.nextafter(share, 0)
    return share
