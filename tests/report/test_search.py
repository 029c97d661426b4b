"""The page of a search as a browser reads it: whole, self-contained, escaped, with every number that it was given."""

import re

import pytest

from fbnet_zoo.report.search.page import search_page
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig
from fbnet_zoo.search.record import DataRecord, FrontRecord, RandomRecord, SearchRecord
from fbnet_zoo.spec import ArchSpec
from tests.helpers.html_pages import Element, parse
from tests.helpers.search_records import (
    DECISIONS,
    LATENCY,
    OPTIONS,
    PARAMS,
    course,
    decisions,
    network,
    search_record,
)
from tests.report.test_pages import (
    HOSTILE,
    check_nothing_from_outside,
    check_outline,
    check_pictures,
    check_tables,
    section,
)

MET = search_record()
NOT_MET = search_record(
    met=False,
    config=DnasConfig(limits={"latency": 4.0, "macs": 50_000.0}),
    networks=(network(0, within_limits=False),),
)


def tree(record: SearchRecord, arch: ArchSpec) -> Element:
    return parse(search_page(record, course(record), arch))


@pytest.fixture(scope="module")
def text(tiny_spec: ArchSpec) -> str:
    return search_page(MET, course(MET), tiny_spec)


@pytest.fixture(scope="module")
def root(text: str) -> Element:
    return parse(text)


def check_page(text: str) -> None:
    root = parse(text)
    check_outline(root)
    check_tables(root)
    check_pictures(text)
    check_nothing_from_outside(text, root)


def test_page_is_whole(text: str) -> None:
    check_page(text)


def test_same_records_give_the_same_page(text: str, tiny_spec: ArchSpec) -> None:
    assert search_page(MET, course(MET), tiny_spec) == text


@pytest.mark.parametrize(
    "shown",
    [
        "97.78 %", "361 images, after 33 epochs", "4.31 ms", "limit 5.50 ms met", "51.3 k", "12 min 34 s",
        "2 processes on cpu, seed 17", "18", "3 decisions among 8 options", "2026-03-04 05:06 UTC",
        "DNAS, the stochastic supernet of FBNet", "nano, at 64 px", "host_xnnpack_nano, a test host, XNNPACK, 1 thread",
        "1,152 images for the weights, 288 others to select networks, 361 held out (the last 361 of them)",
        "torch 2.13.0",
    ],
)  # fmt: skip
def test_top_of_the_page(root: Element, shown: str) -> None:
    (header,) = root.all("header")
    assert shown in header.text


@pytest.mark.parametrize(
    ("anchor", "texts"),
    [
        ("theta", [*DECISIONS, *(name for names in OPTIONS for name in names), "epochs 1 to 6", "1.10 →"]),
        ("trajectory", ["expected 3.63 ms", "sampled 3.66 ms", "limit 5.50 ms", "top-1 56.00 %", "latency 0.129"]),
        ("trajectory", ["2.1250", "1.6050", "0.125", "5.000", "3.69 ms", "3.65 ms", "122 k MACs", "1 min 0 s"]),
        ("networks", ["nano_0", "nano_1", "nano_2", "6.31 ms", "53.3 k MACs", "76.25", "-3.25", "1,536 images"]),
        ("networks", ["latency 6.31 ms, 0.81 ms (14.7 %) above 5.50 ms", "nano at 64 px: k3_e1, k3_e4, fused"]),
        ("architecture", ["Stage 4", "Classifier", "k5_e6", "88.1 %"]),
        ("measured", ["(MAPE) is 9.1 %", "(Spearman) 1.000", "4.74 ms", "4.53 ms", "5.60 ms", "-9.1 %"]),
        ("settings", ["fbnet-zoo search --space nano --method dnas --data squares --lut host_xnnpack_nano"]),
        ("settings", ["--target-latency 5.5ms", "limits.latency 5.5", "seed 17 0", "epochs 6 90"]),
        ("settings", ["penalty none form product", "temperature.start 5", "augmentation.flip no", "label_smoothing"]),
    ],
)
def test_numbers_that_were_given_are_shown(root: Element, anchor: str, texts: list[str]) -> None:
    shown = section(root, anchor).text
    assert [text for text in texts if text not in shown] == []


def test_every_decision_has_a_map_that_frames_what_was_chosen(root: Element) -> None:
    maps = section(root, "theta").all("div", "map")
    assert len(maps) == len(DECISIONS)
    for each, names, chosen in zip(maps, OPTIONS, MET.best.positions, strict=True):
        left, right = each.all("ol")
        assert [name.text for name in left.all("li")] == list(names)
        assert [name.text for name in left.all("li", "chosen")] == [names[chosen]]
        assert len(right.all("li")) == len(each.all("rect", "row")) == len(names)
        assert each.all("svg", "heat")[0].attributes["aria-label"].split(": ")[1].startswith(f"{names[chosen]} was")
        assert len(each.all("line", "break")) == len(each.all("rect", "taken")) == 1


def test_limit_that_was_met_is_good(root: Element) -> None:
    assert root.all("p", "note") == []
    (header,) = root.all("header")
    assert [found.text for found in header.all("small", "good")] == ["limit 5.50 ms met, 78.4 % used"]
    assert "NOT met" not in root.text


def test_limits_that_were_not_met_are_told_by_how_much(tiny_spec: ArchSpec) -> None:
    root = tree(NOT_MET, tiny_spec)
    (note,) = root.all("p", "note")
    assert "NOT met" in note.text
    assert "latency 4.31 ms, 0.31 ms (7.7 %) above 4.00 ms" in note.text
    assert "51.3 k MACs, 1.30 k MACs (2.6 %) above 50.0 k MACs" in note.text
    (header,) = root.all("header")
    assert [found.text for found in header.all("small", "warn")] == [
        "limit 4.00 ms NOT met, 7.7 % above",
        "limit 50.0 k MACs NOT met, 2.6 % above",
    ]


def test_network_that_was_not_trained_has_its_accuracy_in_the_supernet(tiny_spec: ArchSpec) -> None:
    root = tree(search_record(trained=None), tiny_spec)
    (header,) = root.all("header")
    assert "71.25 % top-1 with the supernet's weights" in header.text
    assert "All settings of the training" not in root.text


def test_nothing_measured_says_what_would_measure(tiny_spec: ArchSpec) -> None:
    (missing,) = section(tree(search_record(measured=()), tiny_spec), "measured").all("p", "missing")
    assert "--resume --measure" in missing.text


def test_random_networks_are_shown_beside_the_trained_one(tiny_spec: ArchSpec) -> None:
    costs = {"latency": 4.0, "macs": 50_000.0, "params": 3_000.0}
    judged = (60.5, 60.25, 61.0)
    random = tuple(
        RandomRecord(name=f"random_{at}", costs=costs, top1=70.0 + at**2, judged_top1=top1)
        for at, top1 in enumerate(judged)
    )
    record = search_record(random=random, tried=12_345)
    assert record.trained is not None
    text = search_page(record, course(record), tiny_spec)
    assert "3 random networks: top-1 71.67 % on average, standard deviation 2.08." in text
    improvement = 100 * (record.trained.top1 / (215 / 3) - 1)
    assert f"Relative improvement of the network found: {improvement:+.2f} %." in text
    assert "Rank correlation (Kendall&#39;s tau) of top-1 with the supernet&#39;s weights and trained: 0.67." in text
    assert "at 95 % to 100 % of the limits (12,345 were tried), and trained" in " ".join(text.split())
    assert all(each.name in text and f">{each.judged_top1:.2f}<" in text for each in random)
    assert 'id="random"' not in search_page(search_record(), course(search_record()), tiny_spec)


def test_networks_for_several_limits(tiny_spec: ArchSpec) -> None:
    front = tuple(FrontRecord(metric="latency", limit=5.0 + at, network=network(at)) for at in range(2))
    record = search_record(front=front)
    text = search_page(record, course(record), tiny_spec)
    check_page(text)
    (table,) = section(parse(text), "front").all("table")
    cells = [[cell.text for cell in (*row.all("th"), *row.all("td"))] for row in table.all("tr")[1:]]
    assert [row[0] for row in cells] == ["5.00 ms", "6.00 ms"]
    assert [row[1] for row in cells] == ["nano_0", "nano_1"]
    assert [row[4] for row in cells] == ["86.2", "88.5"]
    assert [row[5] for row in cells] == ["71.25", "73.75"]


def test_few_measurements_have_no_error(tiny_spec: ArchSpec) -> None:
    shown = section(tree(search_record(measured=MET.measured[:2]), tiny_spec), "measured")
    assert "2 networks measured as a whole: too few" in shown.text
    assert "MAPE" not in shown.text
    assert len(shown.all("circle", "dot")) == 2


def test_search_without_epochs_is_a_page(tiny_spec: ArchSpec) -> None:
    root = parse(search_page(MET, [], tiny_spec))
    check_outline(root)
    for anchor in ("theta", "trajectory"):
        assert "No epoch was logged." in section(root, anchor).text


@pytest.mark.parametrize(
    "changes",
    [
        {"config": DnasConfig(epochs=1, warmup_epochs=0), "metrics": (PARAMS,)},
        {"config": DnasConfig(epochs=3, warmup_epochs=3), "metrics": (LATENCY,)},
        {"config": DnasConfig(epochs=2, warmup_epochs=0), "metrics": ()},
        {"networks": (network(0, top1=100.0),), "measured": MET.measured[:1]},
    ],
    ids=["one epoch, parameters", "warm-up only", "no metric", "one network"],
)
def test_small_searches_are_pages(tiny_spec: ArchSpec, changes: dict[str, object]) -> None:
    record = search_record(**changes)
    check_page(search_page(record, course(record), tiny_spec))


def test_costs_that_were_not_searched_for_are_those_of_the_definition(tiny_spec: ArchSpec) -> None:
    record = search_record(metrics=(LATENCY,))
    (header,) = tree(record, tiny_spec).all("header")
    assert re.search(r"\d [kM] MACs at 64 px", header.text)
    assert "parameters" in header.text


def test_networks_outside_the_limits_are_marked(root: Element) -> None:
    chart = section(root, "networks").all("svg", "scattered")[0]
    assert [len(chart.all("circle", tone)) for tone in ("strong", "plain", "warn")] == [1, 1, 1]
    assert len(chart.all("line", "front")) == 2  # each is slower and more accurate than the one before


def test_text_is_escaped(tiny_spec: ArchSpec) -> None:
    data = DataRecord(name=HOSTILE, classes=10, weights=1, selection=2, held_out=3, split=HOSTILE)
    metric = LATENCY.model_copy(update={"table": HOSTILE, "device": HOSTILE, "unit": HOSTILE})
    record = search_record(
        space=HOSTILE,
        data=data,
        metrics=(metric,),
        decisions=decisions((HOSTILE,) * 3, tuple((HOSTILE,) * len(names) for names in OPTIONS)),
        judged=HOSTILE,
        device=HOSTILE,
        versions={HOSTILE: HOSTILE},
    )
    text = search_page(record, course(record), tiny_spec)
    check_page(text)
    for anchor in ("theta", "trajectory", "networks", "architecture", "settings"):
        assert HOSTILE in section(parse(text), anchor).text


def test_large_search_is_a_page_of_bounded_size(tiny_spec: ArchSpec) -> None:
    names, options = [f"stages.{at}.0 c" for at in range(60)], tuple(str(8 * at) for at in range(1, 16))
    record = search_record(
        config=DmaskingConfig(epochs=90),
        decisions=decisions(names, (options,) * 60),
        networks=(network(0, tuple(at % 15 for at in range(60))),),
    )
    text = search_page(record, course(record), tiny_spec)
    assert len(text.encode()) < 1_500_000
    root = parse(text)
    assert "DMaskingNAS" in root.all("header")[0].text
    assert len(section(root, "theta").all("div", "map")) == 60
    assert "one column for every 2" in section(root, "theta").text
    assert "3.7 \N{MULTIPLICATION SIGN} 10 70" in root.all("header")[0].text  # 15^60
