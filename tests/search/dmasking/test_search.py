"""A search by DMaskingNAS from end to end: the loop is that of every search by gradients."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo import create
from fbnet_zoo.batch_norm import recalibrate
from fbnet_zoo.complexity import cost
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.cost import macs_cost, params_cost
from fbnet_zoo.search.dmasking.cost import MaskedCost
from fbnet_zoo.search.dmasking.supernet import MaskedSupernet
from fbnet_zoo.search.gradient.batches import Part, SearchData
from fbnet_zoo.search.gradient.config import DmaskingConfig, Multipliers, ProductPenalty, Temperature
from fbnet_zoo.search.gradient.gumbel import draw_masks, gumbel_noise
from fbnet_zoo.search.gradient.loop import GradientResult, search
from fbnet_zoo.search.gradient.objective import Objective
from fbnet_zoo.search.job import SearchJob, finished
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.runs import run_search, train_best
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.train.batches import Batch
from fbnet_zoo.train.evaluate import evaluate_batches
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.marks import first_is_quick
from tests.helpers.masked_spaces import masked_images, masked_space, masked_supernet
from tests.helpers.search_run import data, squares
from tests.helpers.training import RECIPE

LIMIT = 18_000.0
CONFIG = DmaskingConfig(
    epochs=10,
    warmup_epochs=1,
    theta_lr=0.2,
    weight_lr=0.2,
    temperature=Temperature(decay=0.5),
    penalty=None,
    limits={"macs": LIMIT},
    recalibration_batches=4,
)


def costs() -> list[MaskedCost]:
    encoding = Encoding(masked_space("nano"))
    return [MaskedCost(metric=make(encoding, num_classes=4)) for make in (macs_cost, params_cost)]


def fresh_supernet() -> MaskedSupernet:
    torch.manual_seed(0)
    return MaskedSupernet(masked_space("nano"), num_classes=4)


def run(config: DmaskingConfig = CONFIG, **options: Any) -> GradientResult:
    supernet = options.pop("supernet", None) or fresh_supernet()
    return search(supernet, data(), costs(), config, **options)


def changed(**fields: object) -> DmaskingConfig:
    return DmaskingConfig.model_validate(CONFIG.model_dump() | fields)


@pytest.fixture(scope="module")
def found() -> GradientResult:
    return run()


@pytest.mark.slow
def test_limit_is_met(found: GradientResult) -> None:
    assert costs()[0].metric.least < LIMIT < found.epochs[0].expected["macs"]
    assert found.met
    for network in found.networks:
        assert network.within_limits == (network.costs["macs"] <= LIMIT)
        assert masked_space("nano").decode(network.choices).name == network.name
    assert found.best.top1 == max(each.top1 for each in found.networks if each.within_limits)
    assert found.best.top1 > 80


def test_weights_learn(found: GradientResult) -> None:
    assert found.epochs[-1].weight_loss < found.epochs[0].weight_loss / 2


def test_records_tell_of_every_decision(found: GradientResult) -> None:
    last, encoding = found.epochs[-1], fresh_supernet().encoding
    assert [len(shares) for shares in last.shares] == list(encoding.counts)
    assert [skip is None for skip in last.skip] == [position is None for position in encoding.skips]
    shares = [torch.tensor(theta).double().softmax(0) for theta in found.theta]
    assert last.expected["macs"] == pytest.approx(float(costs()[0].expected(shares)), rel=1e-6)


def test_networks_differ(found: GradientResult) -> None:
    assert len({network.choices for network in found.networks}) == len(found.networks) > 1


def test_networks_for_smaller_images_are_compared_on_those() -> None:
    supernet = fresh_supernet()
    found, parts = run(changed(epochs=2, recalibration_batches=3), supernet=supernet), data()
    assert {each.choices.input_size for each in found.networks} == {11, 16}
    for each in found.networks:
        at = [index * 16 // each.choices.input_size for index in range(each.choices.input_size)]

        def sized(part: Part, at: list[int] = at) -> list[Batch]:
            return [(images[:, :, at][..., at], classes) for images, classes in part.batches(0, 0)]

        network = supernet.extract(each.positions)
        recalibrate(network, [images for images, _ in sized(parts.weights)[:3]])
        assert evaluate_batches(network, sized(parts.theta)).top1 == each.top1


def test_positions_that_are_one_network_are_compared_once() -> None:
    """Of two draws that differ in the expansion of a skip, one is left."""
    supernet = fresh_supernet()
    with torch.no_grad():
        for decision, theta in zip(supernet.encoding.decisions, supernet.theta, strict=True):
            if decision.name != "stages.2.0 e":
                theta[-1] = 50.0
    found = run(changed(epochs=1, limits={}, samples=8), supernet=supernet)
    assert len(found.networks) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    first_is_quick([{"mask_per": "image"}, {"penalty": {"form": "product", "metric": "params"}}]),
    ids=str,
)
def test_other_ways(found: GradientResult, fields: dict[str, object]) -> None:
    unit = {"unit": 1.0} if "penalty" in fields else {}
    fields = {key: value | unit if isinstance(value, dict) else value for key, value in fields.items()}
    other = run(changed(epochs=3, **fields))
    assert other.theta != found.theta
    assert other.epochs[-1].weight_loss < other.epochs[0].weight_loss


@pytest.mark.slow
def test_saving_memory_changes_rounding_only() -> None:
    """In float64: in float32 a search may turn the order of sums, which memory addresses decide, into other weights."""
    images, classes = squares()

    def theta(*, save: bool) -> Sequence[Sequence[float]]:
        batches = SearchData.of_tensors(images.double(), classes, batch_size=12, seed=0)
        config = changed(epochs=2, samples=0, save_memory=save)
        return search(fresh_supernet().double(), batches, costs(), config).theta

    for own, expected in zip(theta(save=True), theta(save=False), strict=True):
        assert own == pytest.approx(expected, abs=1e-8)


class Stopped(Exception):  # noqa: N818 - no error, but what stops a search in a test
    pass


@pytest.mark.parametrize("after", [3, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (12, 21))])
def test_stopped_search_goes_on_to_the_bit(found: GradientResult, tmp_path: Path, after: int) -> None:
    config, folder, steps = changed(checkpoint_steps=2), RunFolder(tmp_path), 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps > after:
            raise Stopped("by the test")

    supernet = fresh_supernet()
    supernet.register_forward_pre_hook(stop)
    with pytest.raises(Stopped, match="by the test"):
        run(config, supernet=supernet, folder=folder)
    resumed = run(config, folder=folder)
    assert resumed.theta == found.theta
    assert resumed.networks == found.networks


def test_infeasible_limit_ends_at_once() -> None:
    with pytest.raises(InputError, match="no network of the space satisfies macs <= 10 MACs: the lowest is"):
        run(changed(limits={"macs": 10.0}))


def test_gradient_of_theta_is_the_finite_difference() -> None:
    """Through masks, supernet and cost, which share the draw."""
    supernet, masked = masked_supernet().double().eval(), costs()[0]
    images, classes = masked_images(supernet, 3).double(), torch.tensor([0, 1, 3])
    noise = gumbel_noise(supernet.theta, torch.Generator().manual_seed(1))
    loss = Objective([masked.metric], ProductPenalty(metric="macs", unit=1.0), {"macs": LIMIT}, Multipliers())

    def value(*theta: Tensor) -> Tensor:
        masks = draw_masks(theta, noise, 2.0)
        ce = F.cross_entropy(supernet(images, masks), classes)
        expected = {"macs": masked.expected([each.softmax(-1) for each in theta])}
        return loss(ce, {"macs": masked.expected(masks)}, expected, torch.tensor([0.4], dtype=torch.double))

    generator = torch.Generator().manual_seed(2)
    theta = [
        torch.randn(each.shape, generator=generator, dtype=torch.double, requires_grad=True) for each in supernet.theta
    ]
    assert torch.autograd.gradcheck(value, theta, eps=1e-6, atol=1e-6)


class TestRuns:
    """The method as runs and the command know it."""

    @pytest.fixture
    def job(self, few_digits: ImageDataset) -> SearchJob:
        return SearchJob(
            space=masked_space("nano"),
            dataset=few_digits,
            config=changed(epochs=2, samples=2),
            recipe=RECIPE.model_copy(update={"epochs": 1}),
            batch_size=12,
            name="nano_found",
        )

    @pytest.mark.slow
    def test_a_run_from_images_to_a_trained_network(self, job: SearchJob, tmp_path: Path) -> None:
        found = train_best(run_search(job, tmp_path), job)
        assert (found.record.config.method, found.record.input_size) == ("dmasking", 16)
        assert found.record.method is METHODS["dmasking"]
        names = [decision.name for decision in found.record.decisions]
        assert names[:3] == ["input_size", "stem c", "stages.2.0"]
        assert found.record.decisions[0].options == ("11", "16")
        assert {metric.name: metric.base for metric in found.record.metrics}.keys() == {"macs", "params"}
        spec = found.definition
        assert found.record.best.costs["macs"] == cost(spec, num_classes=10).macs <= LIMIT
        network = create(tmp_path / "result.yaml", pretrained=True).eval()
        assert network.plan.num_classes == 10

    @pytest.mark.parametrize("size", [11, 16])
    def test_an_entry_takes_images_of_its_own_size(self, job: SearchJob, size: int) -> None:
        space = masked_space("nano")
        choices = space.sample(0).model_copy(update={"input_size": size})
        spec = finished(job, space.decode(choices))
        assert spec.preprocess is not None
        assert spec.input_size == spec.preprocess.crop == size

    def test_another_size_is_refused(self, job: SearchJob) -> None:
        method = METHODS["dmasking"].load()
        with pytest.raises(InputError, match="searches at the image sizes of the space, 11 or 16 px for nano_masked"):
            method.encoding(replace(job, input_size=12))
        assert method.encoding(replace(job, input_size=16)).input_size == 16
