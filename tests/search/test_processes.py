"""A search in several processes is the search of one: two real ones, joined by gloo, against one with whole batches."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.loop import GradientResult
from fbnet_zoo.train.batches import Shard, TrainingLoader, epoch_indices
from fbnet_zoo.train.processes import Precision, Processes
from fbnet_zoo.train.recipe import Augmentation
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers import search_processes
from tests.helpers.launched import GROUND, Outcomes, free_port, seen, together
from tests.helpers.search_processes import EPOCH, Stopped, changed, found, outcome, stopped_after, supernet
from tests.helpers.search_spaces import NANO
from tests.helpers.surroundings import PATIENCE_S
from tests.helpers.training import INPUTS, few, same, training_batches

SCRIPT = Path(search_processes.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("two")
    together(str(SCRIPT), str(where))
    return where


@pytest.fixture(scope="module")
def two(folder: Path) -> Outcomes:
    """What each of two processes saw, in the order of their ranks."""
    return seen(folder)


def without_times(case: dict[str, Any]) -> dict[str, Any]:
    return {**case, "epochs": [record | {"seconds": 0} for record in case["epochs"]]}


@pytest.mark.slow
class TestTwo:
    def test_they_know_of_each_other(self, two: Outcomes) -> None:
        assert [each["processes"] for each in two] == [repr(Processes(rank=rank, count=2)) for rank in range(2)]

    def test_they_exchange_values(self, two: Outcomes) -> None:
        halves = [each / 2 for each in range(24)]
        image, doubles, single = two[0]["exchanged"]["means"]
        assert torch.tensor(image).flatten().tolist() == halves
        assert (doubles, single) == ([0.5, 0.5], 3.0)
        assert two[0]["exchanged"]["squares"] == [0, 1, 4, 9, 16]

    def test_both_see_the_same(self, two: Outcomes) -> None:
        """Theta to the bit, networks, errors, and the times of the main process."""
        ours, others = (each | {"processes": ""} for each in two)
        assert ours == others

    @pytest.mark.parametrize("name", ["like_one", "per_image", "loader"])
    def test_two_are_as_one(self, two: Outcomes, tmp_path: Path, name: str) -> None:
        one, both = outcome(getattr(search_processes, name), Processes(), tmp_path), two[0][name]
        for theta, expected in zip(both["theta"], one["theta"], strict=True):
            assert theta == pytest.approx(expected, abs=1e-5)
        for record, expected in zip(both["epochs"], one["epochs"], strict=True):
            for figure in ("weight_loss", "theta_loss", "top1", "expected", "sampled", "multipliers"):
                assert record[figure] == pytest.approx(expected[figure], rel=1e-4, abs=1e-6), figure
        assert both["choices"] == one["choices"]

    def test_stopped_search_goes_on(self, two: Outcomes) -> None:
        assert without_times(two[0]["resumed"]) == without_times(two[0]["as_usual"])

    def test_one_may_go_on_where_two_stopped(self, folder: Path, two: Outcomes) -> None:
        """The checkpoint holds all: here the finished search, whose networks one process finds again."""
        again = found(supernet(kind=Supernet), changed(), Processes(), folder=RunFolder(folder / "as_usual"))
        assert [repr(network) for network in again.networks] == two[0]["as_usual"]["networks"]

    def test_statistics_are_those_of_the_checkpoint(self, folder: Path) -> None:
        saved = RunFolder(folder / "as_usual").load()
        assert saved is not None
        for rank in range(2):
            assert same(torch.load(folder / f"supernet{rank}.pt", weights_only=True), saved["supernet"])

    def test_files_are_those_of_one(self, folder: Path) -> None:
        for name in ("as_usual", "resumed"):
            run = RunFolder(folder / name)
            assert [record["step"] for record in run.records()] == [EPOCH, 2 * EPOCH]
            assert {path.name for path in run.path.iterdir()} == {run.checkpoint.name, run.metrics.name}

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("bad_images", "TrainingError: the search stopped after 5 steps: NaN or infinite values in the images"),
            ("bad_loss", "TrainingError: the search stopped after 14 steps: NaN or infinite values in the loss"),
            ("damaged", "InputError: {}/damaged/checkpoint.pt is damaged"),
            (
                "odd_batch",
                "InputError: a batch of 15 images cannot be divided among 2 processes; use a batch_size that",
            ),
        ],
    )
    def test_what_stops_one_stops_both(self, two: Outcomes, folder: Path, name: str, error: str) -> None:
        for each in two:
            assert each[name]["error"].startswith(error.format(folder))

    def test_last_good_checkpoint_stays(self, folder: Path) -> None:
        saved = RunFolder(folder / "bad_loss").load()
        assert saved is not None
        assert saved["step"] == 12


@pytest.mark.slow
def test_accelerate_launches_the_command(tmp_path: Path) -> None:
    """On CPUs too its flag for several processes is `--multi_gpu`; with `--cpu` it starts one."""
    space, out = tmp_path / "nano.yaml", tmp_path / "run"
    space.write_text(NANO)
    launch = ["--multi_gpu", "--num_processes", "2", "--main_process_port", free_port(), "--mixed_precision", "bf16"]
    what = ["--space", str(space), "--data", "digits", "--limit", "macs=60k", "--epochs", "2", "--warmup-epochs", "1"]
    how = ["--batch-size", "64", "--train-epochs", "1", "--json", "--out", str(out)]
    line = ["-m", "accelerate.commands.launch", *launch, "-m", "fbnet_zoo.search", *what, *how]
    done = subprocess.run(
        [sys.executable, *line], env=GROUND, check=True, capture_output=True, text=True, timeout=PATIENCE_S
    )
    told = json.loads(done.stdout)
    assert told["met"]
    assert told["weights"] == str(out / "weights.safetensors")
    assert (out / "weights.safetensors").exists()
    assert len(list(RunFolder(out / "training").records())) == 1
    assert json.loads((out / "search.json").read_text())["processes"] == 2
    assert json.loads((out / "config.json").read_text())["config"]["precision"] == "bf16"
    assert len(list(RunFolder(out).records())) == 2


@pytest.mark.slow
def test_module_is_the_command() -> None:
    """`accelerate launch -m` starts modules."""
    ran = [
        subprocess.run(
            [sys.executable, "-m", *words, "--help"], env=GROUND, check=False, capture_output=True, text=True
        )
        for words in (["fbnet_zoo.search"], ["fbnet_zoo", "search"])
    ]
    assert (ran[0].returncode, ran[0].stdout, ran[0].stderr) == (ran[1].returncode, ran[1].stdout, ran[1].stderr)


@pytest.fixture(scope="module")
def exact() -> GradientResult:
    return found(supernet(), changed(), Processes())


class TestPrecision:
    @pytest.mark.slow
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_search_is_nearly_the_same(self, exact: GradientResult, precision: Precision) -> None:
        mixed = found(supernet(), changed(), Processes(precision=precision))
        assert mixed.theta != exact.theta
        assert mixed.epochs[-1].weight_loss == pytest.approx(exact.epochs[-1].weight_loss, rel=0.02)
        assert mixed.epochs[-1].expected == pytest.approx(exact.epochs[-1].expected, rel=0.1)

    @pytest.mark.slow
    def test_stopped_search_goes_on(self, tmp_path: Path) -> None:
        """The factor that keeps small gradients is part of the checkpoint."""
        folder, half = RunFolder(tmp_path), Processes(precision="fp16")
        with pytest.raises(Stopped, match="by the test"):
            found(stopped_after(EPOCH + 5, supernet()), changed(), half, folder=folder)
        saved = folder.load()
        assert saved is not None
        assert saved["scaler"]["_growth_tracker"] == EPOCH + 5
        assert found(supernet(), changed(), half, folder=folder).theta == found(supernet(), changed(), half).theta

    def test_another_precision_is_refused(self, tmp_path: Path) -> None:
        found(supernet(), changed(epochs=1), Processes(), folder=RunFolder(tmp_path))
        with pytest.raises(InputError, match=r"another precision \(no, now bf16\)"):
            found(supernet(), changed(epochs=1), Processes(precision="bf16"), folder=RunFolder(tmp_path))

    @pytest.mark.slow
    def test_candidates_run_again_in_the_same_precision(self) -> None:
        kept = found(supernet(), changed(epochs=1), Processes(precision="bf16"))
        again = found(supernet(), changed(epochs=1, save_memory=True), Processes(precision="bf16"))
        assert again.epochs[-1].weight_loss == pytest.approx(kept.epochs[-1].weight_loss, rel=0.02)


class TestLaunched:
    @pytest.fixture(autouse=True)
    def on_a_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def test_alone(self) -> None:
        assert Processes.launched() == Processes()

    def test_words_are_heard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        assert Processes.launched("cpu").precision == "bf16"
        assert Processes.launched("cpu", "no").precision == "no"

    def test_precision_that_is_none_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
        with pytest.raises(InputError, match="the precision cannot be 'fp8'; expected no, fp16, bf16"):
            Processes.launched()

    def test_device_that_is_not_there(self) -> None:
        with pytest.raises(InputError, match="cuda is not available; accelerate found cpu"):
            Processes.launched("cuda")

    def test_device_that_is_none(self) -> None:
        with pytest.raises(InputError, match="there is no device 'abacus'"):
            Processes.launched("abacus")

    def test_processes_that_are_not_joined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They would all write to one folder."""
        Processes.launched()
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match="2 processes were launched, but accelerate joined 1 of them"):
            Processes.launched()


def test_augmented_images_do_not_depend_on_the_shard() -> None:
    images, augmentation, shard = few(32).train, Augmentation(degrees=10, pad=0.1), Shard(rank=1, count=2)
    indices = epoch_indices(32, 8, seed=3, epoch=1)[2:, shard.rows(8)]
    ours = list(TrainingLoader(images, INPUTS, augmentation, seed=3).batches(indices, epoch=1))
    whole = list(training_batches(images, INPUTS, augmentation, batch_size=8, seed=3, epoch=1, first=2))
    assert len(ours) == len(whole) == 2
    for own, batch in zip(ours, whole, strict=True):
        assert all(torch.equal(part, rows[1::2]) for part, rows in zip(own, batch, strict=True))
