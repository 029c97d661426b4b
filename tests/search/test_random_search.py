"""Random search: different networks within the limits, the best of them, and that it goes on where it was stopped."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import EvaluatingConfig
from fbnet_zoo.search.cost import macs_cost
from fbnet_zoo.search.drawing import draw_near_limits, draw_networks
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.history import EvaluatedNetwork, HistoryRecord
from fbnet_zoo.search.limits import Costs
from fbnet_zoo.search.method import Context
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.oracle import Oracle
from fbnet_zoo.search.predictive.config import ChamnetConfig
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.record import load_record
from fbnet_zoo.search.runs import SearchRun, run_search
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.masked_spaces import masked_space
from tests.helpers.search_oracles import accuracy, energy, evaluations, oracle, oracle_job, twins
from tests.helpers.search_spaces import nano_space

BUDGET, LIMIT = 12, 4.0
CONFIGS: dict[str, EvaluatingConfig] = {
    "random": RandomConfig(budget=BUDGET, limits={"energy": LIMIT}, seed=3),
    "evolution": EvolutionConfig(budget=BUDGET, population=4, sample=2, limits={"energy": LIMIT}, seed=3),
    "chamnet": ChamnetConfig(budget=BUDGET, batch=4, limits={"energy": LIMIT}, seed=3),
}
METHOD = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """The accuracies of all networks of four layers of six blocks."""
    encoding = twins()
    path = tmp_path_factory.mktemp("known") / "known.csv"
    return oracle(path, encoding, product(*map(range, encoding.counts)))


@pytest.fixture(scope="module")
def runs(known: Oracle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SearchRun]:
    return {
        name: run_search(oracle_job(config, known), tmp_path_factory.mktemp(name)) for name, config in CONFIGS.items()
    }


def lines(folder: Path) -> list[dict[str, object]]:
    """The records of a run, without times."""
    return [record | {"seconds": 0} for record in RunFolder(folder).records()]


class Stopped(Exception):  # noqa: N818 - no error, but what stops a search in a test
    pass


@METHOD
class TestRun:
    def test_budget_is_spent_on_different_networks_within_the_limits(
        self, runs: dict[str, SearchRun], config: EvaluatingConfig
    ) -> None:
        run = runs[config.method]
        networks = run.record.networks
        assert len({each.name for each in networks}) == len(networks) == BUDGET == config.total
        for each in networks:
            assert each.costs["energy"] == energy(each.positions) <= LIMIT
            assert each.costs["macs"] == macs_cost(twins()).of(each.positions)
            assert each.within_limits
            assert each.top1 == accuracy(each.positions)
            assert (each.log_probability, each.projected, each.recalibrated_images) == (None, False, None)
            assert twins().definition(each.positions).name == each.name

    def test_best_is_the_first(self, runs: dict[str, SearchRun], config: EvaluatingConfig) -> None:
        run = runs[config.method]
        tops = [each.top1 for each in run.record.networks]
        assert run.record.met
        assert tops == sorted(tops, reverse=True)
        assert run.definition.counts is not None
        assert run.definition.model_copy(update={"counts": None, "summary": ""}) == twins().definition(
            run.record.best.positions
        ).model_copy(update={"counts": None, "summary": ""})

    def test_history_is_what_was_evaluated(self, runs: dict[str, SearchRun], config: EvaluatingConfig) -> None:
        run = runs[config.method]
        history = [each for each in run.history if isinstance(each, EvaluatedNetwork)]
        assert [each.number for each in history] == list(range(1, BUDGET + 1))
        assert {each.positions for each in history} == {each.positions for each in run.record.networks}
        assert [each.best for each in history] == [
            max(each.top1 for each in history[: at + 1]) for at in range(len(history))
        ]
        logged = [EvaluatedNetwork.model_validate_json(json.dumps(each)) for each in RunFolder(run.folder).records()]
        assert logged == history

    def test_the_record(self, runs: dict[str, SearchRun], config: EvaluatingConfig) -> None:
        run = runs[config.method]
        record = load_record(run.folder / "search.json")
        assert record == run.record
        assert (record.config, record.data, record.trained) == (config, None, None)
        assert record.decisions == twins().decisions
        assert record.judged == "in the table known.csv"
        assert [metric.name for metric in record.metrics] == ["macs", "params", "energy"]
        assert record.method is METHODS[config.method]
        assert {path.name for path in run.folder.iterdir()} == {
            *("config.json", "metrics.jsonl", "result.yaml", "search.json", "tensorboard")
        }

    def test_tensorboard_reads_it(self, runs: dict[str, SearchRun], config: EvaluatingConfig) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = runs[config.method]
        events = EventAccumulator(str(run.folder / "tensorboard")).Reload().Scalars("top1")
        assert [each.step for each in events] == list(range(1, BUDGET + 1))
        history = [each for each in run.history if isinstance(each, EvaluatedNetwork)]
        assert [each.value for each in events] == pytest.approx([each.top1 for each in history])

    def test_equal_seeds_give_equal_searches(
        self, runs: dict[str, SearchRun], known: Oracle, tmp_path: Path, config: EvaluatingConfig
    ) -> None:
        again = run_search(oracle_job(config, known), tmp_path / "again")
        assert again.record.networks == runs[config.method].record.networks
        assert lines(again.folder) == lines(runs[config.method].folder)
        other = run_search(oracle_job(config.model_copy(update={"seed": 4}), known), tmp_path / "other")
        assert lines(other.folder) != lines(again.folder)

    @pytest.mark.parametrize("kept", [0, 1, 3, 7, BUDGET])
    @pytest.mark.parametrize("torn", ["", '{"step": 8, "posi'], ids=["whole", "torn"])
    def test_stopped_search_goes_on(
        self, runs: dict[str, SearchRun], known: Oracle, tmp_path: Path, config: EvaluatingConfig, kept: int, torn: str
    ) -> None:
        """As after `kept` networks, the next one perhaps written in part; those that are there are not asked again."""
        before, folder = runs[config.method], tmp_path / "run"
        shutil.copytree(before.folder, folder)
        (folder / "search.json").unlink()
        text = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_text("".join(text[:kept]) + torn)
        told: list[int] = []
        run = run_search(
            oracle_job(config, known), folder, resume=True, progress=lambda record: told.append(record.number)
        )
        assert told == list(range(1, BUDGET + 1))
        assert run.record.networks == before.record.networks
        assert lines(folder) == lines(before.folder)
        assert list(RunFolder(folder).records())[:kept] == [json.loads(line) for line in text[:kept]]

    def test_interrupted_search_goes_on(
        self, runs: dict[str, SearchRun], known: Oracle, tmp_path: Path, config: EvaluatingConfig
    ) -> None:
        def stop(record: HistoryRecord) -> None:
            if record.number == 5:
                raise Stopped("by the test")

        job = oracle_job(config, known)
        with pytest.raises(Stopped, match="by the test"):
            run_search(job, tmp_path, progress=stop)
        assert len(lines(tmp_path)) == 5
        with pytest.raises(InputError, match=r"already holds a run; .*--resume"):
            run_search(job, tmp_path)
        smaller = replace(job, oracle=replace(known, name="other.csv"))
        with pytest.raises(InputError, match="holds a run with another oracle"):
            run_search(smaller, tmp_path, resume=True)
        assert run_search(job, tmp_path, resume=True).record.networks == runs[config.method].record.networks

    def test_limit_that_no_network_keeps(self, known: Oracle, tmp_path: Path, config: EvaluatingConfig) -> None:
        for limits, told in (
            ({"energy": 0.5}, "no network of the space satisfies energy <= 0.5: the lowest is 1;"),
            ({"joules": 1.0}, "a limit is on 'joules', which is not a known cost; expected macs or params or energy"),
        ):
            job = oracle_job(config.model_copy(update={"limits": limits}), known)
            with pytest.raises(InputError, match=told):
                run_search(job, tmp_path / "run")
            assert not (tmp_path / "run").exists()

    def test_several_processes_are_refused(self, known: Oracle, tmp_path: Path, config: EvaluatingConfig) -> None:
        context = Context(
            encoding=known.encoding,
            costs={},
            folder=RunFolder(tmp_path),
            processes=Processes(count=2),
            progress=lambda _: None,
        )
        with pytest.raises(InputError, match=f"the method {config.method} runs in a single process"):
            METHODS[config.method].load().run(oracle_job(config, known), context)


class TestDraws:
    """Of random search, and of the first networks of others."""

    def positions(self, encoding: Encoding, count: int, seed: int = 0, limit: float | None = None) -> list[Positions]:
        if limit is None:
            return list(draw_networks(encoding, {}, {}, count=count, seed=seed))
        costs = {"macs": macs_cost(encoding, num_classes=4)}
        return list(draw_networks(encoding, costs, {"macs": limit}, count=count, seed=seed))

    def test_are_different_networks_within_the_limits(self) -> None:
        encoding = Encoding(masked_space("small"))
        macs = macs_cost(encoding, num_classes=4)
        limit = (macs.least + macs.most) / 2
        found = self.positions(encoding, 40, limit=limit)
        assert len({encoding.definition(each).name for each in found}) == 40
        assert all(macs.of(each) <= limit for each in found)
        assert found == self.positions(encoding, 40, limit=limit)
        assert found[:7] == self.positions(encoding, 7, limit=limit)
        assert found != self.positions(encoding, 40, seed=1, limit=limit)

    def test_are_even(self) -> None:
        """The first of each seed: every network of a small space about as often as another."""
        encoding = Encoding(nano_space())
        drawn = [self.positions(encoding, 1, seed=seed)[0] for seed in range(360)]
        counts = [drawn.count(each) for each in product(*map(range, encoding.counts))]
        assert sum(counts) == 360
        assert max(abs(count - 20) for count in counts) < 18  # four standard deviations

    def test_are_all_where_as_many_are_asked(self) -> None:
        encoding = Encoding(nano_space())
        assert sorted(self.positions(encoding, 18)) == list(product(*map(range, encoding.counts)))

    def test_too_few_networks(self, known: Oracle) -> None:
        with pytest.raises(
            InputError, match=r"18 of 100,000 random networks of nano are within the limits, but 19 are need"
        ):
            self.positions(Encoding(nano_space()), 19)
        rows = known.candidates[:5]
        with pytest.raises(
            InputError, match="5 of 5 networks of twins are within the limits, but 6 are needed; raise the"
        ):
            list(draw_networks(known.encoding, {}, {}, count=6, seed=0, among=rows))

    def test_among_known_ones(self, known: Oracle) -> None:
        rows = known.candidates[::50]
        found = list(draw_networks(known.encoding, {}, {}, count=len(rows), seed=0, among=rows))
        assert sorted(found) == sorted(map(tuple, rows.tolist()))
        assert found != sorted(found)


def costs_of(known: Oracle) -> Costs:
    return {each.name: each for each in known.costs()}


class TestNearLimits:
    """1,296 networks with energies of 1 to 6 in steps of a half."""

    def test_are_those_that_use_a_limit(self, known: Oracle) -> None:
        limits = {"energy": 3.0}
        found = draw_near_limits(known.encoding, costs_of(known), limits, count=40, seed=0).networks
        assert {energy(each) for each in found} == {3.0}
        assert len(set(found)) == 40
        within = draw_networks(known.encoding, costs_of(known), limits, count=40, seed=0)
        assert len({energy(each) for each in within}) > 1

    def test_says_how_many_were_tried(self, known: Oracle) -> None:
        """On average as many as there are for each that is near."""
        count = [energy(each) for each in product(*map(range, known.encoding.counts))].count(3.0)
        tried = [
            draw_near_limits(known.encoding, costs_of(known), {"energy": 3.0}, count=1, seed=seed).tried
            for seed in range(300)
        ]
        assert sum(tried) / 300 == pytest.approx(6**4 / count, rel=0.2)

    def test_of_several_limits_one_is_used(self, known: Oracle) -> None:
        costs = {**costs_of(known), "macs": macs_cost(known.encoding, num_classes=4)}
        most = costs["macs"].most
        found = draw_near_limits(known.encoding, costs, {"energy": 3.0, "macs": most}, count=60, seed=0).networks
        shares = [(energy(each) / 3, costs["macs"].of(each) / most) for each in found]
        assert all(max(each) <= 1 and max(each) >= 0.95 for each in shares)

    def test_any_network_without_limits(self, known: Oracle) -> None:
        drawn = draw_near_limits(known.encoding, {}, {}, count=9, seed=0)
        assert drawn.networks == draw_networks(known.encoding, {}, {}, count=9, seed=0)

    def test_too_few(self, known: Oracle) -> None:
        with pytest.raises(
            InputError, match=r"^only 0 of 100,000 random networks of twins are at 95 to 100 % of the limits, but 1 are"
        ):
            draw_near_limits(known.encoding, costs_of(known), {"energy": 2.9}, count=1, seed=0)


def test_an_evaluation_of_one_network_is_asked_once(known: Oracle, tmp_path: Path) -> None:
    asked = evaluations(known, tmp_path, known.encoding)
    assert asked.top1((0, 1, 2, 3)) == asked.top1((0, 1, 2, 3)) == accuracy((0, 1, 2, 3))
    assert [each.positions for each in asked.done] == [(0, 1, 2, 3)]
    assert len(lines(tmp_path)) == 1
    again = evaluations(known, tmp_path, known.encoding)
    assert not again.has((0, 1, 2, 3))
    assert again.top1((0, 1, 2, 3)) == accuracy((0, 1, 2, 3))
    assert again.has((0, 1, 2, 3))
    assert len(lines(tmp_path)) == 1
