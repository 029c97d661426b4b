"""`fbnet-zoo search` as its user meets it."""

import dataclasses
import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fbnet_zoo import cost, create, get_spec, list_models
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.lut.networks import Speed
from fbnet_zoo.cli.app import app
from fbnet_zoo.cli.search import steps
from fbnet_zoo.cli.search.arguments import config
from fbnet_zoo.datasets import open_dataset
from fbnet_zoo.own_zoo import HOME_VARIABLE
from fbnet_zoo.search.gradient.config import DnasConfig
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.record import load_record
from fbnet_zoo.space.encoding import Encoding
from tests.helpers.latency_tables import table as small_table
from tests.helpers.marks import first_is_quick
from tests.helpers.search_oracles import accuracy, energy, table
from tests.helpers.search_spaces import NANO, nano_space
from tests.helpers.training import RECIPE


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
    (tmp_path / "search.yaml").write_text("warmup_epochs: 1\ntheta_lr: 0.2\nsamples: 1\ncandidates: 4\n")
    files = ("--config", tmp_path / "search.yaml", "--recipe", tmp_path / "recipe.yaml")
    return ("search", "--space", tmp_path / "nano.yaml", "--data", "digits", "--epochs", 2, *files)


def test_a_search_becomes_an_entry(asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "zoo"))
    words = (*asked, "--limit", "macs=45k", "--train-epochs", 1, "--out", tmp_path / "run", "--device", "cpu")
    several = ("--limits-from", "macs=40k", "--limits-to", "macs=50k", "--points", 3)
    result = run(*words, *several, "--register", "--name", "nano_net", "--random", 2, "--json")
    told = read_json(result)
    assert "search nano, seed 0: epoch 2 of 2: loss" in result.stderr
    assert "search nano, seed 0: comparing networks with the weights of the supernet" in result.stderr
    assert told["met"]
    assert told["costs"]["macs"] <= 45_000
    assert told["registered"] == "nano_net"
    assert len(told["random"]) == 2
    assert all(0.95 * 45_000 <= each["costs"]["macs"] <= 45_000 for each in told["random"])
    assert told["random_tried"] >= 2
    assert told["improvement"] is not None
    assert -1 <= told["agreement"] <= 1
    assert told["used_percent"] == pytest.approx(told["costs"]["macs"] / 450)
    assert [each["limit"] for each in told["front"]] == [40_000, 45_000, 50_000]
    assert all(each["network"]["costs"]["macs"] <= each["limit"] for each in told["front"])
    for number, each in enumerate(told["front"], start=1):
        spec = create(tmp_path / "run" / "front" / f"{number}.yaml").spec
        assert cost(spec, num_classes=10).macs == each["network"]["costs"]["macs"]
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


@pytest.mark.slow
def test_a_search_is_not_begun_twice_but_gone_on_with(asked: tuple[object, ...], tmp_path: Path) -> None:
    words = (*asked, "--limit", "macs=45k", "--no-train", "--out", tmp_path / "run", "--device", "cpu")
    first = run(*words)
    assert first.exit_code == 0, first.stderr
    shown = first.stdout
    assert "the limit of macs 45,000 MACs is met" in shown
    assert "report.html" in shown
    assert "already holds a run" in run(*words).stderr
    again = run(*words, "--resume")
    assert again.exit_code == 0
    assert again.stdout == shown


@pytest.mark.slow
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
        ((), "nothing bounds the cost of a network; give --target-latency with --lut"),
        (("--target-latency", "5ms"), "--target-latency requires latencies of a device; give a table with --lut"),
        (("--limit", "mac=3M"), "--limit cannot be 'mac=3M'; did you mean 'macs'?"),
        (("--limit", "macs=-3"), "'-3' is not a positive quantity; expected a number, such as 300M"),
        (("--limit", "macs=1k"), "no network of the space satisfies macs <= 1000 MACs: the lowest is"),
        (("--penalty", "none", "--alpha", 2), "--penalty none has no alpha; omit it"),
        (
            ("--penalty-metric", "joules"),
            "the penalty is on 'joules', which is not a known cost; expected macs",
        ),
        (("--limit", "macs=45k", "--name", "fbnet_b", "--register"), "an entry named 'fbnet_b' exists; use another"),
        (("--limit", "macs=45k", "--name", "My Net"), "'name' cannot be 'My Net'"),
        (("--limits-from", "macs=45k"), "--limits-to is missing: a front has a lowest and a highest limit"),
        (("--limits-from", "macs=45k", "--limits-to", "params=9k"), "is on macs, but --limits-to on params"),
        (("--limits-from", "macs=45k", "--limits-to", "macs=40k"), "macs=40k is not above --limits-from macs=45k"),
        (("--limits-from", "macs=45k", "--limits-to", "macs=fast"), "--limits-to 'fast' is not a positive quantity"),
        (("--limits-from", "macs=1k", "--limits-to", "macs=90k"), "no network of the space satisfies macs <= 1000"),
        (("--limits-from", "20us", "--limits-to", "40us"), "--target-latency requires latencies of a device"),
        (("--lut", "pixel4"), "unknown latency table 'pixel4'; did you mean 'pixel3'?"),
        (("--limit", "macs=45k", "--batch-size", 2000), "1150 images are fewer than a batch of 2000"),
        (("--limit", "macs=45k", "--lut", "pixel3"), "the latency table pixel3"),
    ],
)
def test_errors(asked: tuple[object, ...], tmp_path: Path, words: tuple[object, ...], told: str) -> None:
    result = run(*asked, *words, "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("measured_ms", "told"),
    [
        (
            1.8,
            "this machine takes 1.80 times as long as its table small says (1.8 ms instead of 1 ms for one network);",
        ),
        (0.5, "this machine takes 0.50 times as long as its table small says"),
        (1.2, ""),
    ],
)
def test_a_machine_that_is_not_as_fast_as_its_table(
    measured_ms: float, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps, "device_speed", lambda *_, **__: Speed(measured_ms=measured_ms, predicted_ms=1.0))
    here = small_table(1.0, device=HostDevice().info())
    dataset = open_dataset("digits")
    job = SearchJob(space=nano_space(), dataset=dataset, config=DnasConfig(), recipe=RECIPE, batch_size=12, table=here)
    steps.check_speed(job, wanted=None)
    assert (told in caplog.text) if told else not caplog.records
    caplog.clear()
    steps.check_speed(job, wanted=False)
    elsewhere = dataclasses.replace(job, table=small_table(1.0))
    steps.check_speed(elsewhere, wanted=None)
    assert not caplog.records


@pytest.mark.parametrize(
    ("now", "then", "told"),
    [
        ((3_600_000, 3_600_000), (3_600_000, 3_600_000), "for one network); wait"),
        ((2_400_000, 1_200_000), (3_600_000, 1_200_000), "limited to 2.4 GHz and 1.2 GHz (then 3.6 GHz and 1.2 GHz)"),
        ((1_200_000,), (), "for one network); wait"),
    ],
)
def test_another_limit_of_the_clock_is_told(
    now: tuple[int, ...],
    then: tuple[int, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    speed = Speed(measured_ms=1.8, predicted_ms=1.0, limits_khz=now)
    monkeypatch.setattr(steps, "device_speed", lambda *_, **__: speed)
    here = small_table(1.0, device=HostDevice().info(), limits_khz=then)
    dataset = open_dataset("digits")
    job = SearchJob(space=nano_space(), dataset=dataset, config=DnasConfig(), recipe=RECIPE, batch_size=12, table=here)
    steps.check_speed(job, wanted=None)
    assert told in caplog.text


def test_lut_and_limits_choose_the_objective() -> None:
    def asked(has_table: bool, **said: object) -> DnasConfig:
        options = {"seed": 3, "split_seed": 0, "limits_from": None, "limits_to": None, **said}
        found = config(DnasConfig(), options, {"macs": ""} | ({"latency": "ms"} if has_table else {}))
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


@pytest.fixture
def known(tmp_path: Path) -> tuple[object, ...]:
    """A search without images, in a table of all networks of the nano space."""
    (tmp_path / "nano.yaml").write_text(NANO)
    encoding = Encoding(nano_space())
    rows = product(*map(range, encoding.counts))
    (tmp_path / "known.csv").write_text(table(encoding, rows, energy=energy))
    return ("search", "--space", tmp_path / "nano.yaml", "--oracle", tmp_path / "known.csv", "--device", "cpu")


EVALUATING = pytest.mark.parametrize(
    ("method", "title"), [("random", "random search"), ("evolution", "regularized evolution")]
)


@EVALUATING
def test_a_search_in_a_table(known: tuple[object, ...], tmp_path: Path, method: str, title: str) -> None:
    (tmp_path / "search.yaml").write_text("population: 4\nsample: 2\n" if method == "evolution" else "budget: 3\n")
    words = (*known, "--method", method, "--config", tmp_path / "search.yaml", "--budget", 7, "--seed", 2)
    result = run(*words, "--limit", "energy=5.5", "--limit", "macs=60k", "--out", tmp_path / "run", "--json")
    told = read_json(result)
    assert "search nano, seed 2: network 7 of 7: top-1 " in result.stderr
    assert told["met"]
    assert told["limits"] == {"energy": 5.5, "macs": 60_000.0}
    assert told["costs"]["energy"] <= 5.5
    assert told["costs"]["macs"] <= 60_000
    assert (told["judged"], told["weights"], told["top1"], told["random"]) == ("in the table known.csv", None, None, [])
    assert told["supernet_top1"] is None
    record = load_record(tmp_path / "run" / "search.json")
    assert record.config.method == method
    assert len(record.networks) == record.config.total == 7
    assert told["judged_top1"] == record.best.top1 == accuracy(record.best.positions)
    page = Path(told["report"]).read_text()
    assert title in page
    assert "7 networks, top-1 in the table known.csv" in page
    assert not (tmp_path / "run" / "training").exists()


@EVALUATING
def test_what_was_found_is_told(known: tuple[object, ...], tmp_path: Path, method: str, title: str) -> None:
    words = (*known, "--method", method, "--budget", 15, "--out", tmp_path / "run")
    if method == "evolution":
        (tmp_path / "search.yaml").write_text("population: 4\nsample: 2\n")
        words = (*words, "--config", tmp_path / "search.yaml")
    first = run(*words)
    assert first.exit_code == 0, first.stderr
    shown = first.stdout
    assert "top-1 in the table known.csv" in shown
    assert "and 3 more networks in search.json" in shown
    assert re.search(r"found: macs [\d,]+ MACs, params [\d,.]+ parameters, energy [\d.]+$", first.stdout, re.MULTILINE)
    again = run(*words, "--resume")
    assert again.exit_code == 0, again.stderr
    assert again.stdout == shown
    told = run(*words[:-1], tmp_path / "more", "--seeds", 2) if method == "random" else None
    if told is not None:
        assert "2 seeds: 2 within the limits" in told.stdout


@pytest.mark.slow
def test_a_search_with_the_weights_of_a_supernet(asked: tuple[object, ...], tmp_path: Path) -> None:
    """The accuracy of a network that both compared is the same; the best one is trained."""
    before = read_json(
        run(*asked, "--limit", "macs=45k", "--no-train", "--out", tmp_path / "dnas", "--device", "cpu", "--json")
    )
    (tmp_path / "search.yaml").write_text("population: 4\nsample: 2\n")
    words = [word for word in asked if word not in {"--epochs", 2}]
    what = ("--method", "evolution", "--supernet", tmp_path / "dnas", "--budget", 9, "--train-epochs", 1)
    told = read_json(run(*words, *what, "--limit", "macs=45k", "--out", tmp_path / "run", "--device", "cpu", "--json"))
    assert told["judged"] == "with the weights of the supernet in dnas"
    record, compared = (load_record(tmp_path / name / "search.json") for name in ("run", "dnas"))
    tops = {network.name: network.top1 for network in record.networks}
    assert len(tops) == 9
    known = {network.name: network.top1 for network in compared.networks if network.name in tops}
    assert known == {name: tops[name] for name in known}
    assert told["top1"] is not None
    assert before["supernet_top1"] == compared.best.top1


@pytest.mark.parametrize("words", first_is_quick([["--budget", 4], ["--budget", 4, "--candidate-workers", 2]]))
def test_networks_are_stopped_early(asked: tuple[object, ...], tmp_path: Path, words: list[object]) -> None:
    """In this process, and in two others."""
    space = ("--space", tmp_path / "nano.yaml", "--data", "digits", "--recipe", tmp_path / "recipe.yaml")
    training = ("--candidate-epochs", 2, "--halving", 1, "--no-train", "--out", tmp_path / "run", "--device", "cpu")
    result = run("search", "--method", "random", *space, *training, *words, "--json")
    told = read_json(result)
    assert (told["epochs_trained"], told["epochs_saved_percent"], told["failed"]) == (6, 25.0, 0)
    assert told["judged"] == "after up to 2 epochs of training"
    assert "note: successive halving: 4 of 4 networks trained for 1 epoch" in result.stderr
    assert "note: successive halving: 2 of 2 networks trained for 2 epochs" in result.stderr
    assert "network 4 of 4: top-1 " in result.stderr
    record = load_record(tmp_path / "run" / "search.json")
    assert sorted(each.epochs or 2 for each in record.networks) == [1, 1, 2, 2]
    assert record.best.epochs is None
    shown = run("search", "--method", "random", *space, *training, *words, "--resume").stdout
    assert "successive halving trained 6 of 8 epochs and saved 25 %" in shown
    assert "(1 epoch)" in shown
    assert "successive halving trained 6 of 8 epochs and saved 25 %" in Path(told["report"]).read_text()


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        ("random", ("--epochs", 3), "--epochs is not an option of the method random, only of dnas and dmasking"),
        ("random", ("--alpha", 3), "--alpha is not an option of the method random, only of dnas and dmasking"),
        ("evolution", ("--warmup-epochs", 0), "--warmup-epochs is not an option of the method evolution"),
        ("evolution", ("--save-memory",), "--save-memory is not an option of the method evolution, only of dnas and"),
        ("evolution", ("--samples", 2), "--samples is not an option of the method evolution, only of dnas and"),
        ("dnas", (), "--oracle is not an option of the method dnas, only of random and evolution"),
        ("dmasking", (), "--oracle is not an option of the method dmasking, only of random and evolution"),
        ("annealing", (), "--method cannot be 'annealing'; expected dnas, dmasking, random, evolution"),
        ("evolutoin", (), "--method cannot be 'evolutoin'; did you mean 'evolution'?"),
        ("random", ("--limit", "joules=3"), "--limit cannot be 'joules=3'; expected macs=N or params=N or memory=N or"),
        ("random", ("--limit", "energy"), "--limit cannot be 'energy'"),
        (
            "random",
            ("--target-latency", "5ms"),
            "--target-latency requires latencies of a device; give a table with --lut",
        ),
        ("random", ("--limit", "energy=0.5"), "no network of the space satisfies energy <= 0.5"),
        ("random", ("--random", 2), "--random trains networks, which requires images; give --data, or omit --random"),
        (
            "random",
            ("--candidate-workers", 2),
            "workers: nothing is trained, as accuracies are in the table known.csv; omit the option",
        ),
        (
            "random",
            ("--halving", 2),
            "successive halving: nothing is trained, as accuracies are in the table known.csv",
        ),
        ("random", ("--ray-address", "auto"), "workers: nothing is trained, as accuracies are in the table known.csv"),
        (
            "random",
            ("--candidate-time-limit", "5 years"),
            "--candidate-time-limit '5 years' has the unit 'years', which",
        ),
        (
            "random",
            ("--candidate-time-limit", "0s"),
            "--candidate-time-limit '0s' is not a positive quantity; expected a",
        ),
        ("random", ("--budget", 19), "18 of 18 networks of nano are within the limits, but 19 are needed"),
    ],
)
def test_errors_of_searches_in_a_table(
    known: tuple[object, ...], tmp_path: Path, method: str, words: tuple[object, ...], told: str
) -> None:
    result = run(*known, "--method", method, *words, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--budget", "--candidate-epochs", "--supernet"])
@pytest.mark.parametrize("method", ["dnas", "dmasking"])
def test_options_of_methods_that_evaluate(tmp_path: Path, method: str, option: str) -> None:
    words = ("search", "--space", "digits_tiny", "--data", "digits", "--method", method, "--limit", "macs=400k")
    result = run(*words, option, 3, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert f"{option} is not an option of the method {method}, only of random and evolution" in result.stderr


@pytest.mark.parametrize("method", ["dnas", "dmasking", "random", "evolution"])
def test_images_are_missing(tmp_path: Path, method: str) -> None:
    result = run("search", "--space", "digits_tiny", "--method", method, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "--data is missing: a search needs images, or a table of known accuracies (--oracle)" in result.stderr
    assert not (tmp_path / "run").exists()


def test_wrong_table(known: tuple[object, ...], tmp_path: Path) -> None:
    """Refused with its line before there is a folder."""
    path = tmp_path / "known.csv"
    path.write_text(path.read_text().replace("fused", "fussed", 1))
    result = run(*known, "--method", "random", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "stages.4.0 cannot be 'fussed'; did you mean 'fused'?" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_networks_that_are_trained_one_by_one(asked: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("budget: 2\n")
    words = [word for word in asked if word not in {"--epochs", 2}]
    what = ("--method", "random", "--candidate-epochs", 1, "--no-train", "--limit", "macs=60k")
    told = read_json(run(*words, *what, "--out", tmp_path / "run", "--device", "cpu", "--json"))
    assert told["judged"] == "after 1 epoch of training"
    assert len(list((tmp_path / "run" / "candidates").iterdir())) == 2
    assert load_record(tmp_path / "run" / "search.json").best.top1 == told["judged_top1"]
