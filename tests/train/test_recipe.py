"""Recipes: optimizers and augmentation against references, values of search spaces, and records of earlier versions."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo import _require, arch_file
from fbnet_zoo.blocks import DropPath
from fbnet_zoo.data import photographs
from fbnet_zoo.datasets import Files, ImageDataset
from fbnet_zoo.errors import DefinitionError, InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.space import list_spaces, load_space
from fbnet_zoo.space.files import parse
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import (
    Augmentation,
    Recipe,
    RunFolder,
    default_recipe,
    fit,
    load_recipe,
    recipe_over,
    require_ranges,
    train,
)
from fbnet_zoo.train.batches import train_transform
from fbnet_zoo.weights.loading import randomize
from tests.helpers.space_texts import SMALL
from tests.helpers.training import BATCH, INPUTS, STEPS, TINY, few, same, training_batches

FORMER = {
    *("epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup_epochs"),
    *("label_smoothing", "ema_decay", "drop_rate", "drop_path_rate", "augmentation", "seed", "threads", "workers"),
    *("evaluate_epochs", "checkpoint_steps"),
}
FORMER_CHANGES = {
    *("resized_crop", "pad", "flip", "degrees", "shift", "zoom", "shear", "brightness", "contrast", "saturation")
}

EVERYTHING = Recipe(
    epochs=2,
    batch_size=BATCH,
    optimizer="rmsprop",
    lr=2e-3,
    warmup_epochs=0.5,
    mixup=0.3,
    cutmix=1.0,
    ema_decay=0.9,
    drop_rate=0.1,
    drop_path_rate=0.2,
    freeze=("stem",),
    layer_lr_decay=0.7,
    augmentation=Augmentation(degrees=10, randaugment_ops=2),
    threads=1,
    checkpoint_steps=3,
)
"""With all that can be in a recipe, apart from a teacher."""

v2 = _require.torchvision("torchvision.transforms.v2")


def network(spec: ArchSpec, seed: int = 0, kind: type[FBNet] = FBNet) -> FBNet:
    model = kind(spec, num_classes=10, drop_rate=0.1, drop_path_rate=0.2)
    randomize(model, seed)
    return model


def test_rmsprop_is_that_of_the_reference(tiny_16: ArchSpec, few_digits: ImageDataset) -> None:
    """Written out, with the constants of torchvision's recipe for MobileNetV3."""
    recipe = Recipe(
        epochs=1,
        batch_size=BATCH,
        optimizer="rmsprop",
        lr=3e-3,
        momentum=0.8,
        weight_decay=0.1,
        schedule="constant",
        warmup_epochs=0,
        ema_decay=None,
        threads=1,
    )
    model = FBNet(tiny_16, num_classes=10)
    randomize(model, 0)
    expected = copy.deepcopy(model).train()
    squares = {name: torch.zeros_like(value) for name, value in expected.named_parameters()}
    speeds = copy.deepcopy(squares)
    for images, labels in training_batches(
        few_digits.train, INPUTS, recipe.augmentation, batch_size=BATCH, seed=0, epoch=0
    ):
        expected.zero_grad()
        F.cross_entropy(expected(images), labels, label_smoothing=0.1).backward()
        for name, value in expected.named_parameters():
            gradient = value.grad + (0.1 * value.data if value.ndim > 1 else 0)
            squares[name] = 0.9 * squares[name] + 0.1 * gradient**2
            speeds[name] = 0.8 * speeds[name] + gradient / (squares[name].sqrt() + 0.0316)
            value.data = value.data - 3e-3 * speeds[name]
    fit(model, few_digits, recipe, INPUTS)
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.08), ("rmsprop", 0.02), ("adamw", 0.02)])
def test_the_factor_of_sgd_is_for_sgd_only(
    tiny_16: ArchSpec, few_digits: ImageDataset, optimizer: str, lr: float
) -> None:
    fields = {"optimizer": optimizer, "lr": 0.02, "sgd_lr_factor": 4, "schedule": "constant", "warmup_epochs": 0}
    recipe = Recipe.model_validate(fields | {"epochs": 1, "batch_size": BATCH, "threads": 1})
    assert fit(network(tiny_16), few_digits, recipe, INPUTS).lr == lr


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_drop_path_is_the_stochastic_depth_of_torchvision(rate: float) -> None:
    ops = _require.torchvision("torchvision.ops")
    images = torch.rand(64, 3, 2, 2)
    torch.manual_seed(5)
    expected = ops.stochastic_depth(images, rate, "row")
    torch.manual_seed(5)
    assert torch.equal(DropPath(rate).train()(images), expected)
    assert torch.equal(DropPath(rate).eval()(images), images)


def test_rates_of_stochastic_depth_rise_linearly(tiny_16: ArchSpec) -> None:
    first, last = tiny_16.stages
    longer = last.model_copy(update={"blocks": (last.blocks[0], *[last.blocks[1]] * 4)})
    deep = tiny_16.model_copy(update={"stages": (first, longer)})
    model = FBNet(deep, num_classes=10, drop_path_rate=0.3)
    rates = {name: each.rate for name, each in model.named_modules() if isinstance(each, DropPath)}
    assert rates == pytest.approx({f"stages.4.{at}.drop_path": 0.3 * (at + 1) / 5 for at in range(1, 5)})


class TestRandAugment:
    def test_is_that_of_torchvision(self, few_digits: ImageDataset) -> None:
        change = train_transform(Augmentation(randaugment_ops=3, randaugment_magnitude=12), INPUTS.preprocess)
        reference = v2.RandAugment(3, 12, interpolation=v2.InterpolationMode.BILINEAR)
        others = 0.0
        for index in range(40):
            torch.manual_seed(index)
            found = change(few_digits.train, index)
            torch.manual_seed(index)
            image = few_digits.train.fitted(index, INPUTS.preprocess)
            assert torch.equal(found, reference(image))
            torch.manual_seed(index)
            whole = reference((255 * image).round().to(torch.uint8)).float() / 255
            others += float(((found - whole).abs() > 0.03).float().mean()) / 40
        assert others < 0.01  # the steps of some operations make rounding visible

    def test_changes_photographs_too(self) -> None:
        files = Files(paths=photographs(), labels=torch.tensor([0, 1]))
        change = train_transform(Augmentation(resized_crop=1.0, randaugment_ops=2), INPUTS.preprocess)
        plain = train_transform(Augmentation(resized_crop=1.0), INPUTS.preprocess)
        reference = v2.RandAugment(2, 9, interpolation=v2.InterpolationMode.BILINEAR)
        to_pil = v2.ToPILImage()
        for seed in range(10):
            torch.manual_seed(seed)
            expected = plain(files, 0)
            expected = v2.functional.pil_to_tensor(reference(to_pil((255 * expected).round().to(torch.uint8))))
            torch.manual_seed(seed)
            torch.testing.assert_close(change(files, 0), expected.float() / 255)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_does_not_depend_on_workers_or_position(self, few_digits: ImageDataset, workers: int) -> None:
        asked: dict[str, Any] = {"batch_size": BATCH, "seed": 3, "epoch": 1}
        change = Augmentation(randaugment_ops=2)
        whole = list(training_batches(few_digits.train, INPUTS, change, **asked))
        part = list(training_batches(few_digits.train, INPUTS, change, **asked, first=5, workers=workers))
        assert all(torch.equal(one[0], other[0]) for one, other in zip(part, whole[5:], strict=True))
        other = list(training_batches(few_digits.train, INPUTS, change, **{**asked, "epoch": 2}))
        assert not torch.equal(torch.cat([each[0] for each in whole]), torch.cat([each[0] for each in other]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FBNet:
    """A run that nothing interrupted."""
    return taught(FBNet, EVERYTHING)


def test_everything_is_the_same_again_with_any_number_of_workers(whole: FBNet) -> None:
    again = taught(FBNet, EVERYTHING.model_copy(update={"workers": 2}))
    assert same(again.state_dict(), whole.state_dict())


def test_everything_resumes_to_the_same_weights(whole: FBNet, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Stopping(FBNet):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            if self.steps == STEPS + 6:
                raise StoppedError("by the test")
            return super().forward(x)

    folder = RunFolder(tmp_path)
    with pytest.raises(StoppedError, match="by the test"):
        taught(Stopping, EVERYTHING, folder)
    saved = folder.load()
    assert saved is not None
    assert saved["step"] == STEPS + 4
    assert same(taught(FBNet, EVERYTHING, folder).state_dict(), whole.state_dict())


def taught(kind: type[FBNet], recipe: Recipe, folder: RunFolder | None = None) -> FBNet:
    spec = arch_file.parse(TINY)
    model = network(spec, kind=kind)
    fit(model, few(136), recipe, INPUTS, folder=folder, teacher=network(spec, seed=1))
    return model


class TestValuesOfSpaces:
    @pytest.mark.parametrize("name", list_spaces())
    def test_are_valid(self, name: str) -> None:
        require_ranges(default_recipe("folder"), load_space(name).spec.recipe)

    def test_make_a_recipe(self) -> None:
        base = default_recipe("digits")
        ranges = {each.name: each.values for each in load_space("fbnetv3").spec.recipe}
        recipe = recipe_over(base, {name: values[-1] for name, values in ranges.items()})
        expected = {"optimizer": "sgd", "lr": 0.03, "sgd_lr_factor": 4, "weight_decay": 2.1e-5, "ema_decay": 0.99985}
        expected |= {"mixup": 0.41, "drop_rate": 0.31, "drop_path_rate": 0.31}
        assert recipe == base.model_copy(update=expected)
        assert recipe.peak_lr == pytest.approx(0.12)
        assert recipe_over(base, {"ema_decay": None}).ema_decay is None
        assert recipe_over(base, {}) == base

    def test_may_be_inside_others(self) -> None:
        base = default_recipe("digits")
        recipe = recipe_over(base, {"augmentation.flip": True, "augmentation.randaugment_ops": 2})
        assert recipe.augmentation == base.augmentation.model_copy(update={"flip": True, "randaugment_ops": 2})

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            ({"learn_rate": 1}, r"recipe: unknown key 'learn_rate'; "),
            ({"momentun": 1}, r"recipe: unknown key 'momentun'; did you mean 'momentum'\?"),
            ({"lr": 0}, r"recipe: 'lr' cannot be 0: input should be greater than 0"),
            ({"optimizer": "rms"}, r"'optimizer' cannot be 'rms': expected .* or 'rmsprop'"),
            ({"augmentation.turn": 3}, r"unknown key 'turn'"),
            ({"augmentation.flip": 3}, r"'flip' cannot be 3: expected true or false"),
            ({"lr.high": 3}, r"'lr' cannot be \{.*\}"),
            ({"teacher_weights": "auto"}, r"'teacher_weights' requires 'teacher'; add it"),
        ],
    )
    def test_errors_name_the_key(self, values: dict[str, Any], problem: str) -> None:
        with pytest.raises(InputError, match=problem):
            recipe_over(default_recipe("digits"), values)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("lr: [0.1, -1]", "'lr' cannot be -1"),
            ("dropout: [0, 0.1]", "unknown key 'dropout'"),
            ("augmentation.zoom: [0, 1]", "'zoom' cannot be 1"),
        ],
    )
    def test_every_value_is_checked(self, line: str, problem: str) -> None:
        text = SMALL.replace("optimizer: [sgd, adamw]", line).replace("\n  lr: {first", "\n  mixup: {first")
        ranges = parse(text).spec.recipe
        with pytest.raises(InputError, match=problem):
            require_ranges(default_recipe("digits"), ranges)

    def test_need_a_key_of_a_recipe(self) -> None:
        with pytest.raises(
            DefinitionError, match=r"'name' cannot be 'a\.b\.c': expected a key of a recipe, such as lr"
        ):
            parse(SMALL.replace("optimizer:", "a.b.c:"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mixup: -0.1", r":1: 'mixup' cannot be -0.1"),
        ("cutmix: .inf", r":1: 'cutmix' cannot be"),
        ("epochs: 1\ndistill_share: 1.5", r":2: 'distill_share' cannot be 1.5"),
        ("distill_temperature: 0", r"'distill_temperature' cannot be 0"),
        ("layer_lr_decay: 0", r"'layer_lr_decay' cannot be 0"),
        ("freeze: stem", r"'freeze' cannot be 'stem'"),
        ("augmentation: {randaugment_magnitude: 31}", r"'randaugment_magnitude' cannot be 31"),
        ("epochs: 1\nteacher_weights: x", r":2: 'teacher_weights' requires 'teacher'; add it"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(DefinitionError, match=problem):
        load_recipe(tmp_path / "recipe.yaml", default_recipe("digits"))


def test_files_give_lists(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("freeze: [stem, stages.4]\naugmentation: {randaugment_ops: 1}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml", default_recipe("digits"))
    assert recipe.freeze == ("stem", "stages.4")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_records_of_earlier_versions_stay_the_same() -> None:
    """What a recipe does not use is not written, so that runs that were started before can be resumed."""
    for kind in ("digits", "cifar", "folder"):
        written = default_recipe(kind).model_dump(mode="json")
        assert written.keys() == FORMER
        assert written["augmentation"].keys() == FORMER_CHANGES
    changed = Recipe(mixup=0.2, augmentation=Augmentation(randaugment_ops=1)).model_dump()
    assert changed.keys() == FORMER | {"mixup"}
    assert changed["augmentation"].keys() == FORMER_CHANGES | {"randaugment_ops"}


def test_the_run_folder_tells_what_was_used(few_digits: ImageDataset, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    recipe = EVERYTHING.model_copy(update={"epochs": 1})
    train(tmp_path / "tiny.yaml", few_digits, recipe, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "config.json").read_text())["config"]["recipe"]
    assert (told["mixup"], told["freeze"], told["augmentation"]["randaugment_ops"]) == (0.3, ["stem"], 2)
    other = recipe.model_copy(update={"mixup": 0.0})
    with pytest.raises(InputError, match=re.escape("another recipe (mixup: 0.3, now None)")):
        train(tmp_path / "tiny.yaml", few_digits, other, tmp_path / "run", resume=True)
