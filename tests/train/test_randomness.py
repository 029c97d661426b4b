"""What a training sees: images, classes, augmentation and dropout, step by step, told by the network itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.datasets import ImageDataset, Pixels
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import Augmentation, Recipe, RunFolder, fit
from tests.helpers.training import INPUTS, RECIPE, STEPS, training_batches

COUNT, BATCH = 37, 6
EPOCHS, EACH = 3, COUNT // BATCH
"""Epochs, and steps of each; one image is left over."""


def numbered() -> ImageDataset:
    """Images of one level each, all different, whose class follows from the level."""
    levels = torch.arange(COUNT) / COUNT
    images = Pixels(pixels=levels.view(-1, 1, 1, 1).expand(-1, 1, 16, 16).clone(), labels=torch.arange(COUNT) % 5)
    few = Pixels(pixels=images.pixels[:4], labels=images.labels[:4])
    return ImageDataset(
        name="levels",
        kind="digits",
        classes=tuple("abcde"),
        channels=1,
        size=16,
        train=images,
        held_out=few,
        split="the first four",
    )


class Witness(nn.Module):
    """Notes the images, the noise of dropout and the gradient of its logits, which tells the classes, in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(5))
        self.seen: list[Tensor] = []
        self.dropped: list[Tensor] = []
        self.classes: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        logits = self.shift.expand(len(x), 5) + 0.0
        if self.training:
            self.seen.append(x.detach().clone())
            self.dropped.append(F.dropout(torch.ones(64), 0.5, training=True) > 0)
            logits.register_hook(lambda gradient: self.classes.append(gradient.argmin(1)))
        return logits


def witnessed(**fields: Any) -> Witness:
    recipe = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "ema_decay": None,
        "label_smoothing": 0.0,
        "lr": 1e-9,
        "threads": 1,
    }
    witness = Witness()
    fit(witness, numbered(), Recipe.model_validate({**recipe, **fields}), INPUTS)
    return witness


def indices(images: Tensor) -> list[int]:
    """Return which images these are, by the level of their first channel before normalization."""
    mean, std = INPUTS.preprocess.mean[0], INPUTS.preprocess.std[0]
    levels = images[:, 0, 0, 0] * std + mean
    return [round(float(level) * COUNT) for level in levels]


@pytest.fixture(scope="module")
def plain() -> Witness:
    return witnessed()


class TestSteps:
    def test_images_are_normalized_channel_by_channel(self, plain: Witness) -> None:
        for images in plain.seen:
            assert images.shape == (BATCH, 3, 16, 16)
            for image, index in zip(images, indices(images), strict=True):
                levels = (index / COUNT - torch.tensor(INPUTS.preprocess.mean)) / torch.tensor(INPUTS.preprocess.std)
                torch.testing.assert_close(image, levels[:, None, None].expand(3, 16, 16))

    def test_every_image_comes_at_most_once_in_an_epoch(self, plain: Witness) -> None:
        orders = [
            [index for images in plain.seen[EACH * epoch : EACH * (epoch + 1)] for index in indices(images)]
            for epoch in range(EPOCHS)
        ]
        assert all(len(set(order)) == len(order) == EACH * BATCH for order in orders)
        assert len({tuple(order) for order in orders}) == EPOCHS
        assert len({(set(range(COUNT)) - set(order)).pop() for order in orders}) > 1

    def test_classes_are_those_of_the_images(self, plain: Witness) -> None:
        assert len(plain.classes) == EPOCHS * EACH
        for images, classes in zip(plain.seen, plain.classes, strict=True):
            assert classes.tolist() == [index % 5 for index in indices(images)]

    def test_every_step_draws_its_own_dropout(self, plain: Witness) -> None:
        masks = {tuple(mask.tolist()) for mask in plain.dropped}
        assert len(masks) == EPOCHS * EACH
        assert 0.45 < torch.stack(plain.dropped).float().mean() < 0.55

    def test_equal_seeds_draw_the_same_and_others_differ(self, plain: Witness) -> None:
        again, other = witnessed(), witnessed(seed=1)
        for mine, same, different in (
            (plain.seen, again.seen, other.seen),
            (plain.dropped, again.dropped, other.dropped),
        ):
            assert all(map(torch.equal, mine, same))
            assert not any(map(torch.equal, mine, different))


def augmented(augmentation: Augmentation, *, seed: int = 3, epoch: int = 0) -> dict[int, Tensor]:
    """Return the images of an epoch by their index; what is drawn on them survives any flip or shift."""
    generator = torch.Generator().manual_seed(0)
    images = Pixels(pixels=torch.rand(COUNT, 1, 16, 16, generator=generator), labels=torch.arange(COUNT))
    batches = training_batches(images, INPUTS, augmentation, batch_size=1, seed=seed, epoch=epoch)
    return {int(label): image for batch, labels in batches for image, label in zip(batch, labels, strict=True)}


class TestAugmentation:
    @pytest.mark.parametrize(
        "augmentation",
        [Augmentation(pad=0.25), Augmentation(degrees=20), Augmentation(zoom=0.3), Augmentation(resized_crop=0.3)],
        ids=lambda each: str(each.model_dump(exclude_defaults=True)),
    )
    def test_depends_on_seed_epoch_and_image(self, augmentation: Augmentation) -> None:
        first, again = augmented(augmentation), augmented(augmentation)
        assert first.keys() == again.keys() == set(range(COUNT))
        assert all(torch.equal(first[index], again[index]) for index in first)
        for other in (augmented(augmentation, epoch=1), augmented(augmentation, seed=4)):
            changed = sum(not torch.equal(first[index], other[index]) for index in first)
            assert changed > 0.9 * COUNT

    def test_mirrors_half_of_the_images_other_ones_in_every_epoch(self) -> None:
        plain = augmented(Augmentation())
        mirrored = []
        for epoch in range(4):
            found = augmented(Augmentation(flip=True), epoch=epoch)
            for index, image in found.items():
                assert torch.equal(image, plain[index]) or torch.equal(image, plain[index].flip(-1))
            mirrored.append({index for index, image in found.items() if not torch.equal(image, plain[index])})
        assert 0.35 < sum(map(len, mirrored)) / (4 * COUNT) < 0.65
        assert len({frozenset(each) for each in mirrored}) == 4

    def test_is_not_the_same_for_all_images(self) -> None:
        images = Pixels(pixels=torch.rand(1, 1, 16, 16).expand(COUNT, 1, 16, 16), labels=torch.arange(COUNT))
        change = Augmentation(degrees=20)
        ((batch, _),) = training_batches(images, INPUTS, change, batch_size=COUNT, seed=0, epoch=0)
        assert len({image.numpy().tobytes() for image in batch}) == COUNT


class Recorded(RunFolder):
    """A run folder that keeps a copy of itself as it is before and after every file is written: what a kill leaves."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.moments: list[tuple[bytes | None, str]] = []

    def _noting(self, write: Callable[..., None], *given: Any) -> None:
        self.note()
        write(*given)
        self.note()

    def note(self) -> None:
        checkpoint = self.checkpoint.read_bytes() if self.checkpoint.exists() else None
        self.moments.append((checkpoint, self.metrics.read_text() if self.metrics.exists() else ""))

    def save(self, state: Any) -> None:
        self._noting(super().save, state)

    def log(self, record: Any) -> None:
        self._noting(super().log, record)


class TestKilled:
    def test_log_and_checkpoint_are_in_step_after_a_kill_at_any_moment(
        self, tiny_16: ArchSpec, few_digits: ImageDataset, tmp_path: Path
    ) -> None:
        recipe = RECIPE.model_copy(update={"epochs": 2, "checkpoint_steps": STEPS // 2})

        def network() -> FBNet:
            torch.manual_seed(0)
            return FBNet(tiny_16, num_classes=10, drop_rate=0.1, drop_path_rate=0.2)

        (tmp_path / "whole").mkdir()
        whole = Recorded(tmp_path / "whole")
        fit(network(), few_digits, recipe, INPUTS, folder=whole)
        expected = without_times(whole)
        assert [record["step"] for record in expected] == [STEPS, 2 * STEPS]
        distinct = list(dict.fromkeys(whole.moments))
        assert len(distinct) > 5
        for number, (checkpoint, metrics) in enumerate(distinct):
            folder = RunFolder(tmp_path / str(number))
            folder.path.mkdir()
            if checkpoint is not None:
                folder.checkpoint.write_bytes(checkpoint)
            folder.metrics.write_text(metrics + '{"epoch": 9, "st')  # a line that was not written whole
            fit(network(), few_digits, recipe, INPUTS, folder=folder)
            assert without_times(folder) == expected
            assert len(folder.metrics.read_text().splitlines()) == len(expected)


def without_times(folder: RunFolder) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
