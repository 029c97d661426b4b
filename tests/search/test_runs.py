"""A whole search in its folder: what it leaves there, how it goes on, and what it is compared with."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from fbnet_zoo import arch_file, complexity, create
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.search.baseline import compared, random_baseline
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.history import HistoryRecord
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.record import load_record
from fbnet_zoo.search.runs import SearchRun, run_search, train_best
from fbnet_zoo.space import load_space
from fbnet_zoo.stats import kendall
from fbnet_zoo.train import evaluate, inputs_of
from fbnet_zoo.train.recipe import load_over
from tests.helpers.search_spaces import nano_space
from tests.helpers.training import RECIPE

LIMIT = 45_000.0
CONFIG = DnasConfig(
    epochs=3,
    warmup_epochs=1,
    theta_lr=0.2,
    weight_lr=0.2,
    penalty=None,
    limits={"macs": LIMIT},
    samples=3,
    candidates=6,
)


@pytest.fixture(scope="module")
def job(few_digits: ImageDataset) -> SearchJob:
    return SearchJob(
        space=nano_space(),
        dataset=few_digits,
        config=CONFIG,
        recipe=RECIPE.model_copy(update={"epochs": 2}),
        batch_size=12,
        name="nano_found",
    )


@pytest.fixture(scope="module")
def run(job: SearchJob, tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    return train_best(run_search(job, tmp_path_factory.mktemp("run")), job)


def epochs(run: SearchRun) -> list[SearchEpoch]:
    return [each for each in run.history if isinstance(each, SearchEpoch)]


def test_the_folder_holds_the_run(run: SearchRun) -> None:
    assert {path.name for path in run.folder.iterdir()} == {
        "checkpoint.pt",
        "config.json",
        "metrics.jsonl",
        "result.yaml",
        "search.json",
        "tensorboard",
        "training",
        "weights.safetensors",
    }
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert [SearchEpoch.model_validate_json(line) for line in lines] == list(run.history)
    assert [epoch.epoch for epoch in epochs(run)] == [1, 2, 3]
    assert load_record(run.folder / "search.json") == run.record


def test_the_result_is_an_entry(run: SearchRun, job: SearchJob) -> None:
    spec = arch_file.load(run.folder / "result.yaml")
    assert spec == run.definition
    assert spec.name == "nano_found"
    assert nano_space().encode(spec).layers == run.record.best.choices.layers
    counted = complexity.cost(spec)
    assert spec.counts is not None
    assert (spec.counts.params, spec.counts.macs) == (counted.params, counted.macs)
    assert run.record.met
    assert run.record.best.costs["macs"] == complexity.cost(spec, num_classes=10).macs <= LIMIT
    network = create(run.folder / "result.yaml", pretrained=True).eval()
    assert network.plan.num_classes == 10
    assert run.record.trained is not None
    dataset = job.required_dataset
    assert evaluate(network, dataset.held_out, inputs_of(network, dataset)).top1 == run.record.trained.top1


def test_the_record_tells_what_was_asked(run: SearchRun, job: SearchJob) -> None:
    record = run.record
    assert record.config == job.config
    assert record.data is not None
    assert (record.data.weights, record.data.selection, record.data.held_out) == (109, 27, 50)
    assert [decision.name for decision in record.decisions] == ["stages.2.0", "stages.4.0", "stages.4.1"]
    assert record.decisions[2].options == ("k5_e2_se", "skip")
    assert record.judged == "with the supernet's weights"
    assert [metric.name for metric in record.metrics] == ["macs", "params"]
    assert {network.recalibrated_images for network in record.networks} == {108}
    assert record.seconds > 0


def test_tensorboard_reads_what_the_metrics_say(run: SearchRun) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [each.value for each in events.Scalars("macs/expected")] == pytest.approx(
        [epoch.expected["macs"] for epoch in epochs(run)]
    )
    assert [each.step for each in events.Scalars("top1")] == [2, 3]
    assert "entropy/stages.4.1" in events.Tags()["scalars"]


class Stopped(Exception):  # noqa: N818 - no error, but what stops a search in a test
    pass


def test_an_interrupted_run_goes_on(run: SearchRun, job: SearchJob, tmp_path: Path) -> None:
    def stop(epoch: HistoryRecord) -> None:
        if epoch.number == 2:
            raise Stopped("by the test")

    with pytest.raises(Stopped, match="by the test"):
        run_search(job, tmp_path, progress=stop)
    with pytest.raises(InputError, match=r"already holds a run; .*--resume"):
        run_search(job, tmp_path)
    other = dataclasses.replace(job, config=CONFIG.model_copy(update={"theta_lr": 0.1}))
    with pytest.raises(InputError, match=r"holds a run with another search \(theta_lr: 0.2, now 0.1\)"):
        run_search(other, tmp_path, resume=True)
    again = run_search(job, tmp_path, resume=True)
    assert again.record.networks == run.record.networks
    assert epochs(again)[-1].shares == epochs(run)[-1].shares


def test_searches_of_different_seeds_differ(run: SearchRun, job: SearchJob, tmp_path: Path) -> None:
    other = dataclasses.replace(job, config=CONFIG.model_copy(update={"seed": 1}))
    assert epochs(run_search(other, tmp_path))[-1].shares != epochs(run)[-1].shares


def test_random_networks_keep_the_limits_and_are_trained_alike(run: SearchRun, job: SearchJob, tmp_path: Path) -> None:
    baseline = random_baseline(job, tmp_path, count=2)
    found = baseline.records
    assert len({each.name for each in found}) == 2 <= baseline.tried
    assert all(0.95 * LIMIT <= each.costs["macs"] <= LIMIT for each in found)
    for index, each in enumerate(found):
        told = json.loads((tmp_path / f"{index}/training/config.json").read_text())["config"]
        assert told["network"] == each.name
        assert told["recipe"]["epochs"] == 2
        last = json.loads((tmp_path / f"{index}/training/metrics.jsonl").read_text().splitlines()[-1])
        assert last["top1"] == each.top1
    record = run.record.model_copy(update={"random": found})
    average = sum(each.top1 for each in found) / 2
    assert record.trained is not None
    assert record.improvement == pytest.approx(100 * (record.trained.top1 / average - 1))
    assert run.record.improvement is None


def test_random_networks_are_judged_by_the_supernet_of_the_search(
    run: SearchRun, job: SearchJob, tmp_path: Path
) -> None:
    """Its checkpoint gives them the accuracy that the search would have given them."""
    baseline = random_baseline(job, tmp_path, count=2)
    found = compared(run, job, baseline).record
    known = {each.positions: each.top1 for each in run.record.networks}
    judged = {network: each.judged_top1 for network, each in zip(baseline.networks, found.random, strict=True)}
    assert found.tried == baseline.tried
    assert all(top1 == known.get(network, top1) is not None for network, top1 in judged.items())
    assert judged.keys() & known.keys()
    assert found.trained is not None
    accuracies = [(each.judged_top1, each.top1) for each in found.random] + [(found.best.top1, found.trained.top1)]
    assert found.agreement == kendall(*zip(*accuracies, strict=True))


def test_random_networks_must_exist(job: SearchJob, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match="random networks of nano are at 95 to 100 % of the limits, but 99 are needed",
    ):
        random_baseline(job, tmp_path, count=99)


@pytest.mark.parametrize("config", [DnasConfig(), DmaskingConfig(), RandomConfig()], ids=lambda each: each.method)
def test_a_table_may_be_for_another_number_of_classes(job: SearchJob, config: MethodConfig) -> None:
    space, table = load_space("fbnet_cifar_small"), find_table("pixel3")
    other = dataclasses.replace(job, space=space, config=config, table=table, table_classes=100)
    encoding = METHODS[config.method].load().encoding(other)
    latency, macs, _ = other.costs(encoding).values()
    assert latency.least == pytest.approx(2.838627995)
    assert macs.name == "macs"
    with pytest.raises(InputError, match=r"latency table pixel3 .* number of classes|classes must be the same"):
        dataclasses.replace(other, table_classes=None).costs(encoding)


def test_threads_and_random_state_are_left_alone(job: SearchJob, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run_search(dataclasses.replace(job, config=CONFIG.model_copy(update={"epochs": 1})), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_configuration_files(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("epochs: 7\ntemperature: {start: 2}\n")
    read = load_over(tmp_path / "search.yaml", DnasConfig.usual("digits"))
    assert (read.epochs, read.temperature.start) == (7, 2.0)
    assert read.temperature.decay == DnasConfig.usual("digits").temperature.decay
    (tmp_path / "search.yaml").write_text("epoch: 7\n")
    with pytest.raises(InputError, match=r"search.yaml:1: unknown key 'epoch'.*did you mean 'epochs'"):
        load_over(tmp_path / "search.yaml", DnasConfig.usual("digits"))


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(InputError, match=r"search.json: space: .* expected the record of a search"):
        load_record(tmp_path / "search.json")
