"""The page of a search that evaluated networks one by one, by whatever method and with whatever accuracies."""

from typing import Any

import pytest

from fbnet_zoo.report.search.page import search_page
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.effort import Effort
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.record import MetricRecord, SearchRecord
from fbnet_zoo.spec import ArchSpec
from tests.helpers.html_pages import parse
from tests.helpers.search_records import OPTIONS, decisions, evaluated, network, search_record
from tests.report.test_pages import HOSTILE, check_nothing_from_outside, check_outline, check_tables, section
from tests.report.test_search import MET, check_page

EVALUATING = pytest.mark.parametrize(
    ("config", "title"),
    [
        (RandomConfig(budget=3, limits={"latency": 5.5}, seed=17), "random search"),
        (EvolutionConfig(budget=3, limits={"latency": 5.5}, seed=17), "regularized evolution"),
    ],
    ids=["random", "evolution"],
)


def evaluating(config: MethodConfig, **changes: Any) -> SearchRecord:
    """Return the record of a search that evaluated three networks one after the other, without images."""
    without = {"log_probability": None, "projected": False, "recalibrated_images": None}
    fields: dict[str, Any] = {
        "config": config,
        "data": None,
        "trained": None,
        "measured": (),
        "judged": "in the table known.csv",
        "networks": tuple(network(at, **without) for at in (0, 2, 1)),
    }
    return search_record(**fields | changes)


@EVALUATING
def test_networks_that_were_evaluated_are_shown_in_order(tiny_spec: ArchSpec, config: MethodConfig, title: str) -> None:
    record = evaluating(config)
    text = search_page(record, evaluated(record), tiny_spec)
    check_page(text)
    root = parse(text)
    (header,) = root.all("header")
    for shown in (title, "71.25 % top-1 in the table known.csv", "Accuracy", "limit 5.50 ms met"):
        assert shown in header.text
    samples = section(root, "samples")
    assert "3 networks, top-1 in the table known.csv; the best, 76.25 %, was number 2." in samples.text
    (table,) = samples.all("table")
    rows = [[cell.text for cell in (*row.all("th"), *row.all("td"))] for row in table.all("tr")[1:]]
    assert [row[:3] for row in rows] == [["1", "71.25", "71.25"], ["2", "76.25", "76.25"], ["3", "73.75", "76.25"]]
    assert rows[0][-1] == "k5_e6, k3_e2, skip"
    for absent in ("theta", "trajectory"):
        assert f'id="{absent}"' not in text
    networks = section(root, "networks").text
    assert "All evaluated networks, without duplicates: top-1 in the table known.csv." in networks
    assert "log-probability" not in networks
    assert "P(theta)" not in networks


def test_networks_that_were_stopped_early_or_failed(tiny_spec: ArchSpec) -> None:
    """Marked in both tables, and not on the front; the line of the accuracies has a gap."""
    whole, short = network(0, log_probability=None), network(1, log_probability=None, epochs=2)
    record = evaluating(RandomConfig(), networks=(whole, short), effort=Effort(trained=6, full=8))
    first, second = evaluated(record)
    failed = EvaluatedNetwork(
        step=3, seconds=30, positions=(0, 0, 0), top1=None, best=first.best, costs=first.costs, failed="it <hangs>"
    )
    history = (first, second.model_copy(update={"epochs": 2, "best": first.best}), failed)
    text = search_page(record, history, tiny_spec)
    check_page(text)
    root = parse(text)
    samples = section(root, "samples")
    for told in ("successive halving trained 6 of 8 epochs and saved 25 %", "the evaluation of 1 network failed"):
        assert told in samples.text
    rows = [[cell.text for cell in row.all("td")] for row in samples.all("table")[0].all("tr")[1:]]
    assert [row[0] for row in rows] == ["71.25", "73.75 after 2 epochs", "failed"]
    assert 'title="it &lt;hangs&gt;"' in text
    compared = [
        [cell.text for cell in row.all("td")] for row in section(root, "networks").all("table")[0].all("tr")[1:]
    ]
    assert {"all", "2"} <= {row[3] for row in compared}


def test_costs_without_a_unit(tiny_spec: ArchSpec) -> None:
    """Those of a table have none."""
    energy = MetricRecord(name="energy", unit="", base=1.0)
    networks = (network(0, log_probability=None, costs={"energy": 4.25}, within_limits=False),)
    config = RandomConfig(limits={"energy": 4.0})
    record = evaluating(config, metrics=(energy,), networks=networks, met=False)
    root = parse(search_page(record, evaluated(record), tiny_spec))
    assert "energy 4.25, 0.25 (6.2 %) above 4" in root.all("p", "note")[0].text
    assert "energy limit 4 NOT met, 6.2 % above" in root.all("header")[0].text
    assert "energy" in [text.text for text in section(root, "networks").all("text", "axis")]


@EVALUATING
def test_command_of_a_search_that_evaluates(tiny_spec: ArchSpec, config: MethodConfig, title: str) -> None:
    record = evaluating(config)
    shown = section(parse(search_page(record, evaluated(record), tiny_spec)), "settings").text
    command = f"fbnet-zoo search --space nano --method {config.method} --lut host_xnnpack_nano --target-latency 5.5ms"
    assert command in shown
    assert "budget 3" in shown
    assert "seed 17" in shown


@EVALUATING
def test_evaluations_with_images(tiny_spec: ArchSpec, config: MethodConfig, title: str) -> None:
    judged = "after 5 epochs of training"
    record = evaluating(config, data=MET.data, trained=MET.trained, measured=MET.measured, judged=judged)
    text = search_page(record, evaluated(record), tiny_spec)
    check_page(text)
    root = parse(text)
    assert "97.78 %" in root.all("header")[0].text
    assert "on 288 images that do not train any weights" in " ".join(section(root, "networks").text.split())
    assert judged in section(root, "samples").text


@EVALUATING
@pytest.mark.parametrize(
    "changes",
    [{}, {"metrics": ()}, {"networks": (network(0, top1=0.0, log_probability=None),)}],
    ids=["three", "no metric", "one, of no use"],
)
def test_small_evaluations_are_pages(
    tiny_spec: ArchSpec, config: MethodConfig, title: str, changes: dict[str, Any]
) -> None:
    record = evaluating(config, **changes)
    text = search_page(record, evaluated(record), tiny_spec)
    root = parse(text)
    check_outline(root)
    check_tables(root)
    check_nothing_from_outside(text, root)
    count = len(record.networks)
    assert f"{count} network{'s' if count > 1 else ''}, top-1" in section(root, "samples").text
    empty = parse(search_page(record, [], tiny_spec))
    check_outline(empty)
    assert "No network was logged." in section(empty, "samples").text


def test_text_of_evaluations_is_escaped(tiny_spec: ArchSpec) -> None:
    record = evaluating(
        RandomConfig(),
        judged=HOSTILE,
        space=HOSTILE,
        decisions=decisions((HOSTILE,) * 3, tuple((HOSTILE,) * len(names) for names in OPTIONS)),
    )
    text = search_page(record, evaluated(record), tiny_spec)
    check_page(text)
    assert HOSTILE in section(parse(text), "samples").text


def test_large_evaluation_is_a_page_of_bounded_size(tiny_spec: ArchSpec) -> None:
    record = evaluating(EvolutionConfig(), networks=(network(0, log_probability=None),) * 1000)
    text = search_page(record, evaluated(record), tiny_spec)
    check_page(text)
    assert len(text.encode()) < 1_500_000
