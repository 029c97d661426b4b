"""Fine-tuning for int8: the same function before, the same values after, and a file that holds them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fbnet_zoo import create
from fbnet_zoo._require import require
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import Recipe, RunFolder, evaluate, fit, inputs_of, qat_recipe, train
from fbnet_zoo.train.qat import adopt, prepare
from fbnet_zoo.weights.loading import randomize, save
from tests.helpers.training import BATCH, TINY

pytestmark = pytest.mark.executorch

RECIPE = qat_recipe("digits").model_copy(update={"epochs": 1, "batch_size": BATCH, "lr": 1e-3, "threads": 1})


def without_rounding(prepared: nn.Module) -> nn.Module:
    pt2e = require("torchao.quantization.pt2e", extra="executorch")
    prepared.apply(pt2e.disable_fake_quant)
    prepared.eval()  # returns None for such a graph
    return prepared


@torch.no_grad()
@pytest.mark.slow
def test_values_are_copied_back_into_every_kind_of_layer(tiny_spec: ArchSpec) -> None:
    """The small network has every gate, a shuffle, squeeze-excite, skips and a pooling head."""
    model = FBNet(tiny_spec.model_copy(update={"classifier": "conv"}), num_classes=10)
    randomize(model, 1)
    model.eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    expected = model(images)
    prepared = prepare(model)
    assert snr_db(expected, without_rounding(prepared)(images)) > 100
    randomize(model, 2)  # to be overwritten
    adopt(model, prepared)
    assert snr_db(expected, model.eval()(images)) > 100


@pytest.mark.slow
def test_rounding_is_simulated_and_trained(tiny_16: ArchSpec, few_digits: ImageDataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = FBNet(tiny_16, num_classes=10)
    inputs = inputs_of(model, few_digits)
    fit(model, few_digits, Recipe(epochs=4, batch_size=BATCH, warmup_epochs=0, ema_decay=None, threads=1), inputs)
    save(model, tmp_path / "start.safetensors")
    (tmp_path / "tiny.yaml").write_text(TINY)
    tuned = train(
        tmp_path / "tiny.yaml",
        few_digits,
        RECIPE,
        tmp_path / "run",
        pretrained=tmp_path / "start.safetensors",
        qat=True,
    )
    state = RunFolder(tmp_path / "run").load()
    assert state is not None
    prepared = prepare(model)
    images = torch.stack([few_digits.held_out.fitted(at, inputs.preprocess) for at in range(50)])
    prepared.load_state_dict(state["network"])
    rounded = evaluate(prepared, few_digits.held_out, inputs)
    assert rounded.top1 == tuned.metrics.top1
    prepared.eval()
    with torch.no_grad():
        exact, answers = tuned.network(inputs(images)), prepared(inputs(images))
        assert 10 < snr_db(exact, answers) < 60
        assert snr_db(exact, without_rounding(prepared)(inputs(images))) > 90
    assert tuned.network.weights == "trained for int8 on few_digits from start.safetensors"
    assert create(tmp_path / "tiny.yaml", pretrained=tuned.weights, num_classes=10).weights == tuned.network.weights


def test_qat_without_weights_is_refused(tmp_path: Path, few_digits: ImageDataset) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    with pytest.raises(InputError, match="qat requires trained weights, and no moving average; give weights"):
        train(tmp_path / "tiny.yaml", few_digits, RECIPE, tmp_path / "run", qat=True)
