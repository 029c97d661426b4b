"""Searches by the latency of a predictor, for devices where the latencies of operators do not add up."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.lut.network_figures import ENERGY, read_figures
from fbnet_zoo.benchmarks.measure import RunEnergy
from fbnet_zoo.cli.app import app
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.operators import network_operators
from fbnet_zoo.latency.predictor import Predictor, fit_predictor
from fbnet_zoo.latency.table import network_ms
from fbnet_zoo.search import SearchJob
from fbnet_zoo.search.gradient.expectation import PredictedCost
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.predicted import MARGIN, PredictedMetric, predicted_metric
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.train import default_recipe
from tests.helpers.latency_tables import published
from tests.helpers.marks import first_is_quick
from tests.helpers.measurements import measurement
from tests.helpers.search_oracles import table

NETWORKS = [operators for operators, _ in published()]
SPACES = ["fbnet_cifar", "digits_masking", "digits_tiny"]


def measured(device: str) -> list[float]:
    return [latencies[device] for _, latencies in published()]


def made_up(space: str, count: int = 30) -> Predictor:
    """Return a predictor of a device whose latency is the root of the number of operators times a random factor."""
    loaded, noise = load_space(space), np.random.default_rng(0)
    networks = [network_operators(loaded.decode(loaded.sample(seed)), num_classes=10) for seed in range(count)]
    return fit_predictor(networks, [len(each) ** 0.5 * noise.uniform(0.9, 1.1) for each in networks])


@cache
def latency(space: str) -> PredictedMetric:
    return predicted_metric(Encoding(load_space(space)), made_up(space), num_classes=10)


@pytest.mark.parametrize("space", SPACES)
def test_a_network_has_what_the_predictor_says_and_a_margin(space: str) -> None:
    metric, loaded = latency(space), load_space(space)
    encoding = metric.encoding
    positions = [encoding.positions(loaded.sample(100 + seed)) for seed in range(6)]
    operators = [network_operators(encoding.definition(each), num_classes=10) for each in positions]
    mean, deviation = metric.predictor.log_ms(metric.predictor.features.sums(operators))
    assert np.exp(mean) == pytest.approx(metric.predictor.predict(operators))
    assert metric.population(positions) == pytest.approx(np.exp(mean + MARGIN * deviation))
    assert [metric.of(each) for each in positions] == pytest.approx(metric.population(positions))
    assert (deviation > 0).all()


@pytest.mark.parametrize("space", SPACES)
def test_masks_of_one_network_give_its_latency(space: str) -> None:
    metric = latency(space)
    cost, encoding = PredictedCost(metric=metric), metric.encoding
    for seed in range(3):
        positions = encoding.positions(encoding.space.sample(seed))
        pairs = zip(positions, encoding.counts, strict=True)
        masks = [torch.eye(count, dtype=torch.double)[position] for position, count in pairs]
        assert float(cost.expected(masks)) == pytest.approx(metric.of(positions))
        assert float(cost.expected([mask.expand(4, -1) for mask in masks])) == pytest.approx(metric.of(positions))


@pytest.mark.parametrize("space", first_is_quick(["digits_tiny", "digits_masking"]))
def test_gradients_of_masks_are_the_finite_differences(space: str) -> None:
    metric = latency(space)
    cost, generator = PredictedCost(metric=metric), torch.Generator().manual_seed(0)
    masks = [
        torch.rand(count, generator=generator, dtype=torch.double).softmax(0).requires_grad_()
        for count in metric.encoding.counts
    ]
    assert torch.autograd.gradcheck(lambda *each: cost.expected(each), masks)


@pytest.mark.parametrize("device", first_is_quick(["gold_6226", "1080ti_1", "silver_4114", "pixel2", "samsung_a50"]))
def test_most_networks_are_within_the_margin(device: str) -> None:
    """One standard deviation above a normal distribution's mean: 84 % of networks that were not fitted."""
    order = np.random.default_rng(1).permutation(len(NETWORKS))
    chosen, others = order[:30], order[30:]
    times = np.array(measured(device))
    fitted = fit_predictor([NETWORKS[at] for at in chosen], times[chosen].tolist())
    mean, deviation = fitted.log_ms(fitted.features.sums([NETWORKS[at] for at in others]))
    within = np.log(times[others]) <= mean + MARGIN * deviation
    assert 0.65 < within.mean() < 1


def test_no_network_near_the_cheapest_is_cheaper() -> None:
    metric = latency("digits_tiny")
    for at, count in enumerate(metric.encoding.counts):
        for position in range(count):
            other = (*metric.cheapest[:at], position, *metric.cheapest[at + 1 :])
            assert metric.of(other) >= metric.least


def test_a_prior_table_is_part_of_the_values() -> None:
    """Over a device that adds up, the predictor that starts from its table is nearly exact in every network."""
    fitted = fit_predictor(NETWORKS[:40], measured("pixel3")[:40], priors=[find_table("pixel3")])
    space = load_space("fbnet_cifar")
    metric = predicted_metric(Encoding(space), fitted, num_classes=100)
    networks = [metric.encoding.positions(space.sample(seed)) for seed in range(5)]
    operators = [network_operators(space.decode(space.sample(seed)), num_classes=100) for seed in range(5)]
    truth = [find_table("pixel3").sum_ms(each) for each in operators]
    assert metric.population(networks) == pytest.approx(truth, rel=0.08)


@pytest.fixture
def phone(tmp_path: Path) -> tuple[str, ...]:
    """A search for a device of which 20 networks were measured."""
    space, noise = load_space("digits_tiny"), np.random.default_rng(0)
    names = [candidate.name for candidate in space.spec.candidates]
    lines = ["choices,phone,joules"]
    for seed in range(20):
        choices = space.sample(seed)
        different = len(set(Encoding(space).positions(choices)))
        text = "".join(str(names.index(str(layer.candidate))) for layer in choices.layers)
        latency = 0.02 + 0.01 * different**0.5 + 0.001 * noise.random()
        lines.append(f"{text},{latency},{3 * latency + 0.002 * noise.random()}")
    (tmp_path / "phone.csv").write_text("\n".join(lines))
    command = ("search", "--space", "digits_tiny", "--data", "digits", "--no-train", "--out", str(tmp_path / "run"))
    return (
        *command,
        "--latencies",
        str(tmp_path / "phone.csv"),
        "--latency-key",
        "choices",
        "--latency-column",
        "phone",
    )


@pytest.fixture
def metered(phone: tuple[str, ...], tmp_path: Path) -> tuple[str, ...]:
    """The same device, of which energies were measured too, another one with a table, and known accuracies."""
    space = load_space("digits_tiny")
    encoding = Encoding(space)
    rows = dict.fromkeys(encoding.positions(space.sample(seed)) for seed in range(100, 160))
    (tmp_path / "known.csv").write_text(table(encoding, rows))
    start = phone.index("--data")
    other = ("--also-lut", "host_xnnpack_digits_tiny", "--table-classes", "10")
    energies = ("--energies", str(tmp_path / "phone.csv"), "--energy-key", "choices", "--energy-column", "joules")
    known = ("--oracle", str(tmp_path / "known.csv"))
    return (*phone[:start], *known, *phone[start + 2 :], *energies, *other)


@pytest.mark.parametrize("method", ["random", "evolution"])
def test_a_search_within_energy_and_the_latencies_of_two_devices(
    method: str, metered: tuple[str, ...], tmp_path: Path
) -> None:
    limits = ("--target-latency", "46us", "--limit", "energy=140uJ", "--limit", "latency_host_xnnpack_digits_tiny=1ms")
    result = CliRunner().invoke(app, [*metered, "--method", method, "--budget", "5", *limits])
    assert result.exit_code == 0, result.output
    for told in ("latency is predicted from 20 networks", "energy is predicted from 20 networks"):
        assert told in result.stderr
    record = json.loads((tmp_path / "run" / "search.json").read_text())
    metrics = {each["name"]: each for each in record["metrics"]}
    other = metrics["latency_host_xnnpack_digits_tiny"]
    assert list(metrics)[:3] == ["latency", "latency_host_xnnpack_digits_tiny", "energy"]
    assert (other["unit"], other["table"]) == ("ms", "host_xnnpack_digits_tiny")
    assert (metrics["latency"]["table"], metrics["latency"]["predictor"]["name"]) == (None, "phone.csv:choices:phone")
    assert (metrics["energy"]["unit"], metrics["energy"]["predictor"]["name"]) == ("mJ", "phone.csv:choices:joules")
    assert record["config"]["limits"]["energy"] == pytest.approx(0.14)
    assert len(record["networks"]) == 5
    space = load_space("digits_tiny")
    host = find_table("host_xnnpack_digits_tiny")
    for network in record["networks"]:
        costs, at = network["costs"], network["positions"]
        assert costs["latency"] <= 0.046
        assert costs["energy"] <= 0.14
        definition = Encoding(space).definition(at)
        assert costs["latency_host_xnnpack_digits_tiny"] == pytest.approx(network_ms(host, definition, num_classes=10))
    page = (tmp_path / "run" / "report.html").read_text()
    for word in (
        "--latency-column phone --also-lut host_xnnpack_digits_tiny --energies phone.csv",
        "--energies phone.csv --energy-key choices --energy-column joules --target-latency",
        "--target-latency 0.046ms --limit energy=0.14mJ --limit latency_host_xnnpack_digits_tiny=1ms",
        "phone.csv:choices:joules: fitted to 20 networks",
        "a network stays below its energy here with a probability of 84 %",
    ):
        assert word in page


@pytest.mark.slow
def test_the_gradient_methods_keep_a_limit_on_energy(phone: tuple[str, ...], tmp_path: Path) -> None:
    energies = ("--energies", str(tmp_path / "phone.csv"), "--energy-key", "choices", "--energy-column", "joules")
    short = ("--epochs", "1", "--warmup-epochs", "0", "--candidates", "4")
    limits = ("--target-latency", "46us", "--limit", "energy=0.14mJ")
    result = CliRunner().invoke(app, [*phone, *energies, *short, *limits, "--json"])
    assert result.exit_code == 0, result.output
    costs = json.loads(result.stdout)["costs"]
    assert (costs["latency"] <= 0.046, costs["energy"] <= 0.14) == (True, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--limit", "energy=12"],
            "--limit energy=12: '12' has no unit, which is uJ or µJ or mJ or J; expected an energy",
        ),
        (["--limit", "energy=12ms"], "--limit energy=12ms: '12ms' has the unit 'ms', which is not"),
        (["--limit", "energy=1pJ"], "--limit energy=1pJ"),
        (["--limit", "energy=1uJ"], "no network of the space satisfies energy <= 0.001 mJ: the lowest is 0."),
        (["--limit", "latency_host_xnnpack_digits_tiny=3"], "'3' has no unit, which is us"),
        (["--limit", "latency_pixel3=3ms"], "--limit cannot be 'latency_pixel3=3ms'"),
        (["--energy-column", "watts"], "phone.csv: no column 'watts'; it has choices, phone, joules"),
        (
            ["--also-lut", "host_xnnpack_digits_tiny"],
            "two costs have the same name, among latency, latency_host",
        ),
    ],
)
def test_limits_on_energy_that_make_no_sense(options: list[str], told: str, metered: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*metered, "--method", "random", "--budget", "2", *options])
    assert result.exit_code == 2
    assert told in result.stderr
    assert not Path(metered[metered.index("--out") + 1]).exists()


def test_energy_is_unknown_without_measurements(tmp_path: Path) -> None:
    """From a store, only measurements with energy count."""
    store.append(tmp_path / "phone.jsonl", measurement(model="fbnet_a"))
    told = r"phone.jsonl: the measurement of fbnet_a has no energy; measure it with fbnet-zoo bench run --energy"
    with pytest.raises(InputError, match=told):
        read_figures(tmp_path / "phone.jsonl", ENERGY)
    found = RunEnergy(mj=2.5, idle_mw=100.0, source="a meter", runs=10, seconds=1.0)
    store.append(tmp_path / "metered.jsonl", measurement(model="fbnet_a", energy=found))
    assert [(each.network, each.value) for each in read_figures(tmp_path / "metered.jsonl", ENERGY)] == [
        ("fbnet_a", 2.5)
    ]
    (tmp_path / "metered.csv").write_text("network,energy_mj\nfbnet_a,0\n")
    with pytest.raises(InputError, match=r"metered.csv:2: energy_mj is '0'; expected a positive number of mJ"):
        read_figures(tmp_path / "metered.csv", ENERGY)


@pytest.mark.parametrize("method", first_is_quick(["evolution", "dnas"]))
def test_a_search_for_a_device_of_which_networks_were_measured(
    method: str, phone: tuple[str, ...], tmp_path: Path
) -> None:
    short = {
        "dnas": ["--epochs", "1", "--warmup-epochs", "0", "--candidates", "4"],
        "evolution": ["--budget", "2", "--candidate-epochs", "1"],
    }
    result = CliRunner().invoke(app, [*phone, "--method", method, *short[method], "--target-latency", "45us", "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "run" / "search.json").read_text())
    first = record["metrics"][0]
    assert (first["name"], first["unit"], first["predictor"]["name"]) == ("latency", "ms", "phone.csv:choices:phone")
    assert first["predictor"]["networks"] == 20
    assert f"the error for each, left out, is {first['predictor']['error']:.1f} %" in result.stderr
    assert record["networks"][0]["costs"]["latency"] <= 0.045
    page = (tmp_path / "run" / "report.html").read_text()
    assert "--latencies phone.csv --latency-key choices --latency-column phone --target-latency 0.045ms" in page
    assert "phone.csv:choices:phone: fitted to 20 networks" in page
    assert "--resume --measure" not in page  # there is no table to measure with


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--lut", "pixel3", "--latencies", "a.csv"], "both give the latency of the device; use one of them"),
        (["--prior", "pixel3"], "--prior is about measured networks; give them with --latencies"),
        (["--latency-column", "phone"], "--latency-column is about measured networks"),
        (["--energy-key", "choices"], "--energy-key is about measured networks; give them with --energies"),
        (["--latencies", "missing.csv"], "missing.csv"),
        (["--energies", "missing.csv"], "missing.csv"),
    ],
)
def test_options_that_contradict_each_other(options: list[str], told: str) -> None:
    command = ["search", "--space", "digits_tiny", "--data", "digits", "--target-latency", "1ms"]
    result = CliRunner().invoke(app, [*command, *options])
    assert result.exit_code != 0
    assert told in result.output


@pytest.mark.parametrize("method", ["dnas", "evolution"])
def test_a_limit_below_every_prediction_is_refused_before_the_search(method: str, phone: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*phone, "--method", method, "--target-latency", "1us"])
    assert result.exit_code == 2
    assert "latency" in result.stderr
    assert "0.001 ms" in result.stderr
    assert not Path(phone[phone.index("--out") + 1]).exists()


def test_one_latency_per_search() -> None:
    """A job with a table and a predictor is refused, as limits name costs."""
    job = SearchJob(
        space=load_space("fbnet_cifar"),
        dataset=None,
        config=METHODS["evolution"].config.usual("digits"),
        recipe=default_recipe("digits"),
        batch_size=8,
        table=find_table("pixel3"),
        predictor=made_up("fbnet_cifar"),
        table_classes=100,
    )
    encoding = METHODS["evolution"].load().encoding(job)
    with pytest.raises(InputError, match="two costs have the same name"):
        job.costs(encoding)
