"""The steps of a search against the papers' formulas written out, with batches that the search does not make itself."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fbnet_zoo.search.dnas.supernet import Supernet
from fbnet_zoo.search.gradient.batches import Part, SearchData
from fbnet_zoo.search.gradient.config import DnasConfig, Multipliers, SumPenalty, Temperature
from fbnet_zoo.search.gradient.loop import search
from fbnet_zoo.search.gradient.state import BadStep, SearchState, SearchTally
from fbnet_zoo.train.batches import WHOLE, Batch, Shard
from tests.helpers.search_run import expected_cost, metric
from tests.helpers.search_spaces import nano_supernet

OWN, OTHERS = 3, 2
"""Steps of the weights and of theta in every epoch."""

CONFIG = DnasConfig(
    epochs=4,
    warmup_epochs=1,
    weight_lr=0.05,
    weight_momentum=0.8,
    weight_decay=0.01,
    theta_lr=0.05,
    theta_decay=0.02,
    theta_betas=(0.7, 0.9),
    temperature=Temperature(start=2.0, decay=0.7, floor=0.9),
    penalty=SumPenalty(metric="macs", alpha=0.3, beta=0.8, unit=50_000.0),
    limits={"macs": 37_000.0},
    multipliers=Multipliers(rate=0.4, damping=3.0, approach=0.4),
    samples=0,
)


def batch(epoch: int, index: int, offset: int) -> Batch:
    """Return images and classes that no other step has."""
    generator = torch.Generator().manual_seed(1000 * offset + 100 * epoch + index)
    images = torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.double)
    return images, torch.randint(4, (6,), generator=generator)


def part(steps: int, offset: int) -> Part:
    def batches(epoch: int, first: int, shard: Shard = WHOLE) -> Iterator[Batch]:
        return (batch(epoch, index, offset) for index in range(first, steps))

    return Part(steps=steps, batches=batches)


DATA = SearchData(weights=part(OWN, 1), theta=part(OTHERS, 2))


def supernet() -> Supernet:
    return nano_supernet().double()


@dataclass
class ByHand:
    """A search written out, given the masks that were drawn."""

    net: Supernet
    drawn: list[list[Tensor]]
    multiplier: float = 0.0

    def __post_init__(self) -> None:
        weights, theta = self.net.weight_parameters(), self.net.theta
        self.velocity = [torch.zeros_like(weight) for weight in weights]
        self.moments = [(torch.zeros_like(each), torch.zeros_like(each)) for each in theta]
        even = [torch.full_like(each, 1 / len(each)) for each in theta]
        self.start, self.steps, self.multipliers = float(expected_cost().expected(even)), 0, [0.0]

    def run(self) -> None:
        for epoch in range(CONFIG.epochs):
            for index in range(OWN):
                self.step_weights(batch(epoch, index, 1), (OWN * epoch + index) / (OWN * CONFIG.epochs))
            if epoch >= CONFIG.warmup_epochs:
                for index in range(OTHERS):
                    self.step_theta(batch(epoch, index, 2), epoch, OWN + index)
                self.multipliers.append(self.multiplier)

    def step_weights(self, images: Batch, done: float) -> None:
        lr = 0.05 * 0.5 * (1 + math.cos(math.pi * done))
        weights = self.net.weight_parameters()
        loss = F.cross_entropy(self.net(images[0], self.drawn.pop(0)), images[1])
        gradients = torch.autograd.grad(loss, weights)
        for weight, velocity, gradient in zip(weights, self.velocity, gradients, strict=True):
            velocity.mul_(0.8).add_(gradient + 0.01 * weight.detach())
            weight.data -= lr * velocity

    def step_theta(self, images: Batch, epoch: int, position: int) -> None:
        theta, temperature = self.net.theta, max(0.9, 2.0 * 0.7**epoch)
        masks = [  # the drawn values, with the gradient of the Gumbel-softmax
            ((each - each.detach()) / temperature + mask.log()).softmax(-1)
            for each, mask in zip(theta, self.drawn.pop(0), strict=True)
        ]
        done = (epoch - 1 + position / (OWN + OTHERS)) / (CONFIG.epochs - 1)
        limit = 37_000.0 + max(0.0, self.start - 37_000.0) * max(0.0, 1 - done / 0.4)
        excess = expected_cost().expected([each.softmax(-1) for each in theta]) / limit - 1
        held = (self.multiplier + 3.0 * excess).clamp(min=0) ** 2 - self.multiplier**2
        loss = F.cross_entropy(self.net(images[0], masks), images[1]) + held / (2 * 3.0)
        loss = loss + 0.3 * (expected_cost().expected(masks) / 50_000.0) ** 0.8
        gradients = torch.autograd.grad(loss, theta)
        self.steps += 1
        for each, (first, second), gradient in zip(theta, self.moments, gradients, strict=True):
            whole = gradient + 0.02 * each.detach()
            first.lerp_(whole, 0.3)
            second.lerp_(whole**2, 0.1)
            unbiased = first / (1 - 0.7**self.steps), second / (1 - 0.9**self.steps)
            each.data -= 0.05 * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        self.multiplier = max(0.0, self.multiplier + 0.4 * float(excess.detach()))


def test_steps_are_those_of_the_formulas() -> None:
    net, drawn = supernet(), []
    reference = ByHand(copy.deepcopy(net), drawn)
    net.register_forward_pre_hook(lambda _, inputs: drawn.append([mask.detach().clone() for mask in inputs[1]]))
    found = search(net, DATA, [expected_cost()], CONFIG)
    assert all(not torch.equal(mask, other) for mask, other in zip(drawn[0], drawn[1], strict=True))
    assert metric().least < 37_000 < reference.start
    reference.run()
    for own, expected in zip(found.theta, reference.net.theta, strict=True):
        assert own == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-7)
    for name, value in reference.net.state_dict().items():
        if "running" not in name:  # those of the search were recalibrated for the networks that it compared
            torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    multipliers = [record.multipliers[0] for record in found.epochs]
    assert multipliers == pytest.approx(reference.multipliers)
    assert min(multipliers[1:]) > 0


def test_masks_are_drawn_anew_in_every_step() -> None:
    """For weights and theta, in every epoch; the noise is that of no other step."""
    net, drawn = supernet(), []
    net.register_forward_pre_hook(lambda _, inputs: drawn.append(tuple(inputs[1][0].tolist())))
    still = CONFIG.model_copy(update={"theta_lr": 1e-12, "theta_decay": 0.0, "temperature": Temperature(decay=1.0)})
    search(net, DATA, [expected_cost()], still)
    assert len(set(drawn)) == len(drawn) == CONFIG.epochs * OWN + (CONFIG.epochs - 1) * OTHERS


def test_results_of_steps_are_read_together() -> None:
    """On a device other than a CPU, they are read after many steps: the sums are the same, and a bad step is named."""
    state = SearchState(supernet(), CONFIG, (OWN, OTHERS))
    images, classes = batch(0, 0, 1)
    logits = torch.eye(4, dtype=torch.double)[classes]
    state.note(torch.tensor(2.0), images)
    state.step += 1
    state.note(torch.tensor(3.0), images, (logits.argmax(1) == classes).sum(), {"macs": torch.tensor(7.0)})
    state.step += 1
    state.note(torch.tensor(1.0), images, torch.tensor(2), {"macs": torch.tensor(5.0)})
    assert (state.unread, state.tally) == (3, SearchTally())
    assert state.read() is None
    assert state.tally == SearchTally(
        weight_loss=2.0, weight_steps=1, theta_loss=4.0, theta_steps=2, correct=8, images=12, costs={"macs": 12.0}
    )
    assert (state.unread, state.read()) == (0, None)
    state.step += 1
    state.note(torch.tensor(math.nan), torch.full_like(images, math.inf))
    state.step += 1
    state.note(torch.tensor(math.inf), images)
    assert state.read() == BadStep(number=3, images=False)
