"""`fbnet-zoo search` as its user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fbnet_zoo import create, get_spec, list_models
from fbnet_zoo.cli.app import app
from fbnet_zoo.cli.search.arguments import config
from fbnet_zoo.own_zoo import HOME_VARIABLE
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.record import load_record
from tests.helpers.search_spaces import NANO


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def read_json(result: Result) -> dict[str, Any]:
    """Parse all of stdout: anything beside the one object is an error."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def asked(tmp_path: Path) -> tuple[object, ...]:
    """A search of two epochs."""
    (tmp_path / "nano.yaml").write_text(NANO)
    (tmp_path / "recipe.yaml").write_text("batch_size: 128\nlr: 0.01\naugmentation: {degrees: 0, shear: 0, zoom: 0}\n")
    (tmp_path / "search.yaml").write_text("warmup_epochs: 1\ntheta_lr: 0.2\nsamples: 1\n")
    files = ("--config", tmp_path / "search.yaml", "--recipe", tmp_path / "recipe.yaml")
    return ("search", "--space", tmp_path / "nano.yaml", "--data", "digits", "--epochs", 2, *files)


def test_a_search_becomes_an_entry(asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "zoo"))
    words = (*asked, "--limit", "macs=45k", "--train-epochs", 1, "--out", tmp_path / "run", "--device", "cpu")
    result = run(*words, "--register", "--name", "nano_net", "--random", 2, "--json")
    told = read_json(result)
    assert "search nano, seed 0: epoch 2 of 2: loss" in result.stderr
    assert told["met"]
    assert told["costs"]["macs"] <= 45_000
    assert told["registered"] == "nano_net"
    assert len(told["random"]) == 2
    assert told["improvement"] is not None
    record = load_record(tmp_path / "run" / "search.json")
    assert record.config.limits == {"macs": 45_000.0}
    assert isinstance(record.config, DnasConfig)
    assert record.config.penalty is None
    assert record.trained is not None
    assert record.trained.top1 == told["top1"]
    page = Path(told["report"]).read_text()
    assert "nano_net" in page
    assert "nano_net" in list_models()
    assert get_spec("nano_net").weights[0].tag == "searched"
    assert create("nano_net", pretrained=True).plan.num_classes == 10
    evaluated = read_json(run("eval", "nano_net", "--data", "digits", "--json"))
    assert evaluated["top1"] == pytest.approx(told["top1"])


def test_a_search_is_not_begun_twice_but_gone_on_with(asked: tuple[object, ...], tmp_path: Path) -> None:
    words = (*asked, "--limit", "macs=45k", "--no-train", "--out", tmp_path / "run", "--device", "cpu")
    first = run(*words)
    assert first.exit_code == 0, first.stderr
    shown = " ".join(first.stdout.split())
    assert "the limit of macs 45,000 MACs is met" in shown
    assert "report.html" in shown
    assert "holds a run already" in run(*words).stderr
    again = run(*words, "--resume")
    assert again.exit_code == 0
    assert " ".join(again.stdout.split()) == shown


def test_several_seeds(asked: tuple[object, ...], tmp_path: Path) -> None:
    words = (*asked, "--penalty", "sum", "--penalty-metric", "macs", "--no-train", "--out", tmp_path, "--device", "cpu")
    told = read_json(run(*words, "--seeds", 2, "--seed", 3, "--json"))
    assert [each["seed"] for each in told["seeds"]] == [3, 4]
    best = max(told["seeds"], key=lambda each: each["supernet_top1"])
    assert told["run"] == best["run"]
    for seed in (3, 4):
        assert (tmp_path / f"seed_{seed}" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing bounds what a network may cost; give --target-latency with --lut"),
        (("--target-latency", "5ms"), "--target-latency needs the latency table of a device; name one with --lut"),
        (("--limit", "mac=3M"), "--limit cannot be 'mac=3M'; did you mean 'macs'?"),
        (("--limit", "macs=-3"), "'-3' is not a positive quantity; expected a number, such as 300M"),
        (("--limit", "macs=1k"), "no network of the space keeps its macs within 1000 MACs: the least is"),
        (("--penalty", "none", "--alpha", 2), "--penalty none has no alpha; leave it out"),
        (("--penalty-metric", "joules"), "the penalty is on 'joules', which is not measured; expected macs or params"),
        (("--limit", "macs=45k", "--name", "fbnet_b", "--register"), "an entry named 'fbnet_b' exists; give another"),
        (("--limit", "macs=45k", "--name", "My Net"), "'name' cannot be 'My Net'"),
        (("--lut", "pixel4"), "no latency table is named 'pixel4'; did you mean 'pixel3'?"),
        (("--limit", "macs=45k", "--batch-size", 2000), "1150 images are fewer than a batch of 2000"),
        (("--limit", "macs=45k", "--lut", "pixel3"), "the latency table pixel3"),
    ],
)
def test_errors(asked: tuple[object, ...], tmp_path: Path, words: tuple[object, ...], told: str) -> None:
    result = run(*asked, *words, "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "run").exists()


def test_lut_and_limits_choose_the_objective() -> None:
    def asked(has_table: bool, **said: object) -> DnasConfig:
        found = config(DnasConfig(), {"seed": 3, **said}, has_table=has_table, columns=())
        assert isinstance(found, DnasConfig)
        assert found.seed == 3
        return found

    assert asked(True).penalty == DnasConfig().penalty
    limited = asked(True, target_latency="5ms")
    assert (limited.penalty, limited.limits) == (None, {"latency": 5.0})
    both = asked(True, target_latency="5ms", alpha=0.5)
    assert both.penalty is not None
    assert (both.penalty.form, both.penalty.alpha, both.penalty.metric) == ("product", 0.5, "latency")
    counted = asked(False, penalty="sum")
    assert counted.penalty is not None
    assert (counted.penalty.form, counted.penalty.metric, counted.penalty.unit) == ("sum", "macs", 1e6)
