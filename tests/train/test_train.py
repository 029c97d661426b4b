"""Training: optimizer steps, batches, errors, evaluation, recipes."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo import yaml_reader
from fbnet_zoo.data import digits, photographs
from fbnet_zoo.datasets import Files, ImageDataset, Pixels
from fbnet_zoo.errors import DefinitionError, InputError, TrainingError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import (
    Augmentation,
    Recipe,
    RunFolder,
    default_recipe,
    evaluate,
    fit,
    inputs_of,
    load_recipe,
)
from fbnet_zoo.train.batches import train_transform
from fbnet_zoo.weights.loading import randomize
from tests.helpers.paths import ROOT
from tests.helpers.training import BATCH, IMAGES, INPUTS, RECIPE, STEPS, same, training_batches

PLAIN = Recipe(
    epochs=2,
    batch_size=BATCH,
    lr=3e-3,
    weight_decay=0.3,
    warmup_epochs=0.5,
    label_smoothing=0.2,
    ema_decay=0.8,
    threads=1,
)


def network(spec: ArchSpec, recipe: Recipe = PLAIN) -> FBNet:
    model = FBNet(spec, num_classes=10, drop_rate=recipe.drop_rate, drop_path_rate=recipe.drop_path_rate)
    randomize(model, 0)
    return model


NOISY = ("project.bn.bias", "running_mean")
"""A bias before another batch norm has only rounding errors as gradient, which Adam turns into large steps."""


def by_hand(model: FBNet, dataset: ImageDataset, recipe: Recipe) -> dict[str, Tensor]:
    """Train with AdamW written out, and return the moving average."""
    inputs, total = inputs_of(model, dataset), recipe.epochs * STEPS
    warmup = round(recipe.warmup_epochs * STEPS)
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in model.named_parameters()}
    average: dict[str, Tensor] = {}
    step = 0
    for epoch in range(recipe.epochs):
        batches = training_batches(
            dataset.train, inputs, recipe.augmentation, batch_size=BATCH, seed=recipe.seed, epoch=epoch
        )
        for images, labels in batches:
            rising = 0.01 + 0.99 * step / warmup
            falling = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
            lr = recipe.lr * (rising if step < warmup else falling)
            log_p = model.train()(images).log_softmax(1)
            smoothing = recipe.label_smoothing
            truth = (1 - smoothing) * F.one_hot(labels, 10) + smoothing / 10
            model.zero_grad()
            (-(truth * log_p).sum(1)).mean().backward()
            step += 1
            for name, value in model.named_parameters():
                first, second = moments[name]
                first.lerp_(value.grad, 0.1)
                second.lerp_(value.grad**2, 0.001)
                decay = recipe.weight_decay if value.ndim > 1 else 0
                change = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
                value.data = value.data - lr * decay * value.data - lr * change
            share = min(recipe.ema_decay or 0, step / (step + 9))
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    before = average.get(name, value)
                    average[name] = share * before + (1 - share) * value
    return average


def test_steps_match_a_reference_implementation(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    model = network(tiny_16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    expected = by_hand(copy.deepcopy(model), few_digits, PLAIN)
    fit(model, few_digits, PLAIN, inputs_of(model, few_digits))
    state = model.state_dict()
    for name, value in expected.items():
        if not name.endswith(NOISY):
            torch.testing.assert_close(state[name], value, atol=1e-4, rtol=1e-3)


def test_every_epoch_has_its_own_order_without_repetition() -> None:
    numbered = Pixels(pixels=torch.zeros(IMAGES, 1, 16, 16), labels=torch.arange(IMAGES))
    asked: dict[str, Any] = {"batch_size": BATCH, "seed": 3}
    orders = [
        torch.cat([labels for _, labels in training_batches(numbered, INPUTS, Augmentation(), epoch=epoch, **asked)])
        for epoch in (0, 1)
    ]
    assert all(len(order.unique()) == len(order) == STEPS * BATCH for order in orders)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("workers", [0, 2])
def test_batch_does_not_depend_on_workers_or_position(few_digits: ImageDataset, workers: int) -> None:
    asked: dict[str, Any] = {"batch_size": BATCH, "seed": 3, "epoch": 1}
    state = torch.get_rng_state()
    whole = list(training_batches(few_digits.train, INPUTS, RECIPE.augmentation, **asked))
    part = list(training_batches(few_digits.train, INPUTS, RECIPE.augmentation, **asked, first=5, workers=workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(part) == STEPS - 5
    for (images, labels), (expected, expected_labels) in zip(part, whole[5:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_augmentation_moves_pixels_and_keeps_their_range(few_digits: ImageDataset) -> None:
    change = train_transform(RECIPE.augmentation, INPUTS.preprocess)
    torch.manual_seed(0)
    image = change(few_digits.train, 0)
    plain = few_digits.train.fitted(0, INPUTS.preprocess)
    assert image.shape == plain.shape == (1, 16, 16)
    assert not torch.allclose(image, plain, atol=0.1)
    assert image.min() >= 0
    assert image.max() <= 1
    assert 0.5 < image.mean() / plain.mean() < 1.5


def test_photographs_are_cropped(few_digits: ImageDataset) -> None:
    files = Files(paths=photographs(), labels=torch.tensor([0, 1]))
    change = train_transform(Augmentation(resized_crop=0.01, flip=True, contrast=0.2), INPUTS.preprocess)
    cuts = [change(files, 0) for _ in range(4)]
    assert all(cut.shape == (3, 16, 16) and cut.dtype == torch.float32 for cut in cuts)
    assert len({round(float(cut.mean()), 4) for cut in cuts}) == 4
    assert change(few_digits.train, 0).shape == (1, 16, 16)


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    tiny_16: ArchSpec, few_digits: ImageDataset, tmp_path: Path
) -> None:
    class Broken(FBNet):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            return super().forward(x) * (math.nan if self.steps == STEPS + 3 else 1)

    folder, model = RunFolder(tmp_path), Broken(tiny_16, num_classes=10)
    with pytest.raises(TrainingError, match=rf"the loss is nan at step {STEPS + 3}, .*checkpoint.pt; lower 'lr'"):
        fit(model, few_digits, PLAIN, INPUTS, folder=folder)
    kept = folder.load()
    assert kept is not None
    assert kept["step"] == STEPS
    assert all(value.isfinite().all() for value in kept["network"].values())


def test_infinite_statistics_are_not_saved(tiny_16: ArchSpec, few_digits: ImageDataset, tmp_path: Path) -> None:
    class Broken(FBNet):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            if self.steps == 3:
                self.stem.bn.running_mean[0] = math.inf  # training does not use it: the loss stays finite
            return super().forward(x)

    folder, recipe = RunFolder(tmp_path), PLAIN.model_copy(update={"checkpoint_steps": 1})
    with pytest.raises(TrainingError, match=r"a statistic is NaN or infinite after step 3, .*lower 'lr'"):
        fit(Broken(tiny_16, num_classes=10), few_digits, recipe, INPUTS, folder=folder)
    kept = folder.load()
    assert kept is not None
    assert kept["step"] == 2


def test_too_few_images_are_refused(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    recipe = PLAIN.model_copy(update={"batch_size": 200})
    with pytest.raises(InputError, match="few_digits has 136 training images, fewer than a batch of 200; lower batch"):
        fit(network(tiny_16), few_digits, recipe, INPUTS)


def test_top1_is_the_share_of_correct_images(few_digits: ImageDataset) -> None:
    held_out, seen = few_digits.held_out, []

    def always_three(images: Tensor) -> Tensor:
        seen.append(images)
        return F.one_hot(torch.full((len(images),), 3), 10).float()

    result = evaluate(always_three, held_out, INPUTS)
    assert result.correct == int((held_out.labels == 3).sum())
    assert result.top1 == 100 * result.correct / 50
    expected = digits()[1].images(INPUTS.preprocess, limit=50)
    torch.testing.assert_close(torch.cat(seen), expected)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_uses_running_statistics_and_restores_the_mode(
    tiny_16: ArchSpec, few_digits: ImageDataset, training: bool
) -> None:
    model = network(tiny_16, RECIPE).train(training)
    before = copy.deepcopy(model.state_dict())
    result = evaluate(model, few_digits.held_out, INPUTS)
    assert model.training is training
    assert same(model.state_dict(), before)
    images = digits()[1].images(INPUTS.preprocess, limit=50)
    assert result.correct == int((model.eval()(images).argmax(1) == few_digits.held_out.labels).sum())


def test_evaluation_without_images_is_refused() -> None:
    empty = Pixels(pixels=torch.zeros(0, 1, 8, 8), labels=torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match="there are no images to evaluate on"):
        evaluate(nn.Identity(), empty, INPUTS)


def test_recipe_file_changes_only_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 7\noptimizer: sgd\nema_decay: null\naugmentation: {degrees: 30}\n")
    recipe, default = load_recipe(path, default_recipe("digits")), default_recipe("digits")
    assert (recipe.epochs, recipe.optimizer, recipe.ema_decay) == (7, "sgd", None)
    assert recipe.augmentation == default.augmentation.model_copy(update={"degrees": 30.0})
    assert recipe.lr == default.lr
    assert default_recipe("cifar").augmentation.flip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epoch: 3", r":1: unknown key 'epoch'; did you mean 'epochs'\?"),
        ("epochs: 0", r":1: 'epochs' cannot be 0: input should be greater than or equal to 1"),
        ("epochs: 2\naugmentation:\n  flip: 3", r":3: 'flip' cannot be 3: expected true or false"),
        ("optimizer: adam", r":1: 'optimizer' cannot be 'adam': expected .*did you mean 'adamw'\?"),
    ],
)
def test_error_in_a_recipe_has_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=problem):
        load_recipe(path, default_recipe("digits"))


def test_sgd_at_a_constant_rate(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    update = {"optimizer": "sgd", "schedule": "constant", "momentum": 0.0, "warmup_epochs": 0, "ema_decay": None}
    recipe = PLAIN.model_copy(update={**update, "epochs": 1, "weight_decay": 0.0, "lr": 0.01})
    model = network(tiny_16)
    expected = copy.deepcopy(model).train()
    metrics = fit(model, few_digits, recipe, INPUTS)
    batches = training_batches(few_digits.train, INPUTS, recipe.augmentation, batch_size=BATCH, seed=0, epoch=0)
    for images, labels in batches:
        expected.zero_grad()
        F.cross_entropy(expected(images), labels, label_smoothing=0.2).backward()
        for value in expected.parameters():
            value.data -= 0.01 * value.grad
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
    assert metrics.lr == 0.01


def test_documented_recipe_is_the_default_with_every_key() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    documented = yaml_reader.read(text, "training.md").plain()
    assert Recipe.model_validate(documented) == default_recipe("digits")
    assert list(documented) == list(Recipe.model_fields)
    assert list(documented["augmentation"]) == list(Augmentation.model_fields)
