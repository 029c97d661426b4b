"""The architecture encoder of NARS, pretrained on statistics of networks that cost no training.

FBNetV3 (Dai et al., arXiv:2006.02049): a multi-layer perceptron learns to predict MACs and parameters of random
networks; what it has learned of a network is then the input of the predictor of accuracy. Widths and schedule are ours;
the paper's head for accuracy is another perceptron, here it is the Gaussian process of `accuracy`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbnet_zoo.search.limits import NetworkCost
from fbnet_zoo.search.predictive.features import DecisionFeatures, Features, Floats, StatisticFeatures, random_networks
from fbnet_zoo.space.encoding import Encoding, Population

_NETWORKS, _STEPS, _BATCH, _LR = 10_000, 600, 256, 6e-3
_HIDDEN, _EMBEDDING = 64, 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncoderFeatures:
    """The embedding of networks by a pretrained encoder, as many features of equal weight as it has dimensions.

    Attributes:
        decisions: features that the encoder takes.
        encoder: module from features, (N, features), to embeddings, (N, 24).
        middle: mean of each dimension over random networks.
        scale: factor of each, so that the variances add up to 1.
        error: root mean square error of the statistics of other networks, in standard deviations.
    """

    decisions: Features
    encoder: nn.Module
    middle: Floats
    scale: Floats
    error: float

    @classmethod
    def pretrained(cls, encoding: Encoding, costs: Sequence[NetworkCost], *, seed: int) -> Self:
        """Pretrain an encoder on random networks of a space.

        PyTorch's random state is left as it was.

        Args:
            encoding: encoding of the space.
            costs: statistics that it learns to predict; at least one.
            seed: seed of networks and initial weights.
        """
        decisions = DecisionFeatures.of(encoding)
        statistics = StatisticFeatures.of(encoding, costs, seed=seed)
        networks = random_networks(encoding, _NETWORKS, generator=np.random.default_rng(seed))
        seen, targets = (torch.from_numpy(each(networks)).float() for each in (decisions, statistics))
        held_out = _NETWORKS // 10
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            first, second = nn.Linear(seen.shape[1], _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN)
            encoder = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), nn.Linear(_HIDDEN, _EMBEDDING))
            head = nn.Linear(_EMBEDDING, targets.shape[1])
            _train(nn.Sequential(encoder, head), seen[held_out:], targets[held_out:])
        with torch.no_grad():
            embedded = encoder(seen)
            error = float((head(embedded) - targets)[:held_out].square().mean().sqrt())
        spread = embedded.double().std(0).numpy()
        scale = 1 / np.where(spread > 0, spread, 1.0) / np.sqrt(_EMBEDDING)
        middle = embedded.double().mean(0).numpy()
        return cls(decisions=decisions, encoder=encoder, middle=middle, scale=scale, error=error)

    def __call__(self, networks: Population) -> Floats:
        """Return the features of a population, (networks, 24)."""
        with torch.no_grad():
            embedded = self.encoder(torch.from_numpy(self.decisions(networks)).float())
        return (embedded.double().numpy() - self.middle) * self.scale


def _train(network: nn.Module, seen: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LR, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        rows = torch.randint(len(seen), (_BATCH,))
        loss = F.huber_loss(network(seen[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
