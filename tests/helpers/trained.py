"""A network with trained weights, of which accuracy means something."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.data import digits
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize

EPOCHS, BATCH = 8, 32


@pytest.fixture(scope="session")
def digits_spec(tiny_spec: ArchSpec) -> ArchSpec:
    """The definition of the small network with something of everything, for 32 px."""
    return tiny_spec.model_copy(update={"name": "tiny_digits", "input_size": 32})


@pytest.fixture(scope="session")
def trained_digits_model(digits_spec: ArchSpec) -> FBNet:
    """That network, trained for seconds on scikit-learn's handwritten digits; 94 % held out. Leave it as it is."""
    model = FBNet(digits_spec, num_classes=10)
    randomize(model, 0)
    train, _ = digits()
    _fit(model, train.images(digits_spec.eval_preprocess()), train.classes)
    model.weights, model.license = "digits_of_the_tests", "Apache-2.0"
    return model.eval()


def _fit(model: FBNet, images: Tensor, classes: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        for batch in order.split(BATCH)[: len(images) // BATCH]:
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), classes[batch]).backward()
            optimizer.step()
            schedule.step()
