"""Networks with a classifier that their user has replaced: what it gets, how it is converted, whose names it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from fbnet_zoo import weights
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.prefixes import first_divergent_part
from fbnet_zoo.converters.program import deploy_form, export, export_module
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.weights.loading import randomize

CLASSES = 5


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(tiny_model: FBNet) -> FBNet:
    return tiny_model


HEADS: dict[str, Callable[[int], nn.Module]] = {
    "linear": lambda features: nn.Linear(features, CLASSES),
    "conv": lambda features: nn.Conv2d(features, CLASSES, 1),
    "flattened linear": lambda features: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(features, CLASSES)),
    "deep linear": lambda features: nn.Sequential(nn.Linear(features, 7), nn.ReLU(), nn.Linear(7, CLASSES)),
    "deep conv": lambda features: nn.Sequential(nn.Conv2d(features, 7, 1), nn.ReLU(), nn.Conv2d(7, CLASSES, 1)),
    "none": lambda _: nn.Identity(),
}
KINDS: list[tuple[Literal["linear", "conv"], str]] = [
    ("linear", "linear"),
    ("linear", "flattened linear"),
    ("linear", "deep linear"),
    ("linear", "none"),
    ("conv", "conv"),
    ("conv", "flattened linear"),
    ("conv", "deep conv"),
    ("conv", "none"),
]


class TestOwnHeads:
    """A new classifier gets what the definition's gets: `(N, C)`, or `(N, C, 1, 1)` for a convolution."""

    @pytest.fixture(
        params=[pytest.param(kind, marks=() if number % 2 else pytest.mark.slow) for number, kind in enumerate(KINDS)],
        ids=" entry, ".join,
    )
    def changed(self, request: pytest.FixtureRequest, tiny_spec: ArchSpec) -> FBNet:
        kind, head = request.param
        network = FBNet(tiny_spec.model_copy(update={"classifier": kind}), num_classes=10)
        randomize(network, 0)
        network.classifier = HEADS[head](network.head_hidden_size)
        return network.eval()

    @torch.no_grad()
    def test_the_deploy_form_computes_the_same(self, changed: FBNet) -> None:
        form = deploy_form(changed)
        expected = changed(images())
        torch.testing.assert_close(form(images()), expected, rtol=1e-3, atol=1e-3)
        graph = export_module(form, (None, 3, 64, 64))
        torch.testing.assert_close(graph.module()(images()), expected, rtol=1e-3, atol=1e-3)

    @torch.no_grad()
    def test_its_parts_are_the_whole(self, changed: FBNet) -> None:
        def lower(part: nn.Module, outputs: int) -> Any:
            assert part(images()).shape == (2, outputs)
            return lambda given: part(torch.from_numpy(given)).numpy()

        assert first_divergent_part(deploy_form(changed), lower, images().numpy(), 60.0) is None


class TestClassNames:
    def test_names_of_a_replaced_classifier_are_forgotten(self, network: FBNet, tmp_path: Path) -> None:
        network.class_names = tuple("abcdefghij")
        network.classifier = nn.Linear(network.head_hidden_size, CLASSES)
        path, again = tmp_path / "w.safetensors", FBNet(network.spec, num_classes=CLASSES)
        weights.save(network, path)
        weights.load(again, path)
        assert again.class_names is None
        assert export(network, ConvertOptions()).labels is None

    def test_names_that_are_given_to_it_are_kept(self, network: FBNet, tmp_path: Path) -> None:
        network.class_names = tuple("vwxyz")
        network.classifier = nn.Linear(network.head_hidden_size, CLASSES)
        path, again = tmp_path / "w.safetensors", FBNet(network.spec, num_classes=CLASSES)
        weights.save(nn.DataParallel(network), path)
        weights.load(again, path)
        assert again.class_names == tuple("vwxyz")
        assert export(network, ConvertOptions()).labels == tuple("vwxyz")
