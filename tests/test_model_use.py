"""Networks in the hands of PyTorch: exported, traced, compiled, cast, copied, trained."""

import copy
import pickle

import pytest
import torch

from tests.helpers.families import FEW
from tests.helpers.marks import first_is_quick
from tests.test_model import images, random_network, relative_error

SOME = first_is_quick(["chamnet_f", "fbnet_a_2019", "fbnetv3_a_gpu"])
"""For what takes seconds."""


@pytest.mark.parametrize("name", FEW)
class TestWaysOfUse:
    @pytest.mark.slow
    def test_channels_last(self, name: str) -> None:
        network = random_network(name)
        with torch.no_grad():
            expected = network(images())
            network = network.to(memory_format=torch.channels_last)
            x = images().contiguous(memory_format=torch.channels_last)
            assert network.forward_features(x).is_contiguous(memory_format=torch.channels_last)
            assert relative_error(network(x), expected) < 1e-5

    def test_autocast(self, name: str) -> None:
        network = random_network(name)
        with torch.no_grad():
            expected = network(images())
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images())
        assert logits.dtype == torch.bfloat16
        assert torch.nn.functional.cosine_similarity(logits.float(), expected).min() > 0.95

    def test_copies(self, name: str) -> None:
        network = random_network(name)
        for same in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert same.spec == network.spec
            with torch.no_grad():
                assert torch.equal(same(images()), network(images()))
                next(same.parameters()).zero_()
            assert next(network.parameters()).any()

    def test_training(self, name: str) -> None:
        network = random_network(name).train()
        network(images()).square().mean().backward()
        for parameter_name, parameter in network.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", SOME)
def test_export(name: str) -> None:
    network = random_network(name)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(network, (images(),), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        assert relative_error(program.module()(images(count=3)), network(images(count=3))) < 1e-6


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is (deprecated|not supported)")
@pytest.mark.parametrize("name", SOME)
def test_trace(name: str) -> None:
    network = random_network(name)
    with torch.no_grad():
        traced = torch.jit.trace(network, images())
        assert relative_error(traced(images(count=1)), network(images(count=1))) < 1e-6


@pytest.mark.parametrize("name", SOME[:2])
def test_compile_without_a_break_in_the_graph(name: str) -> None:
    network = random_network(name)
    with torch.no_grad():
        assert torch.equal(torch.compile(network, fullgraph=True, backend="eager")(images()), network(images()))


@pytest.mark.slow
def test_compile_with_the_default_backend() -> None:
    network = random_network("fbnet_96")
    with torch.no_grad():
        assert relative_error(torch.compile(network, fullgraph=True)(images()), network(images())) < 1e-5
