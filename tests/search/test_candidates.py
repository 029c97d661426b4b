"""Candidates of a search that are trained at once, stopped early, or fail."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from operator import ne
from pathlib import Path

import pytest

from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError, TrainingError
from fbnet_zoo.search.config import EvaluatingConfig, Halving
from fbnet_zoo.search.effort import Effort
from fbnet_zoo.search.evaluation import evaluated_result
from fbnet_zoo.search.evaluator import Evaluations, Outcome
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.halving import halved
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.mutation import evolve
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.runs import SearchRun, run_search
from fbnet_zoo.search.workers.settings import Workers
from fbnet_zoo.space.encoding import Positions
from fbnet_zoo.train import RunFolder
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import ROOT
from tests.helpers.search_oracles import accuracy, evaluations, twins
from tests.helpers.search_spaces import nano_space
from tests.helpers.training import RECIPE, few

BUDGET, EPOCHS = 4, 4
PLAIN = RandomConfig(budget=BUDGET, train_epochs=EPOCHS)
HALVING = PLAIN.model_copy(update={"halving": Halving(epochs=1)})
NETWORKS: list[Positions] = [(0, 1, 2, 3), (1, 1, 1, 1), (5, 4, 3, 2), (2, 2, 2, 2), (3, 0, 3, 0)]


def job_of(dataset: ImageDataset, config: EvaluatingConfig, workers: Workers | None = None) -> SearchJob:
    """A search that begins with every epoch evaluated."""
    return SearchJob(
        space=nano_space(),
        dataset=dataset,
        config=config,
        recipe=RECIPE,
        batch_size=12,
        workers=workers or Workers(),
    )


def lines(folder: Path) -> list[dict[str, object]]:
    """The records of a run, without times."""
    return [record | {"seconds": 0} for record in RunFolder(folder).records()]


@pytest.fixture(scope="module")
def plain(few_digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    return run_search(job_of(few_digits, PLAIN), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def stopped(few_digits: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    """The same networks with successive halving, in two processes."""
    return run_search(job_of(few_digits, HALVING, Workers(count=2)), tmp_path_factory.mktemp("stopped"))


@dataclass(kw_only=True)
class Eventful:
    """An evaluator with an outcome of its own for some networks."""

    outcomes: dict[Positions, Outcome]
    candidates: None = None
    about: str = "by a formula"

    def top1(self, networks: Sequence[Positions]) -> list[float | Outcome]:
        return [self.outcomes.get(network, accuracy(network)) for network in networks]


class TestEvaluations:
    def eventful(self, folder: Path) -> Evaluations:
        outcomes = {
            NETWORKS[0]: Outcome(failed="the loss is nan"),
            NETWORKS[1]: Outcome(top1=99.0, epochs=2),
            NETWORKS[3]: Outcome(failed="it hangs"),
        }
        return evaluations(Eventful(outcomes=outcomes), folder, twins())

    def test_batch(self, tmp_path: Path) -> None:
        asked = self.eventful(tmp_path)
        found = asked.top1_of([*NETWORKS, NETWORKS[2]])
        own = [accuracy(each) for each in NETWORKS]
        assert found == [None, 99.0, own[2], None, own[4], own[2]]
        assert [each.positions for each in asked.done] == NETWORKS
        assert [each.best for each in asked.done] == [None, None, own[2], own[2], max(own[2], own[4])]
        assert [each.epochs for each in asked.done] == [None, 2, None, None, None]
        assert [each.failed for each in asked.done] == ["the loss is nan", None, None, "it hangs", None]
        assert asked.done[0].summary() == "failed (the loss is nan)"
        assert asked.done[1].summary() == "top-1 99.0 % after 2 epochs"
        assert dict(asked.done[0].scalars(())) == {}

    def test_lines_have_what_is_new_only_where_it_is(self, tmp_path: Path) -> None:
        self.eventful(tmp_path).top1_of(NETWORKS)
        first, second, third, *_ = lines(tmp_path)
        usual = {"step", "seconds", "positions", "top1", "best", "costs"}
        assert [set(each) - usual for each in (first, second, third)] == [{"failed"}, {"epochs"}, set()]
        again = self.eventful(tmp_path)
        assert again.top1_of(NETWORKS) == [each.top1 for each in again.done]
        assert again.done[0].failed == "the loss is nan"

    def test_line_with_neither_an_accuracy_nor_a_reason(self, tmp_path: Path) -> None:
        self.eventful(tmp_path).top1_of(NETWORKS)
        path = RunFolder(tmp_path).metrics
        path.write_text(path.read_text().replace(', "failed": "it hangs"', ""))
        with pytest.raises(InputError, match=r"metrics\.jsonl:4: top1: a network has either an accuracy or the reason"):
            self.eventful(tmp_path)

    def test_networks_of_the_folder_are_reused(self, tmp_path: Path) -> None:
        self.eventful(tmp_path).top1_of(NETWORKS[:3])
        seen: list[Sequence[Positions]] = []

        class Noting(Eventful):
            def top1(self, networks: Sequence[Positions]) -> list[float | Outcome]:
                seen.append(networks)
                return super().top1(networks)

        for together in (False, True):
            folder = tmp_path / f"{together}"
            folder.mkdir()
            shutil.copy(RunFolder(tmp_path).metrics, folder)
            resumed = evaluations(Noting(outcomes={}), folder, twins())
            resumed.together = together
            resumed.top1_of(NETWORKS)
            assert [each.positions for each in resumed.done] == NETWORKS
            assert [each["step"] for each in lines(folder)] == [1, 2, 3, 4, 5]
            assert resumed.done[0].failed == "the loss is nan"
            evaluations(Noting(outcomes={}), folder, twins()).top1_of(NETWORKS)
        assert seen == [NETWORKS[3:], NETWORKS]

    def test_result_has_no_failed_networks(self, tmp_path: Path) -> None:
        asked = self.eventful(tmp_path)
        asked.top1_of(NETWORKS)
        result = evaluated_result(asked, {})
        whole = sorted((accuracy(NETWORKS[at]) for at in (2, 4)), reverse=True)
        assert [each.top1 for each in result.networks] == [*whole, 99.0]  # stopped early: it comes last
        assert [each.epochs for each in result.networks] == [None, None, 2]
        assert len(result.history) == len(NETWORKS)

    def test_all_failed(self, tmp_path: Path) -> None:
        asked = self.eventful(tmp_path)
        asked.top1_of([NETWORKS[0], NETWORKS[3]])
        told = r"^the evaluation of all 2 networks failed, of the first one with: the loss is nan$"
        with pytest.raises(TrainingError, match=told):
            evaluated_result(asked, {})

    def test_failed_networks_have_no_children(self, tmp_path: Path) -> None:
        """Every network with an even first decision fails; a child differs from its parent in one decision."""
        even = {each: Outcome(failed="it hangs") for each in product(range(6), repeat=4) if each[0] % 2 == 0}
        asked = evaluations(Eventful(outcomes=even), tmp_path, twins())
        evolve(asked, EvolutionConfig(budget=60, population=10, sample=3))
        assert len(asked.done) == 60
        assert {each.failed for each in asked.done} == {None, "it hangs"}
        for at, child in enumerate(asked.done[10:], start=10):
            parents = [each.positions for each in asked.done[:at] if each.failed is None]
            assert min(sum(map(ne, each, child.positions)) for each in parents) == 1

    def test_nothing_to_evolve(self, tmp_path: Path) -> None:
        every = {each: Outcome(failed="it hangs") for each in product(range(6), repeat=4)}
        asked = evaluations(Eventful(outcomes=every), tmp_path, twins())
        evolve(asked, EvolutionConfig(budget=30, population=6, sample=3))
        assert len(asked.done) == 6


class TestHalving:
    def test_the_better_part_goes_on(self) -> None:
        """Networks of which the later accuracies are in another order, one that fails, and two equal ones."""
        after: dict[int, list[float | None]] = {
            1: [5.0, 9.0, 9.0, 1.0, 7.0, None, 8.0],
            3: [0.0, 10.0, 20.0, 0.0, 0.0, None, 0.0],
            5: [0.0, 0.0, 30.0, 0.0, 0.0, None, 0.0],
        }
        seen = []

        def train(places: Sequence[int], epochs: int) -> list[Outcome]:
            seen.append((epochs, list(places)))
            stop = None if epochs == 5 else epochs
            known = [after[epochs][place] for place in places]
            return [Outcome(failed="it hangs") if top1 is None else Outcome(top1=top1, epochs=stop) for top1 in known]

        found = halved(7, 5, Halving(epochs=1, factor=3), train)
        assert seen == [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [1, 2]), (5, [2])]
        assert [(each.top1, each.epochs) for each in found] == [
            (5.0, 1), (10.0, 3), (30.0, None), (1.0, 1), (7.0, 1), (None, None), (8.0, 1)
        ]  # fmt: skip

    def test_accuracies_are_those_of_whole_trainings(self, plain: SearchRun, stopped: SearchRun) -> None:
        """In other processes, of survivors at the end, of the others after so many epochs."""
        whole = {each.positions: each for each in plain.record.networks}
        history = [each for each in stopped.history if isinstance(each, EvaluatedNetwork)]
        assert sorted(each.epochs or EPOCHS for each in history) == [1, 1, 2, 4]
        assert [each.positions for each in history] == [
            each.positions for each in plain.history if isinstance(each, EvaluatedNetwork)
        ]
        for each in history:
            name = whole[each.positions].name
            log = RunFolder(stopped.folder / "candidates" / name / "training")
            assert log.config.exists()
            epochs = [*log.records()]
            assert (len(epochs), epochs[-1]["top1"]) == (each.epochs or EPOCHS, each.top1)
            if each.epochs is None:
                assert each.top1 == whole[each.positions].top1
            losses = [epoch["loss"] for epoch in RunFolder(plain.folder / "candidates" / name / "training").records()]
            assert [epoch["loss"] for epoch in epochs] == losses[: len(epochs)]

    def test_saving_is_recorded(self, plain: SearchRun, stopped: SearchRun) -> None:
        assert stopped.record.effort == Effort(trained=8, full=16)
        assert stopped.record.effort.saved == 50
        assert stopped.record.judged == "after up to 4 epochs of training"
        assert [each.epochs for each in stopped.record.networks][:1] == [None]
        written = json.loads((plain.folder / "search.json").read_text())
        assert "effort" not in written
        assert "halving" not in written["config"]
        assert all("epochs" not in each for each in written["networks"])

    @pytest.mark.parametrize("kept", first_is_quick([2, 0, 3]))
    def test_stopped_search_goes_on(
        self, stopped: SearchRun, few_digits: ImageDataset, tmp_path: Path, kept: int
    ) -> None:
        """Networks whose records are there are judged again with the others of their batch, without training."""
        shutil.copytree(stopped.folder, tmp_path / "run")
        text = (tmp_path / "run/metrics.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "run/metrics.jsonl").write_text("".join(text[:kept]))
        run = run_search(job_of(few_digits, HALVING), tmp_path / "run", resume=True)
        assert lines(run.folder) == lines(stopped.folder)
        assert run.record.networks == stopped.record.networks

    def test_comparison_after_the_end(self, few_digits: ImageDataset, tmp_path: Path) -> None:
        config = PLAIN.model_copy(update={"halving": Halving(epochs=4)})
        with pytest.raises(InputError, match=r"^successive halving compares networks after 4 epochs, but .* for 4; "):
            run_search(job_of(few_digits, config), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_loss_that_is_not_finite(few_digits: ImageDataset, tmp_path: Path) -> None:
    """All networks fail, each after several attempts, and are recorded."""
    job = job_of(few_digits, RandomConfig(budget=2, train_epochs=1))
    wild = replace(job, recipe=RECIPE.model_copy(update={"lr": 1e30, "warmup_epochs": 0}))
    with pytest.raises(
        TrainingError, match=r"^the evaluation of all 2 networks failed, of the first one with: .*(nan|NaN)"
    ):
        run_search(wild, tmp_path)
    assert [each["top1"] for each in lines(tmp_path)] == [None, None]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"workers": Workers(count=2)},
            r"^workers: nothing is trained, as accuracies are by <lambda>; omit the option$",
        ),
        ({"config": HALVING}, r"^successive halving: nothing is trained, as accuracies are by <lambda>; omit the opt"),
    ],
)
def test_settings_of_trainings_without_any(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    job = job_of(few(20), PLAIN)
    with pytest.raises(InputError, match=told):
        run_search(replace(job, dataset=None, evaluate=lambda _: 1.0, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


SEARCH = """
import sys
from pathlib import Path
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.runs import run_search
from fbnet_zoo.search.workers.settings import Workers
from tests.helpers.training import few
from tests.search.test_candidates import PLAIN, job_of
run_search(job_of(few(136), PLAIN, Workers(count=2)), Path(sys.argv[1]), resume=True)
"""


@pytest.mark.slow
def test_search_that_is_killed_goes_on(plain: SearchRun, few_digits: ImageDataset, tmp_path: Path) -> None:
    """With its workers in the middle of trainings, at once: they do not keep the folders."""
    search = subprocess.Popen([sys.executable, "-c", SEARCH, tmp_path], cwd=ROOT)
    while len([*tmp_path.glob("candidates/*/training/checkpoint.pt")]) < 2:
        assert search.poll() is None
        time.sleep(0.01)
    search.send_signal(signal.SIGKILL)
    search.wait()
    run = run_search(job_of(few_digits, PLAIN, Workers(count=2)), tmp_path, resume=True)
    assert lines(run.folder) == lines(plain.folder)
    assert run.record.networks == plain.record.networks
