"""Latency learnt from a few networks."""

import numpy as np
import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.operator_costs import operator_cost
from fbnet_zoo.latency.predictor import Network, evaluate, fit_predictor
from fbnet_zoo.stats import mape, spearman
from tests.helpers.latency_tables import DEVICES, operators_of, published


def macs(network: Network) -> int:
    return sum(operator_cost(operator).macs for operator in network)


NETWORKS = [operators for operators, _ in published()]


def measured(device: str) -> list[float]:
    return [latencies[device] for _, latencies in published()]


@pytest.mark.parametrize(
    ("device", "rank", "error"), [("1080ti_1", 0.8, 3), ("gold_6226", 0.85, 10), ("silver_4114", 0.7, 6)]
)
def test_devices_that_do_not_add_up_are_learnt_from_40_networks(device: str, rank: float, error: float) -> None:
    result = evaluate(NETWORKS, measured(device), samples=40, seeds=range(3))
    assert (result.samples, result.held_out, len(result.spearman)) == (40, 20, 3)
    assert np.mean(result.spearman) > rank
    assert np.mean(result.mape) < error


def test_a_device_that_adds_up_is_learnt_nearly_exactly_from_its_table() -> None:
    result = evaluate(NETWORKS, measured("pixel3"), samples=40, seeds=[0], priors=[find_table("pixel3")])
    assert result.spearman[0] > 0.99
    assert result.mape[0] < 2


def test_it_is_better_than_the_number_of_multiply_accumulates() -> None:
    fitted = fit_predictor(NETWORKS[:40], measured("1080ti_1")[:40])
    predicted, truth = fitted.predict(NETWORKS[40:]).tolist(), measured("1080ti_1")[40:]
    sizes = [find_table("fpga").sum_ms(network) for network in NETWORKS[40:]]
    assert spearman(predicted, truth) > spearman(sizes, truth) + 0.3


@pytest.mark.parametrize("device", ["1080ti_1", "gold_6226", "silver_4114", "pixel2", "samsung_a50"])
@pytest.mark.parametrize("samples", [10, 20])
def test_few_networks_of_any_device_are_no_worse_than_multiply_accumulates(device: str, samples: int) -> None:
    """On phones whose measurements are noisy, the number of them alone is hard to beat."""
    seeds = range(8)
    found = evaluate(NETWORKS, measured(device), samples=samples, seeds=seeds)
    counts, times = np.array([macs(network) for network in NETWORKS]), np.array(measured(device))
    ranks = []
    for seed in seeds:
        others = np.random.default_rng(seed).permutation(len(NETWORKS))[samples:]
        ranks.append(spearman(counts[others].tolist(), times[others].tolist()))
    assert np.mean(found.spearman) > np.mean(ranks) - 0.025


def test_a_prediction_depends_on_nothing_but_its_network() -> None:
    fitted = fit_predictor(NETWORKS[:40], measured("gold_6226")[:40], priors=[find_table(name) for name in DEVICES])
    again = fit_predictor(NETWORKS[:40], measured("gold_6226")[:40], priors=[find_table(name) for name in DEVICES])
    together = fitted.predict(NETWORKS)
    assert together == pytest.approx([fitted.predict([network])[0] for network in NETWORKS])
    assert (again.predict(NETWORKS) == together).all()
    assert set(fitted.weights) == {"macs", "total", "place", "cost", "prior", "curved", "noise"}


def test_it_is_no_matter_in_which_unit_latency_is_measured() -> None:
    times = measured("silver_4114")[:40]
    microseconds = fit_predictor(NETWORKS[:40], [1000 * each for each in times])
    assert microseconds.predict(NETWORKS) == pytest.approx(1000 * fit_predictor(NETWORKS[:40], times).predict(NETWORKS))


def test_networks_with_places_never_seen_are_predicted() -> None:
    skipping = [network for network in NETWORKS if operators_of("8" * 22)[1] not in network]
    times = dict(zip(map(id, NETWORKS), measured("gold_6226"), strict=True))
    fitted = fit_predictor(skipping, [times[id(network)] for network in skipping])
    assert np.isfinite(fitted.predict(NETWORKS)).all()
    assert mape(fitted.predict(skipping).tolist(), [times[id(network)] for network in skipping]) < 10


def test_equal_networks_with_equal_latencies_predict_it() -> None:
    fitted = fit_predictor([NETWORKS[0]] * 12, [3.0] * 12)
    assert fitted.predict(NETWORKS[:1])[0] == pytest.approx(3.0)


@pytest.mark.parametrize(("count", "value"), [(9, 1.0), (12, 0.0), (12, float("nan"))])
def test_too_little_is_refused(count: int, value: float) -> None:
    with pytest.raises(InputError, match="at least 10 networks, each with a latency above 0 ms"):
        fit_predictor(NETWORKS[:count], [value] * count)
    with pytest.raises(InputError, match="at least 10 networks, each with an energy above 0 mJ"):
        fit_predictor(NETWORKS[:count], [value] * count, cost="energy", unit="mJ")


def test_an_evaluation_needs_networks_to_test_on() -> None:
    with pytest.raises(InputError, match="12 networks are too few to fit on 11"):
        evaluate(NETWORKS[:12], measured("pixel2")[:12], samples=11)


@pytest.mark.parametrize("device", ["gold_6226", "1080ti_1"])
def test_the_error_that_is_told_is_that_of_networks_left_out(device: str) -> None:
    times = np.array(measured(device))
    fitted = fit_predictor(NETWORKS[:40], times[:40].tolist())
    others = mape(fitted.predict(NETWORKS[40:]).tolist(), times[40:].tolist())
    assert fitted.error == pytest.approx(others, rel=0.5)
    assert mape(fitted.predict(NETWORKS[:40]).tolist(), times[:40].tolist()) < fitted.error
