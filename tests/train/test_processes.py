"""A training in several processes is the training of one: two real ones, joined by gloo, against one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fbnet_zoo.errors import InputError
from fbnet_zoo.train import train
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers import train_processes
from tests.helpers.launched import GROUND, Outcomes, free_port, seen, together
from tests.helpers.surroundings import PATIENCE_S
from tests.helpers.train_processes import EPOCH, outcome
from tests.helpers.training import TINY, few, same


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("two")
    together(str(Path(train_processes.__file__)), str(where))
    return where


@pytest.fixture(scope="module")
def two(folder: Path) -> Outcomes:
    """What each of two processes saw, in the order of their ranks."""
    return seen(folder)


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["metrics"] == other["metrics"] and same(one["state"], other["state"])


@pytest.mark.slow
class TestTwo:
    @pytest.mark.parametrize("name", ["like_one", "sgd", "mixing", "frozen"])
    def test_are_as_one(self, two: Outcomes, tmp_path: Path, name: str) -> None:
        one, both = outcome(getattr(train_processes, name), Processes(), tmp_path), two[0][name]
        for key, value in one["state"].items():
            torch.testing.assert_close(both["state"][key], value, rtol=1e-4, atol=1e-5)
        for figure in ("step", "loss", "train_top1", "top1", "lr"):
            assert both["metrics"][figure] == pytest.approx(one["metrics"][figure], rel=1e-4), figure

    @pytest.mark.parametrize("name", ["like_one", "sgd", "mixing", "frozen", "as_usual", "resumed"])
    def test_have_the_same_weights(self, two: Outcomes, name: str) -> None:
        """To the bit, statistics of batch norms too."""
        assert alike(two[0][name], two[1][name])

    def test_leave_frozen_statistics_alone(self, two: Outcomes) -> None:
        state = two[0]["frozen"]["state"]
        assert torch.equal(state["1.running_mean"], torch.full((8,), 0.1))
        assert torch.equal(state["1.running_var"], torch.full((8,), 0.7))

    def test_go_on_where_they_stopped(self, two: Outcomes) -> None:
        assert alike(two[0]["resumed"], two[0]["as_usual"])

    def test_write_the_files_of_one(self, folder: Path) -> None:
        for name in ("as_usual", "resumed"):
            run = RunFolder(folder / name)
            assert [record["step"] for record in run.records()] == [EPOCH, 2 * EPOCH, 3 * EPOCH]
            assert {path.name for path in run.path.iterdir()} == {run.checkpoint.name, run.metrics.name}

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("bad_loss", f"TrainingError: the loss is nan at step {EPOCH + 5}, with a learning rate of"),
            (
                "odd_batch",
                "InputError: a batch of 15 images cannot be divided among 2 processes; use a batch_size that",
            ),
        ],
    )
    def test_are_stopped_together(self, two: Outcomes, name: str, error: str) -> None:
        for each in two:
            assert each[name]["error"].startswith(error)

    def test_keep_the_last_good_checkpoint(self, folder: Path) -> None:
        saved = RunFolder(folder / "bad_loss").load()
        assert saved is not None
        assert saved["step"] == 12
        assert all(bool(value.isfinite().all()) for value in saved["network"].values())


@pytest.mark.slow
def test_accelerate_launches_the_command(tmp_path: Path) -> None:
    definition, out = tmp_path / "tiny.yaml", tmp_path / "run"
    definition.write_text(TINY)
    (tmp_path / "recipe.yaml").write_text("epochs: 1\nbatch_size: 64\n")
    launch = ["--multi_gpu", "--num_processes", "2", "--main_process_port", free_port(), "--mixed_precision", "bf16"]
    what = ["train", str(definition), "--data", "digits", "--recipe", str(tmp_path / "recipe.yaml")]
    line = ["-m", "accelerate.commands.launch", *launch, "-m", "fbnet_zoo", *what, "--json", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *line], env=GROUND, check=True, capture_output=True, text=True, timeout=PATIENCE_S
    )
    told = json.loads(done.stdout)
    assert json.loads((out / "config.json").read_text())["config"]["precision"] == "bf16"
    assert len(list(RunFolder(out).records())) == 1
    assert Path(told["weights"]).exists()


@pytest.mark.parametrize("precision", ["bf16"])
@pytest.mark.parametrize("case", [train_processes.like_one, train_processes.mixing])
def test_mixed_precision_is_nearly_the_same(tmp_path: Path, precision: Any, case: train_processes.Case) -> None:
    exact = outcome(case, Processes(), tmp_path)
    mixed = outcome(case, Processes(precision=precision), tmp_path)
    assert not same(exact["state"], mixed["state"])
    assert mixed["metrics"]["loss"] == pytest.approx(exact["metrics"]["loss"], rel=0.05)


def test_simulated_rounding_runs_alone(tmp_path: Path) -> None:
    definition = tmp_path / "tiny.yaml"
    definition.write_text(TINY)
    recipe = train_processes.SMALL.model_copy(update={"ema_decay": None})
    trained = train(definition, few(136), recipe, tmp_path / "run")
    with pytest.raises(InputError, match="qat runs in a single process; start it without a launcher"):
        train(
            definition,
            few(136),
            recipe,
            tmp_path / "qat",
            pretrained=trained.weights,
            qat=True,
            processes=Processes(count=2),
        )
