"""Mixup and CutMix against torchvision's, and what a training makes of them."""

import copy
from statistics import fmean
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo import _require
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import Recipe, fit
from fbnet_zoo.train.batches import Shard
from fbnet_zoo.train.mixing import Mixed, averaged, mixed, pasted, rectangle, require_pairs
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.weights.loading import randomize
from tests.helpers.training import BATCH, INPUTS, same, training_batches

CLASSES, WIDTH, HEIGHT = 7, 20, 12
v2 = _require.torchvision("torchvision.transforms.v2")


def batch(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, HEIGHT, WIDTH, generator=generator)
    return images.contiguous(memory_format=torch.channels_last), torch.arange(count) % CLASSES


def soft(found: Mixed) -> Tensor:
    """Return the labels as probabilities."""
    one, other = (F.one_hot(labels, CLASSES).float() for labels in (found.labels, found.partners))
    return found.share * one + (1 - found.share) * other


def by_torchvision(kind: type, images: Tensor, labels: Tensor, **params: Any) -> tuple[Tensor, Tensor]:
    """Mix every row with the one half a batch away: as a pair, torchvision mixes each with the other."""
    mix, half = kind(num_classes=CLASSES), len(labels) // 2
    mix.make_params = lambda _: params
    mixed_images, mixed_labels = images.clone(), torch.empty(len(labels), CLASSES)
    for row in range(half):
        pair = [row, row + half]
        mixed_images[pair], mixed_labels[pair] = mix(images[pair], labels[pair])
    return mixed_images, mixed_labels


@pytest.mark.parametrize("step", range(5))
def test_mixup_is_that_of_torchvision(step: int) -> None:
    images, labels = batch(8)
    found = mixed((images, labels), Recipe(mixup=0.4), step)
    expected, probabilities = by_torchvision(v2.MixUp, images, labels, lam=found.share)
    torch.testing.assert_close(found.images, expected)
    torch.testing.assert_close(soft(found), probabilities)
    assert found.images.is_contiguous(memory_format=torch.channels_last)
    assert found.main.tolist() == (labels if found.share >= 0.5 else labels.roll(4)).tolist()


@pytest.mark.parametrize("step", range(5))
def test_cutmix_is_that_of_torchvision(step: int) -> None:
    images, labels = batch(8)
    found = mixed((images, labels), Recipe(cutmix=1), step)
    changed = (found.images != images).any(0).any(0)
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    box = (0, 0, 0, 0)
    if len(rows):
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    left = 1 - area / (WIDTH * HEIGHT)
    assert int(changed.sum()) == area
    assert found.share == left
    expected, probabilities = by_torchvision(v2.CutMix, images, labels, box=box, lam_adjusted=left)
    assert torch.equal(found.images, expected)
    torch.testing.assert_close(soft(found), probabilities)


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.6, 0.97, 1.0])
def test_rectangles_are_those_of_torchvision(lam: float) -> None:
    mix = v2.CutMix(num_classes=CLASSES)
    mix._dist = type("Given", (), {"sample": staticmethod(lambda _: torch.tensor(lam, dtype=torch.float64))})()
    for seed in range(20):
        torch.manual_seed(seed)
        x, y = int(torch.randint(WIDTH, (1,))), int(torch.randint(HEIGHT, (1,)))
        torch.manual_seed(seed)
        params = mix.make_params([torch.zeros(2, 3, HEIGHT, WIDTH)])
        assert rectangle(lam, x, y, WIDTH, HEIGHT) == params["box"]
        images, others = torch.zeros(2, 3, HEIGHT, WIDTH), torch.ones(2, 3, HEIGHT, WIDTH)
        cut, left = pasted(images, others, params["box"])
        assert left == pytest.approx(params["lam_adjusted"])
        assert float(cut.mean()) == pytest.approx(1 - left)
        assert not images.any()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_from_a_beta_distribution(alpha: float) -> None:
    """By mean and variance of a thousand steps, none of which draws as another."""
    images, labels = torch.zeros(2, 1, 1, 1), torch.arange(2)
    shares = [mixed((images, labels), Recipe(mixup=alpha), step).share for step in range(1000)]
    assert len(set(shares)) > 900
    assert fmean(shares) == pytest.approx(0.5, abs=0.05)
    assert fmean((share - 0.5) ** 2 for share in shares) == pytest.approx(1 / (8 * alpha + 4), rel=0.15)


def test_each_step_draws_one_of_both_and_both_are_drawn() -> None:
    images, labels = batch(4)
    cut = 0
    for step in range(200):
        found = mixed((images, labels), Recipe(mixup=1, cutmix=1), step)
        averages = averaged(images, images.roll(2, 0), found.share)
        cut += not torch.allclose(found.images, averages)
    assert 60 < cut < 140


def test_steps_and_seeds_draw_anew_and_again_the_same() -> None:
    images, labels = batch(4)

    def shares(seed: int) -> list[float]:
        recipe = Recipe(mixup=0.4, cutmix=1, seed=seed)
        return [mixed((images, labels), recipe, step).share for step in range(30)]

    state = torch.get_rng_state()
    assert shares(1) == shares(1) != shares(2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("field", ["mixup", "cutmix"])
def test_several_processes_mix_as_one(field: str) -> None:
    images, labels = batch(12)
    recipe = Recipe.model_validate({field: 0.8, "batch_size": 12})
    whole = mixed((images, labels), recipe, 3)
    for count in (2, 3, 6):
        for rank in range(count):
            shard = Shard(rank=rank, count=count)
            require_pairs(recipe, shard)
            rows = shard.rows(12)
            part = mixed((images[rows], labels[rows]), recipe, 3)
            assert torch.equal(part.images, whole.images[rows])
            assert torch.equal(part.partners, whole.partners[rows])
            assert part.share == whole.share


def test_an_odd_number_of_images_per_process_is_refused(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    recipe = Recipe(mixup=0.2, batch_size=6)
    with pytest.raises(InputError, match=r"6 images on 2 processes leaves an odd number .* a multiple of 4"):
        fit(FBNet(tiny_16, num_classes=10), few_digits, recipe, INPUTS, processes=Processes(count=2))
    require_pairs(Recipe(batch_size=6), Shard(count=2))
    images, labels = batch(5)
    assert mixed((images, labels), recipe, 0).partners.tolist() == labels.roll(2).tolist()


@pytest.mark.parametrize("fields", [{"mixup": 0.4}, {"cutmix": 1.0}], ids=str)
def test_training_learns_the_mixed_labels(
    tiny_16: ArchSpec, few_digits: ImageDataset, fields: dict[str, float]
) -> None:
    """Written out with cross-entropy of probabilities, which torchvision's labels are for."""
    usual = {"epochs": 1, "batch_size": BATCH, "optimizer": "sgd", "schedule": "constant", "momentum": 0.0}
    usual |= {"warmup_epochs": 0, "weight_decay": 0.0, "ema_decay": None, "lr": 0.01, "threads": 1}
    recipe = Recipe.model_validate(usual | fields)
    model = FBNet(tiny_16, num_classes=10)
    randomize(model, 0)
    expected, losses = copy.deepcopy(model).train(), []
    batches = training_batches(few_digits.train, INPUTS, recipe.augmentation, batch_size=BATCH, seed=0, epoch=0)
    for step, each in enumerate(batches):
        found = mixed(each, recipe, step)
        one, other = (F.one_hot(labels, 10).float() for labels in (found.labels, found.partners))
        truth = found.share * one + (1 - found.share) * other
        expected.zero_grad()
        loss = F.cross_entropy(expected(found.images), truth, label_smoothing=recipe.label_smoothing)
        loss.backward()
        losses.append(loss.item())
        for value in expected.parameters():
            value.data -= 0.01 * value.grad
    metrics = fit(model, few_digits, recipe, INPUTS)
    assert metrics.loss == pytest.approx(fmean(losses), rel=1e-4)
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
    assert not same(model.state_dict(), fitted(tiny_16, few_digits, Recipe.model_validate(usual)).state_dict())


def fitted(spec: ArchSpec, dataset: ImageDataset, recipe: Recipe) -> FBNet:
    model = FBNet(spec, num_classes=10)
    randomize(model, 0)
    fit(model, dataset, recipe, INPUTS)
    return model
