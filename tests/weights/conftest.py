"""A checkpoint of the tiny network, as bytes of a safetensors file."""

import pytest
from safetensors.torch import save_file

from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights import loading


@pytest.fixture(scope="session")
def content(tiny_spec: ArchSpec, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    network = FBNet(tiny_spec)
    loading.randomize(network, 1)
    path = tmp_path_factory.mktemp("content") / "model.safetensors"
    save_file(network.state_dict(), path)
    return path.read_bytes()
