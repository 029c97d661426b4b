"""What a search leaves in its folder: `search.json`, from which pages and tables are made."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import AwareDatetime, ValidationError

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import InputError
from fbnet_zoo.search.methods import METHODS, AnyConfig, MethodEntry
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.space.encoding import Decision
from fbnet_zoo.spec import Name, Record
from fbnet_zoo.train import Recipe

FORMAT: Literal[2] = 2

_SUPERNET = "with the supernet's weights"
"""How every search judged networks whose record has format 1."""


class MetricRecord(Record):
    """A cost that the search knew.

    Attributes:
        name: such as `latency`.
        unit: of its figures.
        base: cost of the cheapest network of the space.
        table: name of the latency table it is from, if any.
        device: that the table is of, in words.
    """

    name: Name
    unit: str
    base: float
    table: str | None = None
    device: str | None = None


class DataRecord(Record):
    """What the search learnt from.

    Attributes:
        name: of the data set.
        classes: their number.
        weights: images that weights learn from.
        selection: other images, that networks are chosen by (theta learns from them, of methods that have one).
        held_out: images that the search never used, on which the trained network is evaluated.
        split: how those are held out.
    """

    name: str
    classes: int
    weights: int
    selection: int
    held_out: int
    split: str


class TrainedRecord(Record):
    """The best network after its own training from scratch.

    Attributes:
        weights: the file in the run's folder.
        recipe: how it was trained.
        top1: of the held-out images, percent.
    """

    weights: str
    recipe: Recipe
    top1: float


class MeasuredRecord(Record):
    """The latency of a network, by the table and measured as a whole.

    Attributes:
        name: of its definition.
        predicted_ms: by the table.
        measured_ms: median.
        p10_ms: of the measurement.
        p90_ms: of it.
    """

    name: Name
    predicted_ms: float
    measured_ms: float
    p10_ms: float
    p90_ms: float


class RandomRecord(Record):
    """A random network within the same limits, trained in the same way.

    Attributes:
        name: of its definition.
        costs: of each metric, in its unit.
        top1: of the held-out images, percent.
    """

    name: Name
    costs: dict[str, float]
    top1: float


class SearchRecord(Record):
    """A search: what was asked for, what was found, and what it ran on.

    Attributes:
        format: version of this record.
        space: its name.
        input_size: of the image, px; the largest where the size is a decision.
        config: of the method, with its limits and its seed; equal ones give equal searches.
        metrics: all costs that were known.
        data: what it learnt from; `None` of a search in a table of accuracies.
        decisions: what networks decide, in order.
        judged: how the accuracies of `networks` were found, in words that follow "top-1".
        networks: that were compared; the best first.
        met: whether the best keeps all limits.
        trained: the best after its own training, where that was asked for.
        measured: latencies of networks that were measured whole.
        random: networks to compare the trained one with.
        processes: that searched together.
        device: where they computed.
        seconds: that the search took, without interruptions.
        date: when it ended.
        versions: package name to version, for every library used.
    """

    format: Literal[2] = FORMAT
    space: str
    input_size: int
    config: AnyConfig
    metrics: tuple[MetricRecord, ...]
    data: DataRecord | None
    decisions: tuple[Decision, ...]
    judged: str
    networks: tuple[NetworkRecord, ...]
    met: bool
    trained: TrainedRecord | None = None
    measured: tuple[MeasuredRecord, ...] = ()
    random: tuple[RandomRecord, ...] = ()
    processes: int
    device: str
    seconds: float
    date: AwareDatetime
    versions: dict[str, str]

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
        return 100 * (self.trained.top1 - average) / average


def save_record(record: SearchRecord, path: Path) -> None:
    """Write a record, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    write_atomically(path, record.model_dump_json(indent=1) + "\n")


def load_record(path: Path) -> SearchRecord:
    """Read a record of this version or an earlier one.

    Raises:
        InputError: the file cannot be read, or holds something else; the text says file and key.
    """
    try:
        content = json.loads(path.read_bytes())
        return SearchRecord.model_validate_json(json.dumps(_current(content)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {place}: {first['msg']}; expected the record of a search") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); expected the record of a search") from error


def _current(content: Any) -> Any:
    """Return the content of a record of format 1 as this format has it; anything else unchanged."""
    if not isinstance(content, dict) or content.get("format") != 1:
        return content
    try:
        decisions = zip(content["decisions"], content.pop("options"), strict=True)
        return content | {
            "format": FORMAT,
            "config": {"method": content.pop("method"), **content["config"]},
            "data": {"selection": content["data"].pop("theta"), **content["data"]},
            "decisions": [{"name": name, "options": options} for name, options in decisions],
            "judged": _SUPERNET,
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        return content
