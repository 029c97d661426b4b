"""The record of a search, `search.json`, from which pages and tables are made."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import InputError
from fbnet_zoo.reading import FileName, Location, parse_record, read_json
from fbnet_zoo.search.config import Count
from fbnet_zoo.search.effort import Effort
from fbnet_zoo.search.methods import METHODS, AnyConfig, MethodEntry
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.space.encoding import Decision
from fbnet_zoo.spec import LEFT_OUT, Name, Percent, Positive, Record
from fbnet_zoo.stats import kendall
from fbnet_zoo.train import Recipe

FORMAT: Literal[4] = 4

_NotNegative = Annotated[float, Field(ge=0)]
_Whole = Annotated[int, Field(ge=0)]

_FEWEST_PAIRS = 3

_SUPERNET = "with the supernet's weights"
"""`judged` of all records of format 1."""


class PredictorRecord(Record):
    """The predictor of a cost.

    Attributes:
        name: name of the measurements; from the command line, the file and its two columns.
        networks: number of networks that it was fitted to.
        error: mean absolute error of predicting each of them from all others, percent.
        priors: names of the tables that it started from.
    """

    name: str
    networks: Count
    error: _NotNegative
    priors: tuple[str, ...] = ()


class MetricRecord(Record):
    """A cost known to the search.

    Attributes:
        name: name of the cost, such as `latency`.
        unit: unit of its values.
        base: lowest cost of any network of the space.
        table: name of the latency table, if any.
        device: device of the table, in words.
        predictor: predictor of the cost, if any.
    """

    name: Name
    unit: str
    base: _NotNegative
    table: str | None = None
    device: str | None = None
    predictor: PredictorRecord | None = None

    @model_serializer(mode="wrap")
    def _recorded(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a predictor that there is none of, so that earlier records stay the same."""
        return {key: value for key, value in serialize(self).items() if key != "predictor" or value is not None}


class DataRecord(Record):
    """The data of a search.

    Attributes:
        name: name of the data set.
        classes: number of classes.
        weights: number of images that train the weights.
        selection: number of other images, which select networks (and train theta, if the method has one).
        held_out: number of images never used by the search, on which the trained network is evaluated.
        split: how the held-out images were chosen.
        class_names: names of the classes by index; empty in earlier records.
        images_sha256: digest of all pixels and labels; `None` in earlier records.
    """

    name: str
    classes: Count
    weights: Count
    selection: Count
    held_out: _Whole
    split: str
    class_names: tuple[str, ...] = ()
    images_sha256: str | None = None

    @model_serializer(mode="wrap")
    def _recorded(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what an earlier version did not record, so that its record stays the same."""
        recent = {"class_names": self.class_names, "images_sha256": self.images_sha256}
        return {key: value for key, value in serialize(self).items() if recent.get(key, True)}


class TrainedRecord(Record):
    """The best network after training from scratch.

    Attributes:
        weights: file name in the run folder.
        recipe: training recipe.
        top1: accuracy on the held-out images, percent.
    """

    weights: FileName
    recipe: Recipe
    top1: Percent


class MeasuredRecord(Record):
    """The latency of a network, predicted by the table and measured as a whole.

    Attributes:
        name: name of the definition.
        predicted_ms: latency by the table.
        measured_ms: median of the measurements.
        p10_ms: 10th percentile of the measurements.
        p90_ms: 90th percentile of the measurements.
    """

    name: Name
    predicted_ms: Positive
    measured_ms: Positive
    p10_ms: Positive
    p90_ms: Positive


class RandomRecord(Record):
    """A random network near the same limits, trained in the same way.

    Attributes:
        name: name of the definition.
        costs: metric name to cost, in the metric's unit.
        top1: accuracy on the held-out images, percent.
        judged_top1: accuracy as determined by the search, percent; `None` if the method trains no supernet.
    """

    name: Name
    costs: dict[str, float]
    top1: Percent
    judged_top1: Percent | None = None


class FrontRecord(Record):
    """The best network for one of several limits, found with the supernet of the search.

    Attributes:
        metric: name of the cost.
        limit: limit on it, in the metric's unit; other limits of the search hold too.
        network: the network, with its accuracy as determined by the search.
    """

    metric: Name
    limit: Positive
    network: NetworkRecord


class SearchRecord(Record):
    """A search: what was requested, what was found, and what it ran on.

    Attributes:
        format: version of the record format.
        space: name of the space.
        input_size: side of the image, px; the largest if the size is a decision.
        config: configuration of the method, with limits and seed; equal configurations give equal searches.
        metrics: all known costs.
        data: images used; `None` for a search in a table of accuracies.
        decisions: decisions of the space, in order.
        judged: how the accuracies of `networks` were determined, as words that follow "top-1".
        networks: compared networks, the best first.
        effort: epochs of training that successive halving saved, if networks were stopped early.
        met: whether the best network is within all limits.
        trained: the best network after training from scratch, if requested.
        measured: measured latencies of whole networks.
        front: networks for several limits, the lowest first.
        random: trained random networks to compare with.
        tried: number of networks that were drawn to find those; `None` in earlier records.
        entropy: mean entropy of P(theta) over the decisions at the end, nats; `None` if not recorded.
        processes: number of processes.
        device: device of the processes.
        seconds: duration of the search, without interruptions.
        date: end of the search.
        versions: package name to version, for every library used.
    """

    format: Literal[4] = FORMAT
    space: str
    input_size: int
    config: AnyConfig
    metrics: tuple[MetricRecord, ...]
    data: DataRecord | None
    decisions: tuple[Decision, ...]
    judged: str
    networks: Annotated[tuple[NetworkRecord, ...], Field(min_length=1)]
    effort: Annotated[Effort | None, LEFT_OUT] = None
    met: bool
    trained: TrainedRecord | None = None
    measured: tuple[MeasuredRecord, ...] = ()
    front: tuple[FrontRecord, ...] = ()
    random: tuple[RandomRecord, ...] = ()
    tried: Count | None = None
    entropy: _NotNegative | None = None
    processes: Count
    device: str
    seconds: _NotNegative
    date: AwareDatetime
    versions: dict[str, str]

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse networks that are none of the decisions, or lack a cost."""
        networks: list[tuple[Location, NetworkRecord]] = [
            *((("networks", index), each) for index, each in enumerate(self.networks)),
            *((("front", index, "network"), each.network) for index, each in enumerate(self.front)),
        ]
        for where, network in networks:
            counts = [len(decision.options) for decision in self.decisions]
            if len(network.positions) != len(counts) or not all(map(_has, counts, network.positions)):
                raise InputError(
                    f"{network.positions} is not a network of the decisions", location=(*where, "positions")
                )
            _check_costs(self, network.costs, where)
        for index, each in enumerate(self.random):
            _check_costs(self, each.costs, ("random", index))
        return self

    @property
    def method(self) -> MethodEntry:
        """The method."""
        return METHODS[self.config.method]

    @property
    def best(self) -> NetworkRecord:
        """The network that the search returns."""
        return self.networks[0]

    @property
    def improvement(self) -> float | None:
        """Relative improvement of the trained network over the average random one, percent."""
        if self.trained is None or not self.random:
            return None
        average = fmean(each.top1 for each in self.random)
        return 100 * (self.trained.top1 - average) / average if average else None

    @property
    def used(self) -> float | None:
        """Largest share of a limit that the best network uses, percent."""
        shares = [100 * self.best.costs[name] / limit for name, limit in self.config.limits.items()]
        return max(shares, default=None)

    @property
    def agreement(self) -> float | None:
        """Kendall's rank correlation (tau-b) of judged and trained accuracies; `None` for fewer than three networks."""
        pairs = [(each.judged_top1, each.top1) for each in self.random if each.judged_top1 is not None]
        pairs += [(self.best.top1, self.trained.top1)] if self.trained else []
        return kendall(*zip(*pairs, strict=True)) if len(pairs) >= _FEWEST_PAIRS else None


def _has(options: int, position: int) -> bool:
    return 0 <= position < options


def _check_costs(record: SearchRecord, costs: Mapping[str, float], where: Location) -> None:
    for metric in record.metrics:
        if metric.name not in costs:
            raise InputError(f"there is no {metric.name!r}, a cost of the search", location=(*where, "costs"))


def save_record(record: SearchRecord, path: Path) -> None:
    """Write a record atomically.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomically(path, record.model_dump_json(indent=1) + "\n")


def load_record(path: Path) -> SearchRecord:
    """Read a record of the current or an earlier format.

    Raises:
        InputError: the file cannot be read or is not a valid record; the text gives file and key.
    """
    expected = "the record of a search"
    content = _current(read_json(path, expected))
    return parse_record(SearchRecord, json.dumps(content), str(path), expected)


def _current(content: Any) -> Any:
    """Return the content of a record of an earlier format converted to the current one; anything else unchanged."""
    converted = content
    try:
        for number, convert in _CONVERSIONS.items():
            if isinstance(converted, dict) and converted.get("format") == number:
                converted = convert(converted) | {"format": number + 1}
    except (KeyError, TypeError, AttributeError, ValueError):
        return content
    return converted


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    decisions = zip(content["decisions"], content.pop("options"), strict=True)
    return content | {
        "config": {"method": content.pop("method"), **content["config"]},
        "data": {"selection": content["data"].pop("theta"), **content["data"]},
        "decisions": [{"name": name, "options": options} for name, options in decisions],
        "judged": _SUPERNET,
    }


def _from_2(content: dict[str, Any]) -> dict[str, Any]:
    """Gradient searches compared only what they drew; the split of the images had the seed of the search."""
    config = content["config"]
    drawn = {"candidates": 1} if "samples" in config else {}
    return content | {"config": config | drawn | {"split_seed": config["seed"]}}


def _from_3(content: dict[str, Any]) -> dict[str, Any]:
    """All candidates run in every gradient search; others, which are refused, had the mode `sampled`."""
    config = content["config"]
    others = {key: value for key, value in config.items() if (key, value) != ("mode", "soft")}
    return content | {"config": others}


_CONVERSIONS = {1: _from_1, 2: _from_2, 3: _from_3}
