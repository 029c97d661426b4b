"""The search as a whole: what it finds, what it reports, and that it goes on where it was stopped."""

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fbnet_zoo.batch_norm import recalibrate
from fbnet_zoo.errors import InputError, TrainingError
from fbnet_zoo.search.dnas.cost import CandidateCost
from fbnet_zoo.search.gradient.batches import Part, SearchData
from fbnet_zoo.search.gradient.config import DnasConfig, SumPenalty
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.gradient.loop import GradientResult, search
from fbnet_zoo.train.evaluate import evaluate_batches
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers import search_run
from tests.helpers.marks import first_is_quick
from tests.helpers.paths import ROOT
from tests.helpers.search_run import CONFIG, PRESSED, THETA, data, expected_cost, metric, run, squares
from tests.helpers.search_spaces import nano_space, nano_supernet


@pytest.fixture(scope="module")
def found() -> GradientResult:
    return run()


def changed(**fields: object) -> DnasConfig:
    return DnasConfig.model_validate(CONFIG.model_dump() | fields)


def without_times(records: Sequence[SearchEpoch]) -> list[SearchEpoch]:
    return [record.model_copy(update={"seconds": 0.0}) for record in records]


class TestResult:
    def test_networks_keep_the_limit(self, found: GradientResult) -> None:
        assert found.met
        for network in found.networks:
            assert network.within_limits == (network.costs["macs"] <= 45_000)
            assert nano_space().decode(network.choices).name == network.name
        assert found.best.top1 == max(network.top1 for network in found.networks)
        assert found.best.top1 > 80

    def test_networks_differ(self, found: GradientResult) -> None:
        assert len({network.choices for network in found.networks}) == len(found.networks) > 1

    def test_comparison_tells_of_recalibration(self, found: GradientResult) -> None:
        assert {network.recalibrated_images for network in found.networks} == {96}

    def test_theta_stays_in_the_warm_up(self, found: GradientResult) -> None:
        warm, *learning = found.epochs
        assert warm.theta_loss is None
        assert warm.sampled == {}
        assert warm.entropy == pytest.approx([math.log(3), math.log(3), math.log(2)])
        assert all(record.theta_loss is not None for record in learning)

    def test_records(self, found: GradientResult) -> None:
        last, shares = found.epochs[-1], [torch.tensor(each).double().softmax(0) for each in found.theta]
        assert [record.epoch for record in found.epochs] == [1, 2, 3, 4, 5, 6]
        assert [record.step for record in found.epochs] == [8, 18, 28, 38, 48, 58]
        assert last.entropy == pytest.approx([-float((share * share.log()).sum()) for share in shares], abs=1e-6)
        assert last.skip == pytest.approx([float(share[-1]) for share in shares], abs=1e-6)
        assert last.expected["macs"] == pytest.approx(float(expected_cost().expected(shares)), rel=1e-6)
        assert last.sampled["macs"] > metric().least
        assert last.weight_loss < found.epochs[0].weight_loss / 2

    def test_equal_seeds_give_equal_searches(self, found: GradientResult) -> None:
        state = torch.get_rng_state()
        again = run()
        assert torch.equal(torch.get_rng_state(), state)
        assert again.theta == found.theta
        assert again.networks == found.networks
        assert run(changed(seed=1)).theta != found.theta

    @pytest.mark.parametrize(
        "fields",
        first_is_quick([{"mask_per": "image"}, {"penalty": {"form": "product", "metric": "macs"}}]),
        ids=str,
    )
    def test_other_ways(self, found: GradientResult, fields: dict[str, object]) -> None:
        other = run(changed(**fields))
        assert other.theta != found.theta
        assert other.epochs[-1].weight_loss < other.epochs[0].weight_loss

    @pytest.mark.slow
    def test_saving_memory_changes_rounding_only(self, found: GradientResult) -> None:
        saving = run(changed(save_memory=True))
        for own, expected in zip(saving.theta, found.theta, strict=True):
            assert own == pytest.approx(expected, abs=1e-4)

    @pytest.mark.slow
    def test_harder_limit_is_cheaper(self, found: GradientResult) -> None:
        tight = run(changed(limits={"macs": metric().least * 1.02}))
        assert tight.met
        assert tight.best.costs["macs"] < found.best.costs["macs"]
        assert tight.epochs[-1].multipliers > found.epochs[-1].multipliers


class TestMasks:
    def test_one_mask_mixes_and_weighs(self) -> None:
        """The very tensors that the supernet mixes with are those whose cost is punished."""
        mixed, weighed = [], []

        class Spy(CandidateCost):
            def expected(self, masks: Sequence[Tensor]) -> Tensor:
                weighed.append(tuple(masks))
                return CandidateCost.expected(self, masks)

        supernet = nano_supernet()
        supernet.register_forward_pre_hook(lambda _, inputs: mixed.append(tuple(inputs[1])))
        spy = Spy(metric=metric())
        penalty = SumPenalty(metric="macs", unit=1e5)
        search(supernet, data(), [spy], changed(epochs=1, warmup_epochs=0, samples=0, penalty=penalty, limits={}))
        of_theta = [masks for masks in mixed if masks[0].requires_grad]
        assert len(of_theta) == 2
        assert len(mixed) == 10
        of_steps = [masks for masks in weighed if masks[0].requires_grad]
        for masks, costed in zip(of_theta, of_steps, strict=True):
            assert all(mask is same for mask, same in zip(masks, costed, strict=True))


class TestRefusals:
    def test_infeasible_limit_ends_at_once(self) -> None:
        with pytest.raises(InputError, match="no network of the space satisfies macs <= 10 MACs: the lowest is"):
            run(changed(limits={"macs": 10.0}))

    def test_two_metrics_of_one_name(self) -> None:
        with pytest.raises(InputError, match="names of costs must be unique, but are macs, macs"):
            search(nano_supernet(), data(), [expected_cost(), expected_cost()], CONFIG)

    def test_too_few_images(self) -> None:
        with pytest.raises(InputError, match="24 images are fewer than a batch of 30"):
            SearchData.of_tensors(*squares(), batch_size=30)

    def test_images_that_are_no_numbers(self) -> None:
        images, classes = squares()
        images[3, 0, 5, 5] = torch.nan
        bad = SearchData.of_tensors(images, classes, batch_size=12)
        with pytest.raises(TrainingError, match=r"stopped after \d steps: NaN or infinite values in the images"):
            run(data=bad)

    def test_weights_that_are_no_numbers(self, tmp_path: Path) -> None:
        """The cause is named, and the last good checkpoint stays."""
        folder, supernet = RunFolder(tmp_path), nano_supernet()
        name = "stages.4.0.candidates.fused.expand.conv.weight"

        def spoil(record: SearchEpoch) -> None:
            if record.epoch == 2:
                supernet.get_parameter(name).data[0] = torch.inf

        with pytest.raises(TrainingError, match=rf"stopped after 18 steps: NaN or infinite values in {name}"):
            search(supernet, data(), [expected_cost()], CONFIG, folder=folder, progress=spoil)
        saved = folder.load()
        assert saved is not None
        assert saved["step"] == 18
        assert saved["supernet"][name].isfinite().all()

    def test_theta_that_is_no_number(self, tmp_path: Path) -> None:
        """It is noticed in the same step, where theta is held to limits, and neither logged nor saved."""
        folder, supernet, steps = RunFolder(tmp_path), nano_supernet(), 0

        def spoil(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps == 18:
                supernet.theta[1].data[0] = torch.nan

        supernet.register_forward_hook(spoil)
        with pytest.raises(TrainingError, match=r"after 17 steps: NaN or infinite values in stages\.4\.0\.theta"):
            search(supernet, data(), [expected_cost()], CONFIG, folder=folder)
        assert [record["step"] for record in folder.records()] == [8]
        assert (folder.load() or {})["step"] == 8

    def test_collapse_into_skips_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        supernet = nano_supernet()
        with torch.no_grad():
            for theta in supernet.theta[:2]:
                theta[-1] = 9.0
        search(supernet, data(), [expected_cost()], changed(epochs=1, samples=0))
        assert "epoch 1: 2 of 3 skippable layers are skipped" in caplog.text
        assert "raise the limits" in caplog.text


class TestRecalibration:
    def test_statistics_are_those_of_the_images(self) -> None:
        network = nano_supernet().extract((0, 0, 0))
        batches = [images for images, _ in data().weights.batches(0, 0)]
        with torch.no_grad():
            network.stem.bn.running_mean.fill_(7)
        momentum = network.stem.bn.momentum
        assert recalibrate(network, batches) == 96
        assert not network.training
        assert network.stem.bn.momentum == momentum
        with torch.no_grad():
            means = torch.stack([network.stem.conv(images).mean((0, 2, 3)) for images in batches])
        torch.testing.assert_close(network.stem.bn.running_mean, means.mean(0), rtol=1e-4, atol=1e-5)

    def test_accuracy_counts_images(self) -> None:
        batches = [(torch.eye(3), torch.tensor([0, 1, 0])), (torch.eye(3)[:1], torch.tensor([0]))]
        assert evaluate_batches(torch.nn.Identity().eval(), batches).top1 == 75


class TestBatches:
    def test_parts_share_no_image(self) -> None:
        images, classes = torch.arange(100.0).view(100, 1, 1, 1), torch.zeros(100, dtype=torch.long)
        parts = SearchData.of_tensors(images, classes, batch_size=10)
        own, others = (
            {float(x) for batch, _ in each.batches(0, 0) for x in batch} for each in (parts.weights, parts.theta)
        )
        assert (len(own), len(others)) == (80, 20)
        assert not own & others

    @pytest.mark.parametrize("kind", ["tensors", "loader"])
    def test_epoch_goes_on_anywhere(self, kind: str) -> None:
        images, classes = squares()
        loader = DataLoader(TensorDataset(images, classes), batch_size=12, shuffle=True)
        part = (
            Part.of_tensors(images, classes, batch_size=12, seed=5)
            if kind == "tensors"
            else Part.of_loader(loader, seed=5)
        )
        with torch.random.fork_rng():
            whole = [batch for batch, _ in part.batches(1, 0)]
            rest = [batch for batch, _ in part.batches(1, 7)]
            other = [batch for batch, _ in part.batches(2, 0)]
        assert len(whole) == part.steps == 10
        assert all(map(torch.equal, whole[7:], rest))
        assert not torch.equal(whole[0], other[0])


class Stopped(Exception):  # noqa: N818 - no error, but what stops a search in a test
    pass


@pytest.fixture(scope="module")
def pressed() -> GradientResult:
    """An undisturbed search whose multiplier is not 0 from the first step of theta on."""
    found = run(PRESSED)
    assert [record.multipliers[0] > 0 for record in found.epochs] == [False, True, True]
    return found


class TestResume:
    @pytest.mark.parametrize("after", first_is_quick([13, 1, 8, 17, 18, 27]))
    def test_stopped_search_goes_on(self, pressed: GradientResult, tmp_path: Path, after: int) -> None:
        """In a step of the weights, between two steps of theta (17, 27), at the end of the warm-up and of an epoch."""
        folder, steps = RunFolder(tmp_path), 0

        def stop(*_: object) -> None:
            nonlocal steps
            steps += 1
            if steps > after:
                raise Stopped("by the test")

        supernet = nano_supernet()
        supernet.register_forward_pre_hook(stop)
        with pytest.raises(Stopped, match="by the test"):
            search(supernet, data(), [expected_cost()], PRESSED, folder=folder)
        assert (folder.load() or {})["step"] == after
        resumed = run(PRESSED, folder=folder)
        assert resumed.theta == pressed.theta
        assert resumed.networks == pressed.networks
        assert without_times(resumed.epochs) == without_times(pressed.epochs)

    def test_finished_search_is_told_again(self, found: GradientResult, tmp_path: Path) -> None:
        run(folder=RunFolder(tmp_path))
        again = run(folder=RunFolder(tmp_path), progress=lambda _: pytest.fail("it searched again"))
        assert again.networks == found.networks

    def test_another_search_is_refused(self, tmp_path: Path) -> None:
        run(changed(epochs=1), folder=RunFolder(tmp_path))
        with pytest.raises(InputError, match=r"search with another configuration .* start again in a new folder"):
            run(changed(epochs=2), folder=RunFolder(tmp_path))

    @pytest.mark.slow
    def test_killed_process_goes_on(self, pressed: GradientResult, tmp_path: Path) -> None:
        """SIGKILL at any moment, again and again; theta is that of the search that nobody disturbed, to the bit."""
        ground = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        line = [sys.executable, search_run.__file__, str(tmp_path), "0"]
        done = subprocess.run(line, env=ground, check=True, capture_output=True, text=True)
        assert int(done.stdout) > 1
        theta = torch.load(tmp_path / THETA, weights_only=True)
        assert [tuple(each.tolist()) for each in theta] == list(pressed.theta)
        steps = [record["step"] for record in RunFolder(tmp_path).records()]
        assert steps == [record.step for record in pressed.epochs]
