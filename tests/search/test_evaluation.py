"""Accuracies of networks: from a table, from short trainings, and with the weights of a trained supernet."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fbnet_zoo import arch_file
from fbnet_zoo.datasets import ImageDataset, Subset
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig, GradientConfig
from fbnet_zoo.search.gradient.trained_supernet import trained_supernet
from fbnet_zoo.search.images import split
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.limits import excess, population_excess
from fbnet_zoo.search.oracle import Oracle, read_oracle
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.search.runs import SearchRun, run_search
from fbnet_zoo.search.short_training import ShortTraining
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse
from fbnet_zoo.train import RunFolder, train
from tests.helpers.masked_spaces import masked_space
from tests.helpers.search_oracles import accuracy, energy, table
from tests.helpers.search_spaces import NANO as NANO_TEXT
from tests.helpers.search_spaces import POINTS, TWINS, nano_space
from tests.helpers.training import RECIPE

NANO = Encoding(nano_space())
ROWS: tuple[Positions, ...] = ((0, 0, 0), (1, 2, 1), (2, 1, 0), (2, 2, 1))
TEXT = table(NANO, ROWS, energy=energy)
HEADER = TEXT.splitlines()[0]


def read(folder: Path, text: str | bytes, encoding: Encoding = NANO) -> Oracle:
    path = folder / "known.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_oracle(path, encoding)


def line(at: int, right: str, wrong: str) -> str:
    """Return the table with one line, from 1, changed."""
    lines = TEXT.splitlines()
    assert right in lines[at - 1]
    lines[at - 1] = lines[at - 1].replace(right, wrong, 1)
    return "\n".join(lines) + "\n"


def without_energy(*rows: int) -> str:
    """Return the table without the energies of some rows."""
    lines = TEXT.splitlines()
    for row in rows:
        lines[row + 1] = lines[row + 1].rpartition(",")[0] + ","
    return "\n".join(lines) + "\n"


class TestOracle:
    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text,
            lambda text: "\ufeff" + text,
            lambda text: text.replace("\n", "\r\n"),
            lambda text: text.rstrip("\n"),
            lambda text: text.replace("\n", "\n\n"),
            lambda text: "\n".join(",".join(reversed(each.split(","))) for each in text.splitlines()),
        ],
        ids=["plain", "byte order mark", "carriage returns", "no last newline", "empty lines", "other order"],
    )
    def test_holds_what_the_file_says(self, tmp_path: Path, change: Callable[[str], str]) -> None:
        oracle = read(tmp_path, change(TEXT))
        assert oracle.about == "in the table known.csv"
        assert oracle.candidates.tolist() == [list(row) for row in ROWS]
        assert oracle.top1(ROWS[::-1]) == [accuracy(row) for row in ROWS[::-1]]
        (cost,) = oracle.costs()
        assert (cost.name, [cost.of(row) for row in ROWS]) == ("energy", [energy(row) for row in ROWS])
        assert cost.population(np.array(ROWS)).tolist() == [energy(row) for row in ROWS]
        assert cost.of(cost.cheapest) == cost.least == min(map(energy, ROWS))

    def test_networks_that_it_does_not_have(self, tmp_path: Path) -> None:
        oracle = read(tmp_path, TEXT)
        for call in (lambda: oracle.top1([(0, 1, 0)]), lambda: oracle.costs()[0].of((0, 1, 0))):
            with pytest.raises(InputError, match=r"known\.csv has no row for the network at \(0, 1, 0\)"):
                call()

    def test_unknown_costs(self, tmp_path: Path) -> None:
        """They are within no limit; where none names the column, it is left out."""
        oracle = read(tmp_path, without_energy(0, 2))
        assert oracle.costs() == ()
        (cost,) = oracle.costs({"energy": 1.0})
        known = [energy(ROWS[1]), energy(ROWS[3])]
        assert cost.population(ROWS).tolist() == [math.inf, known[0], math.inf, known[1]]
        assert cost.least == cost.of(cost.cheapest) == min(known)
        assert population_excess(np.array(ROWS), {"energy": cost}, {"energy": 100.0}).tolist() == [math.inf, 0] * 2
        assert [excess(row, {"energy": cost}, {"energy": 100.0}) for row in ROWS] == [math.inf, 0] * 2

    def test_populations(self, tmp_path: Path) -> None:
        oracle = read(tmp_path, TEXT)
        (cost,) = oracle.costs()
        rows = [ROWS[at] for at in (3, 0, 0, 2)]
        assert cost.population(rows).tolist() == [cost.of(row) for row in rows] == [energy(row) for row in rows]
        assert cost.population(np.zeros((0, 3), dtype=np.int64)).shape == (0,)
        assert oracle.top1([]) == []
        with pytest.raises(InputError, match=r"known\.csv has no row for the network at \(0, 1, 0\)"):
            cost.population([ROWS[0], (0, 1, 0)])

    def test_spellings_of_one_network_are_one(self, tmp_path: Path) -> None:
        """A skip takes no expansion."""
        encoding = Encoding(masked_space("small"))
        skip = [decision.name for decision in encoding.decisions].index("stages.2.0")
        first = tuple(1 if at == skip else 0 for at in range(len(encoding.counts)))
        other = tuple(1 if at in {skip, skip + 1} else 0 for at in range(len(encoding.counts)))
        assert encoding.decisions[skip + 1].name == "stages.2.0 e"
        oracle = read(tmp_path, table(encoding, [other, (0,) * len(first)]), encoding)
        assert oracle.top1([first]) == oracle.top1([other]) == [accuracy(other)]
        several = read(tmp_path, table(encoding, [first, (0,) * len(first), other]), encoding)
        assert (
            several.top1([first]) == several.top1([other]) == [pytest.approx((accuracy(first) + accuracy(other)) / 2)]
        )
        assert len(several.candidates) == 2

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", r"known\.csv:1: missing column 'stages\.2\.0'; it has nothing"),
            (line(1, "stages.4.0", "stages.4.9"), r"known\.csv:1: missing column 'stages\.4\.0'; did you mean"),
            (line(1, "top1", "accuracy"), r"known\.csv:1: missing column 'top1'; it has .*accuracy, energy"),
            (line(1, "energy", "top1"), r"known\.csv:1: duplicate column 'top1'; keep one"),
            (line(1, "energy", "stages.4.1"), r"known\.csv:1: duplicate column 'stages\.4\.1'; keep one"),
            (HEADER, r"known\.csv has 0 networks; expected 2 or more"),
            ("\n".join(TEXT.splitlines()[:2]), r"known\.csv has 1 networks; expected 2 or more"),
            (line(3, "k3_e1_g2", "k3_e1_g4"), r"known\.csv:3: stages\.2\.0 cannot be 'k3_e1_g4'; did you mean"),
            (line(4, "fused", "zzz"), r"known\.csv:4: stages\.4\.0 cannot be 'zzz'; expected k3_e2, fused, skip"),
            (line(2, "k3_e2", ""), r"known\.csv:2: stages\.2\.0 cannot be ''; expected"),
            (line(5, TEXT.splitlines()[4], "skip"), r"known\.csv:5: stages\.4\.0 cannot be None; expected"),
            (line(3, f",{energy(ROWS[1])}", ""), r"known\.csv:3: energy cannot be None; expected a number"),
            (line(3, f",{energy(ROWS[1])}", ",1,5"), r"known\.csv:3: more cells than the 5 columns of line 1"),
            (line(5, str(accuracy(ROWS[3])), "nan"), r"known\.csv:5: top1 cannot be 'nan'; expected percent"),
            (line(5, str(accuracy(ROWS[3])), "100.5"), r"known\.csv:5: top1 cannot be '100\.5'; expected percent"),
            (line(5, str(accuracy(ROWS[3])), "-1"), r"known\.csv:5: top1 cannot be '-1'; expected percent"),
            (line(5, str(accuracy(ROWS[3])), "70 %"), r"known\.csv:5: top1 cannot be '70 %'; expected percent"),
            (line(2, f",{energy(ROWS[0])}", ",inf"), r"known\.csv:2: energy cannot be 'inf'; expected a number"),
            (
                line(2, f",{energy(ROWS[0])}", ",-1"),
                r"known\.csv:2: energy cannot be '-1'; expected a number that is not",
            ),
            (line(1, "energy", "Energy"), r"known\.csv:1: the column 'Energy' is neither a decision nor a cost"),
            (line(1, "energy", ""), r"known\.csv:1: the column '' is neither a decision nor a cost"),
            (without_energy(*range(4)), r"known\.csv:1: the column 'energy' has no value; remove it"),
            (TEXT + TEXT.splitlines()[2], r"known\.csv:6: duplicate network, first on line 3; keep one"),
            (b"\xff\xfe\x00", r"known\.csv:1: not UTF-8 text; expected a table of accuracies"),
        ],
    )
    def test_mistakes_are_told_with_their_place(self, tmp_path: Path, text: str | bytes, told: str) -> None:
        with pytest.raises(InputError, match=told):
            read(tmp_path, text)

    def test_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.csv: cannot be read: No such file"):
            read_oracle(tmp_path / "none.csv", NANO)


GRADIENT = {"epochs": 2, "warmup_epochs": 1, "theta_lr": 0.2, "penalty": None, "samples": 3, "candidates": 6, "seed": 5}
CONFIGS = {
    "dnas": DnasConfig.model_validate(GRADIENT | {"limits": {"macs": 45_000.0}}),
    "dmasking": DmaskingConfig.model_validate(GRADIENT | {"limits": {"macs": 18_000.0}, "recalibration_batches": 4}),
}


@pytest.fixture(scope="module")
def job(few_digits: ImageDataset) -> SearchJob:
    recipe = RECIPE.model_copy(update={"epochs": 2})
    return SearchJob(
        space=nano_space(), dataset=few_digits, config=RandomConfig(budget=2), recipe=recipe, batch_size=12
    )


def gradient_job(job: SearchJob, config: GradientConfig) -> SearchJob:
    return replace(job, config=config, space=masked_space("nano") if config.method == "dmasking" else nano_space())


@pytest.fixture(scope="module")
def supernets(job: SearchJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SearchRun]:
    return {
        name: run_search(gradient_job(job, config), tmp_path_factory.mktemp(name)) for name, config in CONFIGS.items()
    }


@pytest.fixture(params=CONFIGS)
def supernet(request: pytest.FixtureRequest, supernets: dict[str, SearchRun]) -> SearchRun:
    return supernets[request.param]


@pytest.fixture
def dnas(supernets: dict[str, SearchRun]) -> Path:
    return supernets["dnas"].folder


class TestShortTraining:
    def test_is_a_training_on_part_of_the_images(
        self, job: SearchJob, few_digits: ImageDataset, tmp_path: Path
    ) -> None:
        """The networks are judged on the others, and the held-out images are never used."""
        evaluator = ShortTraining(job=job, dataset=few_digits, encoding=NANO, folder=tmp_path / "candidates", epochs=1)
        found = [each.top1 for each in evaluator.top1(POINTS[:2])]
        assert (evaluator.about, evaluator.candidates) == ("after 1 epoch of training", None)
        own, others = split(few_digits, job.loading)
        assert (len(own), len(others)) == (109, 27)
        assert not set(own.tolist()) & set(others.tolist())
        learning, judging = (Subset(few_digits.train, each) for each in (own, others))
        for positions, top1 in zip(POINTS[:2], found, strict=True):
            arch = finished(job, NANO.definition(positions))
            arch_file.save(arch, tmp_path / "mine.yaml")
            recipe = job.recipe.model_copy(update={"epochs": 1})
            parts = replace(few_digits, train=learning, held_out=judging)
            assert train(tmp_path / "mine.yaml", parts, recipe, tmp_path / arch.name).metrics.top1 == top1
            assert arch_file.load(tmp_path / "candidates" / arch.name / "network.yaml") == arch

    def test_trained_networks_are_not_trained_again(self, job: SearchJob, tmp_path: Path) -> None:
        """A training that is complete writes no other checkpoint."""
        evaluator = ShortTraining(job=job, dataset=job.required_dataset, encoding=NANO, folder=tmp_path, epochs=1)
        first = [*evaluator.top1(POINTS[:1])]
        (checkpoint,) = tmp_path.glob("*/training/checkpoint.pt")
        written = checkpoint.stat().st_mtime_ns
        assert [*evaluator.top1(POINTS[:1])] == first
        assert checkpoint.stat().st_mtime_ns == written

    def test_a_search_with_it(self, job: SearchJob, tmp_path: Path) -> None:
        config = EvolutionConfig(budget=3, population=2, sample=1, train_epochs=1, limits={"params": 1e9})
        run = run_search(replace(job, config=config), tmp_path)
        assert run.record.judged == "after 1 epoch of training"
        assert {path.name for path in (tmp_path / "candidates").iterdir()} == {
            network.name for network in run.record.networks
        }
        assert run.record.data is not None
        assert (run.record.data.weights, run.record.data.selection, run.record.data.held_out) == (109, 27, 50)
        for network in run.record.networks:
            told = json.loads((tmp_path / f"candidates/{network.name}/training/config.json").read_text())["config"]
            assert (told["data"]["train"], told["data"]["held_out"]) == (109, 27)

    def test_epochs_are_the_recipes_where_nothing_else_is_asked(self, job: SearchJob, tmp_path: Path) -> None:
        run = run_search(replace(job, config=RandomConfig(budget=1)), tmp_path)
        assert run.record.judged == "after 2 epochs of training"

    def test_it_needs_images(self, job: SearchJob, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="the method random needs images; give a data set"):
            run_search(replace(job, dataset=None), tmp_path / "run")


class TestTrainedSupernet:
    def test_accuracies_are_those_that_its_search_compared(self, supernet: SearchRun, job: SearchJob) -> None:
        """Whatever the seed and the batch of the job are: the images are those of the supernet's search."""
        config = RandomConfig(seed=1)
        other = replace(job, space=gradient_job(job, supernet.record.config).space, config=config, batch_size=7)
        evaluator = trained_supernet(supernet.folder, other, Encoding(other.space))
        networks = supernet.record.networks
        assert evaluator.about == f"with the weights of the supernet in {supernet.folder.name}"
        assert [*evaluator.top1([each.positions for each in networks])] == [each.top1 for each in networks]
        assert evaluator.evaluator.recalibration_images == networks[0].recalibrated_images

    def test_a_search_with_it(self, supernet: SearchRun, job: SearchJob, tmp_path: Path) -> None:
        config = RandomConfig(budget=5, limits=supernet.record.config.limits)
        other = replace(gradient_job(job, supernet.record.config), config=config, supernet=supernet.folder)
        run = run_search(other, tmp_path)
        known = {each.name: each.top1 for each in supernet.record.networks}
        assert len(run.record.networks) == 5
        assert all(each.top1 == known.get(each.name, each.top1) for each in run.record.networks)
        assert run.record.judged == f"with the weights of the supernet in {supernet.folder.name}"
        assert not (tmp_path / "candidates").exists()

    def test_layers_with_one_block(self, job: SearchJob, tmp_path: Path) -> None:
        """DNAS counts them as decisions, the methods that evaluate networks do not."""
        text = NANO_TEXT.replace("[k5_e2_se, skip]", "[k5_e2_se]")
        other = replace(job, space=parse(text, "nano.yaml"), config=CONFIGS["dnas"])
        dnas = run_search(other, tmp_path / "dnas")
        evaluating = replace(other, config=RandomConfig(budget=2), supernet=dnas.folder)
        run = run_search(evaluating, tmp_path / "random")
        assert {len(each.positions) for each in dnas.record.networks} == {3}
        assert {len(each.positions) for each in run.record.networks} == {2}

    @pytest.mark.parametrize("config", [*CONFIGS.values()], ids=CONFIGS)
    def test_searches_by_gradients_take_none(self, job: SearchJob, tmp_path: Path, config: GradientConfig) -> None:
        wrong = replace(gradient_job(job, config), supernet=tmp_path)
        with pytest.raises(InputError, match=f"the method {config.method} requires a data set"):
            run_search(wrong, tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestSupernetErrors:
    def refused(self, run: Path, job: SearchJob, told: str) -> None:
        with pytest.raises(InputError, match=told):
            trained_supernet(run, job, Encoding(job.space, job.input_size))

    def test_no_search(self, job: SearchJob, tmp_path: Path) -> None:
        self.refused(tmp_path, job, "is not the folder of a search: its config.json cannot be read")
        (tmp_path / "config.json").write_text("[")
        self.refused(tmp_path, job, "is not the folder of a search: its config.json cannot be read")

    def test_search_that_was_refused_leaves_no_folder(self, job: SearchJob, tmp_path: Path) -> None:
        for wrong, told in (
            (replace(job, supernet=tmp_path), "is not the folder of a search"),
            (replace(job, dataset=None), "needs images; give a data set"),
        ):
            with pytest.raises(InputError, match=told):
                run_search(replace(wrong, config=RandomConfig(budget=1)), tmp_path / "run")
            assert not (tmp_path / "run").exists()

    def test_search_without_a_supernet(self, job: SearchJob, tmp_path: Path) -> None:
        run_search(replace(job, config=RandomConfig(budget=1, train_epochs=1)), tmp_path)
        self.refused(tmp_path, job, "is a run of random, which has no supernet")

    def test_another_space(self, dnas: Path, job: SearchJob) -> None:
        other = replace(job, space=parse(TWINS, "twins.yaml"))
        self.refused(dnas, other, "searched nano, whose definition is not that of twins")

    def test_another_definition_of_the_space(self, dnas: Path, job: SearchJob) -> None:
        other = replace(job, space=parse(NANO_TEXT.replace("c: 16}", "c: 24}"), "nano.yaml"))
        self.refused(dnas, other, "searched nano, whose definition is not that of nano here")

    def test_other_images(self, dnas: Path, job: SearchJob) -> None:
        other = replace(job, dataset=replace(job.required_dataset, name="others"))
        self.refused(dnas, other, "searched with few_digits; use the same --data")

    def test_other_images_and_classes_of_the_same_name(self, dnas: Path, job: SearchJob) -> None:
        data = job.required_dataset
        for other, told in (
            (replace(data, classes=(*data.classes[:9], "x")), "only the weights have '9', only the data have 'x'"),
            (replace(data, train=data.held_out), "was searched with other images of the name few_digits"),
        ):
            self.refused(dnas, replace(job, dataset=other), told)

    def test_no_checkpoint(self, dnas: Path, job: SearchJob, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_bytes((dnas / "config.json").read_bytes())
        self.refused(tmp_path, job, r"has no checkpoint\.pt; expected the folder of a dnas or dmasking search")

    def test_damaged_checkpoint(self, dnas: Path, job: SearchJob, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_bytes((dnas / "config.json").read_bytes())
        RunFolder(tmp_path).checkpoint.write_bytes(b"no checkpoint")
        self.refused(tmp_path, job, r"checkpoint\.pt is damaged")
