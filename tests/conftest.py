"""Fixtures that all tests may use."""

import copy
import os
import tempfile
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from fbnet_zoo import arch_file
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize
from tests.helpers.paths import TINY

pytest_plugins = [
    "tests.helpers.surroundings",  # first, as others import it
    "tests.helpers.checkpoint_files",
    "tests.helpers.hub_server",
    "tests.helpers.mac",
    "tests.helpers.phone",
    "tests.helpers.tiny_files",
    "tests.helpers.trained",
    "tests.helpers.training",
]

# No test sees the zoo of whoever runs it: this folder is empty until a test names another.
_no_zoo = tempfile.TemporaryDirectory()
os.environ["FBNET_ZOO_HOME"] = _no_zoo.name

# The same examples on every machine, however slow it is.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write the snapshots again instead of comparing with them")


@pytest.fixture(scope="session")
def tiny_spec() -> ArchSpec:
    """The definition of a small network with something of everything, for 64 px."""
    return arch_file.load(TINY)


@pytest.fixture(scope="session")
def shared_tiny_model(tiny_spec: ArchSpec) -> Iterator[FBNet]:
    """That network with 10 classes and seeded values; who changes it fails the last test."""
    model = FBNet(tiny_spec, num_classes=10)
    randomize(model, 0)
    before = copy.deepcopy(model.eval())
    yield model
    attributes = ("training", "license", "weights", "class_names")
    assert {name: getattr(model, name) for name in attributes} == {name: getattr(before, name) for name in attributes}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.state_dict().items())


@pytest.fixture
def tiny_model(shared_tiny_model: FBNet) -> FBNet:
    """A copy of it, to be changed."""
    return copy.deepcopy(shared_tiny_model)
