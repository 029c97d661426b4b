"""The interpreter on whole packages: networks, images, classes, flexible shapes, compressed weights, broken files."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fbnet_zoo._require import quiet, require, torchvision
from fbnet_zoo.converters import mil_interpreter
from fbnet_zoo.errors import ConversionError, InputError
from tests.mil_packages import MINIMUM_DB, only_output, save, save_built, snr_db, with_random_statistics

pytestmark = pytest.mark.coreml

WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")


class SmallNet(nn.Module):
    """Large enough in all but its last layer for coremltools to keep the weights in a file of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.classifier = nn.Conv2d(3, 64, 3, 2, 1), nn.Conv2d(64, 64, 1), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x).relu()).relu()
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.classifier(x.mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    return SmallNet().eval()


@pytest.fixture(params=MINIMUM_DB)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def fbnet_c() -> nn.Module:
    torchvision()  # timm imports it
    with quiet():
        import timm

        return with_random_statistics(timm.create_model("fbnetc_100", num_classes=10))


def folded(model: nn.Module) -> nn.Module:
    """Fold every batch norm of timm's FBNet-C into the convolution before it."""
    model = copy.deepcopy(model)
    for parent in [module for module in model.modules() if not isinstance(module, nn.Sequential)]:
        children = dict(parent.named_children())
        for name, norm in children.items():
            if isinstance(norm, nn.BatchNorm2d):
                conv = {"bn1": "conv_pw", "bn2": "conv_dw", "bn3": "conv_pwl"}[name]
                ...
    return model
