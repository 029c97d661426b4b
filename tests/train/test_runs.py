"""Runs: bit-identical repetition, resuming after a kill or at any step, and the content of the folder."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from fbnet_zoo import create, transforms
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import (
    EpochMetrics,
    RunFolder,
    Trained,
    fit,
    train,
)
from fbnet_zoo.weights.loading import save
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import ROOT
from tests.helpers.programs import Program
from tests.helpers.training import INPUTS, LONG, RECIPE, STEPS, TINY, same


@pytest.fixture(scope="session")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("definition") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def finished(definition: Path, few_digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of three epochs, not to be changed."""
    return train(definition, few_digits, RECIPE, tmp_path_factory.mktemp("runs") / "finished")


def test_equal_arguments_give_bit_identical_weights(
    finished: Trained, definition: Path, few_digits: ImageDataset, tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    seen: list[EpochMetrics] = []
    again = train(definition, few_digits, RECIPE, tmp_path / "again", progress=seen.append)
    assert same(again.network.state_dict(), finished.network.state_dict())
    assert again.weights.read_bytes() == finished.weights.read_bytes()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [(metrics.epoch, metrics.step) for metrics in seen] == [(1, STEPS), (2, 2 * STEPS), (3, 3 * STEPS)]
    assert seen[-1].top1 == again.metrics.top1 == finished.metrics.top1
    other = train(definition, few_digits, RECIPE.model_copy(update={"seed": 1}), tmp_path / "other")
    assert not same(other.network.state_dict(), finished.network.state_dict())


CHILD = """
import sys, time
from pathlib import Path
from fbnet_zoo.train import train
from tests.helpers.training import IMAGES, LONG, few

wait = lambda metrics: time.sleep(60 if metrics.epoch == 6 else 0)
train(Path(sys.argv[1]), few(IMAGES), LONG, Path(sys.argv[2]), progress=wait)
"""


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_result(definition: Path, few_digits: ImageDataset, tmp_path: Path) -> None:
    uninterrupted = train(definition, few_digits, LONG, tmp_path / "whole")
    killed, root = RunFolder(tmp_path / "killed"), ROOT
    with subprocess.Popen([sys.executable, "-c", CHILD, definition, killed.path], cwd=root) as child:
        while child.poll() is None and not list(killed.records()):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))  # any moment: in a step, or while a file is written
        child.kill()
    assert child.returncode == -signal.SIGKILL
    done = killed.load()
    assert done is not None
    assert 0 < done["step"] <= 6 * STEPS
    resumed = train(definition, few_digits, LONG, killed.path, resume=True)
    assert same(resumed.network.state_dict(), uninterrupted.network.state_dict())
    assert without_times(killed) == without_times(RunFolder(tmp_path / "whole"))


def without_times(folder: RunFolder) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in folder.records()]


@pytest.mark.parametrize("stop_at", first_is_quick([STEPS + 1, 1, 4, STEPS, 3 * STEPS - 1]))
def test_run_resumed_at_any_step_gives_the_same_result(
    finished: Trained, tiny_16: ArchSpec, few_digits: ImageDataset, tmp_path: Path, stop_at: int
) -> None:
    class StoppedError(Exception):
        pass

    class Stopping(FBNet):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                if self.steps == stop_at:
                    raise StoppedError("by the test")
                self.steps += 1
            return super().forward(x)

    recipe = RECIPE.model_copy(update={"checkpoint_steps": 1})
    folder = RunFolder(tmp_path)

    def start(kind: type[FBNet]) -> FBNet:
        torch.manual_seed(recipe.seed)
        return kind(tiny_16, num_classes=10, drop_rate=recipe.drop_rate, drop_path_rate=recipe.drop_path_rate)

    with pytest.raises(StoppedError, match="by the test"):
        fit(start(Stopping), few_digits, recipe, INPUTS, folder=folder)
    model = start(FBNet)
    fit(model, few_digits, recipe, INPUTS, folder=folder)
    assert same(model.state_dict(), finished.network.state_dict())
    assert [record["step"] for record in folder.records()] == [STEPS, 2 * STEPS, 3 * STEPS]


def test_completed_run_is_not_trained_further(finished: Trained, definition: Path, few_digits: ImageDataset) -> None:
    again = train(definition, few_digits, RECIPE, finished.weights.parent, resume=True)
    assert again.metrics == finished.metrics
    assert same(again.network.state_dict(), finished.network.state_dict())


def test_folder_of_another_run_is_refused(finished: Trained, definition: Path, few_digits: ImageDataset) -> None:
    folder = finished.weights.parent
    with pytest.raises(InputError, match=r"finished already holds a run; resume it \(--resume\)"):
        train(definition, few_digits, RECIPE, folder)
    other = RECIPE.model_copy(update={"lr": 1e-3})
    with pytest.raises(InputError, match=r"another recipe \(lr: 0.004, now 0.001\); use the same"):
        train(definition, few_digits, other, folder, resume=True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"recipe": RECIPE.model_copy(update={"batch_size": 1000})}, "136 training images, fewer than a batch of 1000"),
        ({"qat": True}, "qat requires trained weights"),
        ({"pretrained": "nowhere.safetensors"}, "is not a file"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(
    definition: Path, few_digits: ImageDataset, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    words: dict[str, Any] = {"recipe": RECIPE, "out": tmp_path / "run", **changes}
    with pytest.raises(InputError, match=problem):
        train(definition, few_digits, **words)
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(
    definition: Path, few_digits: ImageDataset, finished: Trained, tmp_path: Path
) -> None:
    def second(metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            program = Program(lambda _: print(train(definition, few_digits, RECIPE, run, resume=True)), tmp_path)
            assert program.end() == 99
            assert "InputError" in program.text
            assert f"{run} is in use by another run; wait until it ends, or use another folder" in program.text

    run = tmp_path / "run"
    first = train(definition, few_digits, RECIPE, run, progress=second)
    assert first.weights.read_bytes() == finished.weights.read_bytes()
    assert without_times(RunFolder(run)) == without_times(RunFolder(finished.weights.parent))
    assert {path.name for path in run.iterdir()} == {path.name for path in finished.weights.parent.iterdir()}


def test_damaged_checkpoint_is_refused(
    definition: Path, few_digits: ImageDataset, finished: Trained, tmp_path: Path
) -> None:
    shutil.copytree(finished.weights.parent, tmp_path, dirs_exist_ok=True)
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"checkpoint.pt is damaged .* start again in another folder"):
        train(definition, few_digits, RECIPE, tmp_path, resume=True)


def test_weights_of_a_run_are_loaded_by_their_path(finished: Trained, definition: Path) -> None:
    loaded = create(definition, pretrained=finished.weights, num_classes=10).eval()
    assert same(loaded.state_dict(), finished.network.state_dict())
    assert loaded.weights == finished.network.weights == "trained on few_digits"
    assert loaded.license is None
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    image.putpixel((0, 0), (0, 0, 255))
    assert transforms(loaded)(image)[0, 0, 0] < -2  # small images are not cropped
    with safe_open(finished.weights, framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training["recipe"] == RECIPE.model_dump(mode="json", exclude={"workers"})
    assert training["data"]["split"] == "the first 50 of those that are held out"


def test_fine_tuning_starts_from_weights_and_keep_their_name_and_license(
    finished: Trained, definition: Path, few_digits: ImageDataset, tmp_path: Path
) -> None:
    model = create(definition, pretrained=finished.weights, num_classes=10)
    model.license = "CC-BY-4.0"
    save(model, tmp_path / "start.safetensors")
    recipe = RECIPE.model_copy(update={"epochs": 1, "lr": 1e-12, "ema_decay": None})
    tuned = train(definition, few_digits, recipe, tmp_path / "run", pretrained=tmp_path / "start.safetensors")
    for mine, theirs in zip(tuned.network.parameters(), finished.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert tuned.network.weights == "trained on few_digits from trained on few_digits, saved again"
    assert create(definition, pretrained=tuned.weights).license == "CC-BY-4.0"
