"""Costs and evaluators of one's own, and what a search says of names that it does not know."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fbnet_zoo.cli.app import app
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.search import METHODS, additive_cost, measured_cost, run_search
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig
from fbnet_zoo.search.images import split
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.search.random_search import RandomConfig
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import default_recipe
from tests.helpers.search_spaces import nano_space
from tests.helpers.training import RECIPE

EVALUATING = [RandomConfig(budget=4), EvolutionConfig(budget=6, population=3, sample=2)]


def rows(arch: ArchSpec) -> int:
    """A cost that adds up over layers: the number of blocks that compute something."""
    return sum(block.op != "skip" for stage in arch.stages for block in stage.blocks)


def squared(arch: ArchSpec) -> float:
    """A cost that does not."""
    return float(rows(arch)) ** 2


def quality(arch: ArchSpec) -> float:
    return 50.0 + rows(arch)


def own_rows(encoding: Encoding) -> NetworkCost:
    return additive_cost(encoding, rows, name="rows", unit="blocks")


def own_square(encoding: Encoding) -> NetworkCost:
    return measured_cost(encoding, squared, name="square", unit="blocks^2")


def job(config: MethodConfig, **changes: object) -> SearchJob:
    found = SearchJob(space=nano_space(), dataset=None, config=config, recipe=RECIPE, batch_size=12, evaluate=quality)
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", EVALUATING, ids=lambda config: config.method)
def test_an_own_evaluator_is_asked_and_an_own_cost_is_kept(config: MethodConfig, tmp_path: Path) -> None:
    limited = config.model_copy(update={"limits": {"square": 4.0}})
    run = run_search(job(limited, metrics=(own_rows, own_square)), tmp_path)
    assert run.record.met
    assert len(run.record.networks) == config.total
    for each in run.record.networks:
        arch = nano_space().decode(each.choices)
        assert (each.costs["rows"], each.costs["square"]) == (rows(arch), squared(arch))
        assert each.costs["square"] <= 4
        assert each.top1 == quality(arch)
    assert run.record.judged == "by quality"


def test_a_gradient_search_keeps_an_own_additive_cost(few_digits: ImageDataset, tmp_path: Path) -> None:
    config = DnasConfig(epochs=2, warmup_epochs=1, penalty=None, limits={"rows": 2.0}, samples=1, candidates=3)
    run = run_search(job(config, dataset=few_digits, evaluate=None, metrics=(own_rows,)), tmp_path)
    assert run.record.met
    assert all(each.costs["rows"] == rows(nano_space().decode(each.choices)) for each in run.record.networks)


def test_a_measured_cost_is_that_of_the_networks() -> None:
    encoding, asked = Encoding(nano_space()), []

    def measure(arch: ArchSpec) -> float:
        asked.append(arch.name)
        return squared(arch)

    cost = measured_cost(encoding, measure, name="square", unit="")
    networks = list(product(*map(range, encoding.counts)))
    expected = [squared(encoding.definition(each)) for each in networks]
    assert [cost.of(each) for each in networks] == expected
    assert cost.population(networks).tolist() == expected
    assert len(asked) == len(set(asked)), "each network is measured once"
    assert cost.least <= min(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_cost_that_is_no_number(value: float) -> None:
    cost = measured_cost(Encoding(nano_space()), lambda _: value, name="energy", unit="mJ")
    with pytest.raises(InputError, match=f"the energy of the network at .* is {value}; expected a finite number"):
        cost.of((0, 0, 0))


@pytest.mark.parametrize("value", [-1.0, 101.0, float("nan")])
def test_an_accuracy_that_is_no_percentage(value: float, tmp_path: Path) -> None:
    def odd(_: ArchSpec) -> float:
        return value

    with pytest.raises(InputError, match=f"by odd: the accuracy of the network at .* is {value}; expected 0 to 100"):
        run_search(job(RandomConfig(budget=2), evaluate=odd), tmp_path / "run")


def test_a_cost_that_does_not_add_up() -> None:
    with pytest.raises(InputError, match="a search needs a cost that adds up over blocks"):
        additive_cost(Encoding(nano_space()), squared, name="square", unit="")


def test_two_costs_of_one_name(tmp_path: Path) -> None:
    def macs(encoding: Encoding) -> NetworkCost:
        return additive_cost(encoding, rows, name="macs", unit="")

    with pytest.raises(InputError, match="two costs have the same name, among macs, params, macs; rename one"):
        run_search(job(RandomConfig(), metrics=(macs,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", [DnasConfig(limits={"macs": 45_000.0}, penalty=None), DmaskingConfig()])
def test_methods_with_a_supernet_accept_no_evaluator(
    config: MethodConfig, few_digits: ImageDataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="requires a data set, and accepts no oracle, no supernet and no evaluator"):
        run_search(job(config, dataset=few_digits), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", [*EVALUATING, DnasConfig(penalty=None)], ids=lambda config: config.method)
def test_a_limit_on_an_unknown_cost(config: MethodConfig, few_digits: ImageDataset, tmp_path: Path) -> None:
    limited = config.model_copy(update={"limits": {"energy": 3.0}})
    own = None if isinstance(config, DnasConfig) else quality
    with pytest.raises(InputError, match="a limit is on 'energy', which is not a known cost; expected macs or params"):
        run_search(job(limited, dataset=few_digits, evaluate=own), tmp_path / "run")


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="no search method is named 'dnsa'; did you mean 'dnas'"):
        METHODS["dnsa"]
    with pytest.raises(InputError, match="no kind of images is named 'photos'; expected digits, cifar, folder"):
        default_recipe("photos")


@pytest.mark.parametrize("method", ["dnas", "dmasking"])
def test_a_space_is_refused_before_anything_begins(method: str, tmp_path: Path) -> None:
    words = ["search", "--space", "chamnet", "--method", method, "--data", "digits", "--limit", "macs=300M"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: the space chamnet ")


def test_seeds_of_search_and_split_are_independent(few_digits: ImageDataset) -> None:
    """Otherwise a spread over seeds is also that of the images."""

    def parts(**seeds: int) -> list[list[int]]:
        asked = job(RandomConfig().model_copy(update=seeds), dataset=few_digits, evaluate=None)
        return [part.tolist() for part in split(few_digits, asked.loading)]

    assert parts(seed=1) == parts(seed=2) == parts()
    assert parts(split_seed=1) != parts()
