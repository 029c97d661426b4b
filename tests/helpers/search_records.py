"""Records of searches made up for the tests of their page, every number in them different."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fbnet_zoo.search.gradient.config import DnasConfig, GradientConfig
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.history import EvaluatedNetwork
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.search.record import DataRecord, MeasuredRecord, MetricRecord, SearchRecord, TrainedRecord
from fbnet_zoo.space import Choices, LayerChoice
from fbnet_zoo.space.encoding import Decision
from fbnet_zoo.train import Recipe

DECISIONS = ("stages.2.0", "stages.4.0", "stages.4.1")
OPTIONS = (("k3_e1", "k5_e6", "skip"), ("k3_e2", "k3_e4"), ("k5_e3_g2", "fused", "skip"))
LATENCY = MetricRecord(
    name="latency", unit="ms", base=1.23, table="host_xnnpack_nano", device="a test host, XNNPACK, 1 thread"
)
MACS = MetricRecord(name="macs", unit="MACs", base=41_500.0)
PARAMS = MetricRecord(name="params", unit="parameters", base=2_222.0)


def decisions(names: Sequence[str], options: Sequence[tuple[str, ...]]) -> tuple[Decision, ...]:
    return tuple(Decision(name=name, options=own) for name, own in zip(names, options, strict=True))


def network(at: int, positions: tuple[int, ...] = (1, 0, 2), **changes: Any) -> NetworkRecord:
    """Return one network; the later, the slower and the more accurate."""
    layers = tuple(LayerChoice(candidate=names[position]) for names, position in zip(OPTIONS, positions, strict=False))
    fields: dict[str, Any] = {
        "name": f"nano_{at}",
        "choices": Choices(space="nano", input_size=64, layers=layers),
        "positions": positions,
        "log_probability": -1.25 - at,
        "projected": at == 1,
        "costs": {"latency": 4.31 + at, "macs": 51_300.0 + 1_000 * at, "params": 3_330.0 + 100 * at},
        "within_limits": 4.31 + at <= 5.5,
        "top1": 71.25 + 2.5 * at,
        "recalibrated_images": 1_536,
    }
    return NetworkRecord(**{**fields, **changes})


def measured(at: int) -> MeasuredRecord:
    """Return a measurement that is 10 % above what the table predicts."""
    predicted = 4.31 + at
    return MeasuredRecord(
        name=f"nano_{at}",
        predicted_ms=predicted,
        measured_ms=1.1 * predicted,
        p10_ms=1.05 * predicted,
        p90_ms=1.3 * predicted,
    )


def search_record(**changes: Any) -> SearchRecord:
    """Return the record of a search that kept its limit, trained its best network and measured three."""
    fields: dict[str, Any] = {
        "space": "nano",
        "input_size": 64,
        "config": DnasConfig(epochs=6, warmup_epochs=2, penalty=None, limits={"latency": 5.5}, seed=17),
        "metrics": (LATENCY, MACS),
        "data": DataRecord(
            name="squares", classes=10, weights=1_152, selection=288, held_out=361, split="the last 361 of them"
        ),
        "decisions": decisions(DECISIONS, OPTIONS),
        "judged": "with the supernet's weights",
        "networks": (network(0), network(1), network(2, (0, 1, 1))),
        "met": True,
        "trained": TrainedRecord(weights="weights.safetensors", recipe=Recipe(epochs=33), top1=97.78),
        "measured": tuple(map(measured, range(3))),
        "processes": 2,
        "device": "cpu",
        "seconds": 754.0,
        "date": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        "versions": {"torch": "2.13.0", "fbnet_zoo": "0.1.0"},
    }
    return SearchRecord(**{**fields, **changes})


def course(record: SearchRecord) -> tuple[SearchEpoch, ...]:
    """Return epochs in which the probability of what was chosen rises after the warm-up."""
    assert isinstance(record.config, GradientConfig)
    return tuple(_epoch(record, record.config, at) for at in range(record.config.epochs))


def evaluated(record: SearchRecord) -> tuple[EvaluatedNetwork, ...]:
    """Return the networks of a record as a search that evaluates one after the other wrote them down."""
    return tuple(
        EvaluatedNetwork(
            step=at,
            seconds=7.5 * at,
            positions=each.positions,
            top1=each.top1,
            best=max(other.top1 for other in record.networks[:at]),
            costs=each.costs,
        )
        for at, each in enumerate(record.networks, start=1)
    )


def _epoch(record: SearchRecord, config: GradientConfig, at: int) -> SearchEpoch:
    learnt, options = max(0, at + 1 - config.warmup_epochs), [each.options for each in record.decisions]
    pairs = zip(options, record.best.positions, strict=True)
    shares = tuple(_shares(len(names), chosen, learnt) for names, chosen in pairs)
    costs = {metric.name: metric.base * (3 - at / 100) for metric in record.metrics}
    return SearchEpoch(
        epoch=at + 1,
        step=12 * (at + 1),
        temperature=config.temperature.at(at),
        weight_loss=2.125 - at / 100,
        theta_loss=1.625 - at / 100 if learnt else None,
        top1=55.5 + at / 10 if learnt else None,
        entropy=tuple(-sum(share * math.log(share) for share in each) for each in shares),
        skip=tuple(
            each[names.index("skip")] if "skip" in names else None for names, each in zip(options, shares, strict=True)
        ),
        probable=tuple(each.index(max(each)) for each in shares),
        shares=shares,
        expected=costs,
        sampled={name: 1.01 * cost for name, cost in costs.items()} if learnt else {},
        multipliers=tuple(0.125 + learnt / 1000 for _ in config.limits),
        seconds=60.5 * (at + 1),
    )


def _shares(options: int, chosen: int, learnt: int) -> tuple[float, ...]:
    """Return softmax of a theta that has learnt one option for some epochs."""
    parts = [math.exp(learnt / 2) if at == chosen else 1.0 for at in range(options)]
    return tuple(part / sum(parts) for part in parts)
