"""What a checkpoint brings along with its values, and what a changed file in a cache does not bring."""

import copy
import hashlib
from pathlib import Path

import pytest
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

import fbnet_zoo
from fbnet_zoo import weights
from fbnet_zoo.errors import WeightsError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec, WeightsSpec
from fbnet_zoo.weights import loading
from tests.helpers.checkpoint_files import logits
from tests.helpers.hub_server import HubServer
from tests.helpers.paths import TINY

EPSILON = 0.25


@pytest.fixture
def saved(tiny_model: FBNet, tmp_path: Path) -> Path:
    """Weights with a batch-norm epsilon of their own."""
    tiny_model.spec = tiny_model.spec.model_copy(update={"bn_eps": EPSILON})
    weights.save(tiny_model, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def epsilons(network: nn.Module) -> set[float]:
    return {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)}


class TestEpsilon:
    @pytest.mark.parametrize("half", [False, True])
    def test_is_set_by_load(self, tiny_model: FBNet, saved: Path, half: bool) -> None:
        """In a network that exists, of any type and mode; its logits are then those of the saved one."""
        network = fbnet_zoo.create(TINY, num_classes=10)
        network = (network.half() if half else network).train()
        assert epsilons(network) == {1e-5}
        weights.load(network, saved)
        assert network.training
        assert epsilons(network) == {network.spec.bn_eps} == {EPSILON}
        expected = copy.deepcopy(tiny_model)
        for module in expected.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = EPSILON
        found, wanted = logits(network.float().eval(), 64), logits(expected, 64)
        torch.testing.assert_close(found, wanted, rtol=0, atol=float(wanted.abs().max()) * (0.05 if half else 1e-5))

    def test_is_set_back_by_other_weights(self, tiny_model: FBNet, saved: Path, tmp_path: Path) -> None:
        network = fbnet_zoo.create(TINY, pretrained=saved, num_classes=10)
        assert epsilons(network) == {EPSILON}
        tiny_model.spec = tiny_model.spec.model_copy(update={"bn_eps": 1e-5})
        weights.save(tiny_model, tmp_path / "plain.safetensors")
        weights.load(network, tmp_path / "plain.safetensors")
        assert epsilons(network) == {network.spec.bn_eps} == {1e-5}


@pytest.mark.parametrize("existing", [False, True])
def test_just_two_values_that_share_memory_are_trained_apart(tiny_model: FBNet, tmp_path: Path, existing: bool) -> None:
    state = tiny_model.state_dict()
    first, second = "stem.bn.weight", "stem.bn.bias"
    state[second] = state[first]
    torch.save(state, tmp_path / "a.pth")
    network = fbnet_zoo.create(TINY, False if existing else tmp_path / "a.pth", num_classes=10)
    if existing:
        weights.load(network, tmp_path / "a.pth")
    values = network.state_dict()
    memory = [value.untyped_storage().data_ptr() for value in values.values()]
    assert len(set(memory)) == len(memory)
    assert torch.equal(values[first], values[second])
    with torch.no_grad():
        network.get_parameter(first).add_(1)
    assert torch.equal(network.get_parameter(second), tiny_model.get_parameter(first))


class TestCachedFile:
    """The file in the cache is changed by one bit; its size stays."""

    @staticmethod
    def spoil(path: Path) -> bytes:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return content

    def test_of_a_url_is_verified_on_every_use(
        self, hub: HubServer, saved: Path, tiny_spec: ArchSpec, tmp_path: Path
    ) -> None:
        content = saved.read_bytes()
        url, digest = hub.add_file("model.safetensors", content), hashlib.sha256(content).hexdigest()
        known = {"size": len(content), "sha256": digest}
        entry = WeightsSpec(tag="a", source="https://example.org/a", layout="fbnet_zoo", license="MIT")
        entry = entry.model_copy(update={"source": url, **known})
        spec = tiny_spec.model_copy(update={"weights": (entry,)})
        assert loading.read(spec, "a").license == "MIT"
        (cached,) = (path for path in Path(torch.hub.get_dir()).rglob("*") if path.is_file())
        assert cached.read_bytes() == content
        self.spoil(cached)
        for _ in range(2):
            with pytest.raises(
                WeightsError, match=rf"the file of {url} has the sha256 \w+, expected {digest}; .*delete"
            ):
                loading.read(spec, "a")
        cached.unlink()
        assert loading.read(spec, "a").num_classes == 10
        cached.write_bytes(content + b"\0")
        with pytest.raises(WeightsError, match=rf"has {len(content) + 1} bytes, expected {len(content)}; .*delete"):
            loading.read(spec, "a")

    def test_of_a_hub_is_verified_by_the_name_that_its_client_gives(self, hub: HubServer, saved: Path) -> None:
        hub.add_repo("someone/tiny", {"model.safetensors": saved.read_bytes()})
        fbnet_zoo.create(TINY, "hf://someone/tiny")
        cached = Path(str(try_to_load_from_cache("someone/tiny", "model.safetensors"))).resolve()
        digest = hashlib.sha256(saved.read_bytes()).hexdigest()
        assert cached.name == digest
        self.spoil(cached)
        with pytest.raises(WeightsError, match=rf"has the sha256 \w+, expected {digest}; .*delete"):
            fbnet_zoo.create(TINY, "hf://someone/tiny")
