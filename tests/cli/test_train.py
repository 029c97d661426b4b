"""`fbnet-zoo train` and `eval` as their user meets them."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from fbnet_zoo import create
from fbnet_zoo.cli.app import app
from fbnet_zoo.weights.loading import save
from tests.helpers.training import TINY


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def read_json(result: Result) -> dict[str, Any]:
    """Parse all of stdout: anything beside the one object is an error."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "recipe.yaml").write_text("batch_size: 128\nlr: 0.01\naugmentation: {degrees: 0, shear: 0, zoom: 0}\n")
    return tmp_path / "tiny.yaml"


def test_trained_weights_evaluate_to_what_training_said(tiny: Path, tmp_path: Path) -> None:
    asked = ("train", tiny, "--data", "digits", "--epochs", 2, "--recipe", tmp_path / "recipe.yaml", "--out")
    result = run(*asked, tmp_path / "run", "--json")
    trained = read_json(result)
    assert trained["epochs"] == 2
    assert trained["steps"] == 2 * (1437 // 128)
    assert trained["top1"] > 15
    assert "tiny: epoch 2 of 2: loss" in result.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "metrics.jsonl",
        "weights.safetensors",
    ]
    evaluated = read_json(run("eval", tiny, "--data", "digits", "--weights", trained["weights"], "--json"))
    assert evaluated["top1"] == pytest.approx(trained["top1"])
    assert evaluated["top1"] == pytest.approx(100 * evaluated["correct"] / 360)
    assert evaluated["images"] == 360
    assert evaluated["split"] == "the last 360 of scikit-learn's order"
    assert "already holds a run" in run(*asked, tmp_path / "run").stderr
    again = run(*asked, tmp_path / "run", "--resume")
    assert again.exit_code == 0
    assert f"top-1 {trained['top1']:.2f} % of 360 held-out images" in again.stdout


def test_a_folder_of_images_is_a_data_set(tiny: Path, tmp_path: Path) -> None:
    for side in ("train", "val"):
        for name, level in (("dark", 20), ("light", 230)):
            (tmp_path / "data" / side / name).mkdir(parents=True)
            for number in range(4):
                colour = (level, level, level + number)
                Image.new("RGB", (24, 20), colour).save(tmp_path / "data" / side / name / f"{number}.png")
    (tmp_path / "recipe.yaml").write_text("batch_size: 4\nlr: 0.02\nema_decay: null\nwarmup_epochs: 0\n")
    trained = read_json(
        run(
            *("train", tiny, "--data", tmp_path / "data", "--recipe", tmp_path / "recipe.yaml", "--epochs", 12),
            *("--out", tmp_path / "run", "--json"),
        )
    )
    assert trained["held_out"] == 8
    assert create(tiny, pretrained=trained["weights"], num_classes=2).weights == "trained on data"
    evaluated = read_json(run("eval", tiny, "--data", tmp_path / "data", "--weights", trained["weights"], "--json"))
    assert evaluated["top1"] == trained["top1"] == 100


def test_random_weights_are_evaluated_too(tiny: Path) -> None:
    result = read_json(run("eval", tiny, "--data", "digits", "--weights", "none", "--json"))
    assert result["weights"] == "random seed 0"
    assert 0 <= result["top1"] < 50


def test_weights_of_other_classes_are_refused(tiny: Path, tmp_path: Path) -> None:
    save(create(tiny, num_classes=4), tmp_path / "four.safetensors")
    result = run("eval", tiny, "--data", "digits", "--weights", tmp_path / "four.safetensors")
    assert result.exit_code == 2
    assert "have 4 classes, but digits has 10; give weights trained on it" in result.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("eval", "--data", "digits"), "tiny has no published weights; give a checkpoint"),
        (("train", "--data", "digits", "--weights", "auto"), "tiny has no published weights; give the path"),
        (("train", "--data", "digit"), "no data set is named 'digit'; did you mean 'digits'?"),
        (("train", "--data", "cifar10"), "requires its folder; pass `root`, or --data-root"),
        (("train", "--data", "digits", "--recipe", "none.yaml"), "cannot read none.yaml: No such file"),
    ],
)
def test_wrong_use_is_one_line(tiny: Path, words: tuple[str, ...], problem: str) -> None:
    result = run(words[0], tiny, *words[1:])
    assert result.exit_code == 2
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_name_with_a_tag_starts_from_it(tiny: Path) -> None:
    result = run("train", "fbnet_b.fb_in1k", "--weights", "none", "--data", "digits")
    assert result.exit_code == 2
    assert "already names weights, but --weights is none; give one of the two" in result.stderr


def test_a_teacher_is_named(tiny: Path, tmp_path: Path) -> None:
    asked = ("train", tiny, "--data", "digits", "--epochs", 1, "--recipe", tmp_path / "recipe.yaml", "--out")
    read_json(run(*asked, tmp_path / "run", "--teacher", "digits_fbnet_s", "--json"))
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["teacher"]["name"] == config["recipe"]["teacher"] == "digits_fbnet_s"
    refused = run(*asked, tmp_path / "other", "--teacher", "digits_fbnet_t")
    assert refused.exit_code == 2
    assert "digits_fbnet_t" in refused.stderr
    assert "did you mean 'digits_fbnet_s'?" in refused.stderr
