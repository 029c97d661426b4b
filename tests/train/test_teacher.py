"""Distillation: the loss written out, what a teacher sees, whose classes it has, and which teachers are refused."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.data import denormalised, normalised
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec, PreprocessSpec
from fbnet_zoo.train import Recipe, Trained, fit, train
from fbnet_zoo.train.teacher import Teacher, distilled
from fbnet_zoo.weights.loading import randomize
from tests.helpers.training import BATCH, INPUTS, TINY, same, training_batches

PLAIN = Recipe(
    epochs=1,
    batch_size=BATCH,
    optimizer="sgd",
    schedule="constant",
    momentum=0.0,
    warmup_epochs=0,
    weight_decay=0.0,
    ema_decay=None,
    lr=0.01,
    label_smoothing=0.0,
    distill_share=0.7,
    distill_temperature=3,
    threads=1,
)


def network(spec: ArchSpec, seed: int = 0) -> FBNet:
    model = FBNet(spec, num_classes=10)
    randomize(model, seed)
    return model


class Watching(nn.Module):
    """A network that notes its input, and whether it is in training mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []
        self.modes: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        self.modes |= {module.training for module in self.modules()}
        return self.inner(x)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_loss_is_that_of_the_paper(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own, taught = torch.randn(2, 5, 4, generator=generator).double()
    recipe = Recipe(distill_share=share, distill_temperature=2)
    expected = 0.0
    for mine, theirs in zip(own.tolist(), taught.tolist(), strict=True):
        p, q = (torch.tensor(each).div(2).exp() for each in (theirs, mine))
        p, q = p / p.sum(), q / q.sum()
        expected += 4 * float((p * (p / q).log()).sum()) / 5
    found = distilled(torch.tensor(1.5), own, taught, recipe)
    assert float(found) == pytest.approx((1 - share) * 1.5 + share * expected, rel=1e-5)
    assert float(distilled(torch.tensor(0.0), own, own, recipe)) == pytest.approx(0, abs=1e-6)


def test_training_learns_from_any_module(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    """Written out step by step; the teacher gets the same images, and is left as it was."""
    teacher = Watching(network(tiny_16, 1)).train()
    teacher.inner.stem.eval()  # type: ignore[union-attr]
    modes, before = [module.training for module in teacher.modules()], copy.deepcopy(teacher.state_dict())
    model = network(tiny_16)
    expected, wise, images_seen = copy.deepcopy(model).train(), copy.deepcopy(teacher.inner).eval(), []
    batches = training_batches(few_digits.train, INPUTS, PLAIN.augmentation, batch_size=BATCH, seed=0, epoch=0)
    for images, labels in batches:
        images_seen.append(images)
        expected.zero_grad()
        logits, taught = expected(images) / 3, wise(images).detach() / 3
        soft = (taught.softmax(1) * (taught.log_softmax(1) - logits.log_softmax(1))).sum(1).mean()
        (0.3 * F.cross_entropy(3 * logits, labels) + 0.7 * 9 * soft).backward()
        for value in expected.parameters():
            value.data -= 0.01 * value.grad
    fit(model, few_digits, PLAIN, INPUTS, teacher=teacher)
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
    assert all(map(torch.equal, teacher.seen[-len(images_seen) :], images_seen))
    assert teacher.modes == {False}
    assert [module.training for module in teacher.modules()] == modes
    assert same(teacher.state_dict(), before)
    assert all(value.requires_grad and value.grad is None for value in teacher.parameters())


@pytest.mark.parametrize("given", [1, 3])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalization_is_undone(given: int, order: Any) -> None:
    images = torch.rand(2, given, 8, 8)
    preprocess = PreprocessSpec(resize=8, crop=8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), order=order)
    torch.testing.assert_close(denormalised(normalised(images, preprocess, given), preprocess), images)


def test_a_network_of_the_zoo_gets_its_own_size_channels_and_normalization(
    tiny_16: ArchSpec, few_digits: ImageDataset
) -> None:
    own = PreprocessSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resize=24, crop=24, order="bgr")
    spec = tiny_16.model_copy(update={"input_size": 24, "preprocess": own})
    model = network(spec).eval()
    plain = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    scaled = F.interpolate(plain, size=(24, 24), mode="bilinear", antialias=True)
    expected = model(normalised(scaled, own, 3))
    found = Teacher(model, few_digits, INPUTS).logits(INPUTS(plain))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    gray = FBNet(spec, num_classes=10, in_chans=1)
    randomize(gray, 0)
    expected = gray.eval()(normalised(scaled, own, 1))
    found = Teacher(gray, few_digits, INPUTS).logits(INPUTS(plain))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_classes_are_matched_by_name(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    model, images = network(tiny_16).eval(), torch.rand(2, 3, 16, 16)
    turned = tuple(reversed(few_digits.classes))
    model.class_names = turned
    found = Teacher(model, few_digits, INPUTS).logits(images)
    assert torch.equal(found, model(images).flip(1))
    dataset = replace(few_digits, classes=turned)
    assert torch.equal(Teacher(model, dataset, INPUTS).logits(images), model(images))


@pytest.mark.parametrize(
    ("teacher", "problem"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 9)), r"outputs \(2, 9\) for 2 images, .* expected \(2, 10\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 10)), r"does not accept images \(2, 3, 16, 16\): "),
        (nn.Flatten(0), r"outputs \(1536,\) for 2 images"),
    ],
)
def test_unfit_modules_are_refused(
    tiny_16: ArchSpec, few_digits: ImageDataset, teacher: nn.Module, problem: str
) -> None:
    with pytest.raises(InputError, match=rf"the teacher {problem}"):
        fit(network(tiny_16), few_digits, PLAIN, INPUTS, teacher=teacher)


def test_other_classes_are_refused(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    other = network(tiny_16)
    other.class_names = ("ten", *few_digits.classes[1:])
    with pytest.raises(InputError, match=r"the teacher cannot be used: .* only the weights have 'ten'"):
        Teacher(other, few_digits, INPUTS)
    with pytest.raises(InputError, match=r"the teacher cannot be used: .* have 12 classes, but few_digits has 10"):
        Teacher(FBNet(tiny_16, num_classes=12), few_digits, INPUTS)


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("definition") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def teacher(definition: Path, few_digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(definition, few_digits, PLAIN, tmp_path_factory.mktemp("runs") / "teacher")


@pytest.fixture(scope="module")
def recipe(definition: Path, teacher: Trained) -> Recipe:
    return PLAIN.model_copy(update={"teacher": str(definition), "teacher_weights": str(teacher.weights)})


def test_a_recipe_names_the_teacher(
    definition: Path, few_digits: ImageDataset, recipe: Recipe, teacher: Trained, tmp_path: Path
) -> None:
    named = train(definition, few_digits, recipe, tmp_path / "named")
    given = train(definition, few_digits, PLAIN, tmp_path / "given", teacher=teacher.network)
    alone = train(definition, few_digits, PLAIN, tmp_path / "alone")
    assert same(named.network.state_dict(), given.network.state_dict())
    assert not same(named.network.state_dict(), alone.network.state_dict())
    configs = [json.loads((tmp_path / each / "config.json").read_text())["config"] for each in ("named", "given")]
    assert configs[0]["teacher"] == configs[1]["teacher"]
    assert configs[0]["teacher"]["name"] == "tiny"
    assert "teacher" not in json.loads((tmp_path / "alone" / "config.json").read_text())["config"]


def test_another_teacher_does_not_resume_a_run(
    definition: Path, few_digits: ImageDataset, teacher: Trained, tmp_path: Path
) -> None:
    train(definition, few_digits, PLAIN, tmp_path / "run", teacher=teacher.network)
    other = copy.deepcopy(teacher.network)
    other.stem.bn.running_mean += 1
    with pytest.raises(InputError, match=r"a run with another teacher \(sha256: "):
        train(definition, few_digits, PLAIN, tmp_path / "run", teacher=other, resume=True)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"teacher": "fbnet_q"}, "fbnet_q"),
        ({"teacher_weights": "nowhere.safetensors"}, "nowhere.safetensors"),
    ],
)
def test_a_missing_teacher_leaves_no_folder(
    definition: Path,
    few_digits: ImageDataset,
    recipe: Recipe,
    tmp_path: Path,
    fields: dict[str, str],
    problem: str,
) -> None:
    with pytest.raises(InputError, match=problem):
        train(definition, few_digits, recipe.model_copy(update=fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()
