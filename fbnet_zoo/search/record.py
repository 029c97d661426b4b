"""What a search leaves in its folder: `search.json`, from which pages and tables are made."""

from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from fbnet_zoo.errors import InputError
from fbnet_zoo.search.config import SearchConfig
from fbnet_zoo.space import Choices
from fbnet_zoo.spec import Name, Record
from fbnet_zoo.train import Recipe
from fbnet_zoo.train.run_folder import write_whole

MethodName = Literal["dnas", "dmasking"]


class MetricRecord(Record):
    """A cost that the search knew.

    Attributes:
        name: such as `latency`.
        unit: of its figures.
        base: cost of the cheapest network of the space.
        table: name of the latency table, where it is one's.
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
        weights: images for the weights.
        theta: images for theta, others.
        held_out: images that the search never saw, on which the trained network is evaluated.
        split: how those are held out.
    """

    name: str
    classes: int
    weights: int
    theta: int
    held_out: int
    split: str


class NetworkRecord(Record):
    """A network that was compared at the end, with the weights that it has in the supernet.

    Attributes:
        name: of its definition.
        choices: in the space.
        positions: of each decision, which of its options it took.
        log_probability: under P(theta).
        projected: whether it was drawn otherwise, and changed to keep the limits.
        costs: of each metric, in its unit.
        within_limits: whether it keeps all.
        top1: on theta's images, percent, with the supernet's weights.
        recalibrated_images: on which batch norm was set anew before.
    """

    name: Name
    choices: Choices
    positions: tuple[int, ...]
    log_probability: float
    projected: bool
    costs: dict[str, float]
    within_limits: bool
    top1: float
    recalibrated_images: int


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
        method: of the search.
        space: its name.
        input_size: of the image, px; the largest where the size is a decision.
        config: with its limits and its seed; equal ones give equal searches.
        metrics: all that were known.
        data: what it learnt from.
        decisions: names of what is decided, such as `stages.4.0`, in order.
        options: of each decision, names of its options.
        networks: the most probable one and those drawn; the best first.
        met: whether the best keeps all limits.
        trained: the best after its own training, where that was asked for.
        measured: latencies of networks that were measured whole.
        random: networks to compare the trained one with.
        processes: that searched together.
        device: where they computed.
        seconds: that the search took, without interruptions.
        date: when it ended.
        versions: of everything that took part.
    """

    format: Literal[1] = 1
    method: MethodName
    space: str
    input_size: int
    config: SearchConfig
    metrics: tuple[MetricRecord, ...]
    data: DataRecord
    decisions: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
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
    write_whole(path, lambda file: file.write(record.model_dump_json(indent=1).encode() + b"\n"))


def load_record(path: Path) -> SearchRecord:
    """Read a record.

    Raises:
        InputError: the file cannot be read, or is no record of this version.
    """
    try:
        return SearchRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {place}: {first['msg']}; expected what a search of this version writes") from error
