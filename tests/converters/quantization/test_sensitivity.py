"""Simulated rounding to 8 bits, and the layers that it tells from others."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fbnet_zoo.converters.parity import outputs, snr_db
from fbnet_zoo.converters.program import deploy_form
from fbnet_zoo.converters.quantization import sensitivity
from fbnet_zoo.converters.quantization.calibration import CalibrationImages, load
from fbnet_zoo.converters.quantization.simulation import RoundedNetwork, layers
from fbnet_zoo.errors import UnknownNameError
from fbnet_zoo.model import FBNet
from tests.helpers.fragile import FRAGILE, fragile


@pytest.fixture(scope="module")
def network(trained_digits_model: FBNet) -> FBNet:
    return deploy_form(trained_digits_model)


@pytest.fixture(scope="module")
def images(network: FBNet) -> CalibrationImages:
    return load("digits", network.spec.eval_preprocess(), 3, num_classes=10)


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Round to 256 values from `low` to `high`, one of which is 0."""
    step = (high - low) / 255
    zero = round(-low / step)
    return (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step


class TestRoundedNetwork:
    def test_rounds_nothing_where_no_layer_is_active(self, network: FBNet, images: CalibrationImages) -> None:
        simulated = RoundedNetwork(network, images.calibrate.images)(images.evaluate.images, ())
        with torch.no_grad():
            expected = network(torch.from_numpy(images.evaluate.images)).numpy()
        np.testing.assert_allclose(simulated, expected, rtol=1e-4, atol=1e-4)

    def test_rounds_one_layer_as_arithmetic_tells(self, network: FBNet, images: CalibrationImages) -> None:
        batch = images.calibrate.images[:16]
        entering = dict(outputs(network, batch))["head.project"][:, :, 0, 0]  # (N, C)
        weight = network.classifier.weight.detach().numpy()[:, :, 0, 0]
        bias = network.classifier.bias.detach().numpy()
        steps = np.abs(weight).max(1, keepdims=True) / 127
        inputs = rounded(entering, min(0.0, entering.min()), entering.max())
        logits = inputs @ (np.rint(weight / steps) * steps).T + bias
        plain = entering @ weight.T + bias
        expected = rounded(logits, plain.min(), plain.max())
        got = RoundedNetwork(network, batch)(batch, ["classifier"])
        step = (plain.max() - plain.min()) / 255
        assert np.abs(got - expected).max() < 1.01 * step  # sums in another order may round another way
        assert np.abs(got - expected).mean() < 0.02 * step

    def test_leaves_the_network_alone(self, network: FBNet, images: CalibrationImages) -> None:
        before = copy.deepcopy(network.state_dict())
        simulation = RoundedNetwork(network, images.calibrate.images[:4])
        simulation(images.calibrate.images[:4], simulation.layers)
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
        assert not any(module._forward_hooks for module in network.modules())

    def test_layers_hold_every_convolution_once(self, network: FBNet) -> None:
        held = [
            id(part) for layer in layers(network).values() for part in layer.modules() if isinstance(part, nn.Conv2d)
        ]
        everywhere = [id(part) for part in network.modules() if isinstance(part, nn.Conv2d)]
        assert sorted(held) == sorted(everywhere)
        assert {"stem", "stages.8.0.se", "stages.4.1.expand", "head.project", "classifier"} <= set(layers(network))


class TestRanking:
    def test_finds_the_layers_that_cannot_be_rounded(self, network: FBNet, images: CalibrationImages) -> None:
        ranked = sensitivity.rank(fragile(network), images.calibrate)
        assert {each.name for each in ranked[:4]} == FRAGILE
        assert ranked[3].sqnr_db + 10 < ranked[4].sqnr_db
        assert [each.sqnr_db for each in ranked] == sorted(each.sqnr_db for each in ranked)

    def test_keeps_them_and_few_others(self, network: FBNet, images: CalibrationImages) -> None:
        broken = fragile(network)
        kept = sensitivity.choose(broken, images.calibrate, min_top1_agreement=0.9)
        assert kept >= FRAGILE
        assert len(kept) <= 6
        simulation = RoundedNetwork(broken, images.calibrate.images)
        evaluated = images.evaluate.images
        expected = simulation(evaluated, ())
        assert snr_db(expected, simulation(evaluated, simulation.layers)) < 15
        assert snr_db(expected, simulation(evaluated, set(simulation.layers) - kept)) > 19

    def test_keeps_none_where_all_can_be_rounded(self, network: FBNet, images: CalibrationImages) -> None:
        assert sensitivity.choose(network, images.calibrate, min_top1_agreement=0.9) == frozenset()


class TestNames:
    @pytest.mark.parametrize(
        ("patterns", "modules"),
        [
            (["stem"], {"stem"}),
            (["stages.8", "stages.8.0.se"], {"stages.8"}),
            (["*.se"], {"stages.8.0.se", "stages.8.1.se", "head.se"}),
            (["stages.8.0.se.reduce", "classifier"], {"stages.8.0.se.reduce", "classifier"}),
        ],
    )
    def test_stand_for_modules(self, network: FBNet, patterns: list[str], modules: set[str]) -> None:
        assert sensitivity.resolve(network, patterns) == modules

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("clasifier", "; did you mean 'classifier'?"),
            ("x9", "; expected a module such as stages.16.0, or a pattern"),
        ],
    )
    def test_that_fit_nothing(self, network: FBNet, name: str, hint: str) -> None:
        with pytest.raises(UnknownNameError) as caught:
            sensitivity.resolve(network, ["stem", name])
        assert str(caught.value).startswith(f"the network has no layer {name!r}{hint}")
