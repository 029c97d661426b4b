"""Latency tables: the time of every operator of a search space on one device, and of networks as their sum.

The sum is FBNet's model of latency (Wu et al., arXiv:1812.03443, section 3.3). A table is a JSON file
(`table_files`); its schema, `tables/table.schema.json`, is made from the records here. Times are milliseconds.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import Count, DeviceInfo, Milliseconds
from fbnet_zoo.latency.operators import Level, Operator, network_operators
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.spec import ArchSpec, Name, Positive, Record, Text

_ORDER = ("minimum_ms", "p10_ms", "median_ms", "p90_ms")


class OperatorLatency(Record):
    """How long one operator takes.

    Attributes:
        median_ms: the figure that is added up; in a relative table, the difference to a skip at the same place.
        minimum_ms: the least disturbed run.
        p10_ms: tenth percentile.
        p90_ms: ninetieth percentile.
        samples: how many runs the figures are of.
    """

    operator: Operator
    median_ms: float
    minimum_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    samples: Count | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        said = [value for field in _ORDER if (value := getattr(self, field)) is not None]
        if said != sorted(said):
            raise InputError(f"{self.operator}: minimum, p10, median and p90 must not fall, but are {said}")
        return self


class Calibration(Record):
    """How well sums agree with whole networks that were measured, and the correction that makes them agree better.

    In a table of estimates the whole networks are estimated too, and the figures say nothing about hardware.

    Attributes:
        slope: the latency of a network is `slope` times the sum,
        intercept_ms: plus this.
        networks: how many were measured.
        mape: mean absolute error of the corrected sums, percent of the measured latency; each network is left out of
            the fit that predicts it.
        spearman: rank correlation of the same.
        sum_mape: mean absolute error, percent, of the plain sums.
    """

    slope: Positive = 1.0
    intercept_ms: float = 0.0
    networks: Count
    mape: Milliseconds
    spearman: Annotated[float, Field(ge=-1, le=1)]
    sum_mape: Milliseconds


class LatencyTable(Record):
    """The operators of a device.

    Attributes:
        format: version of this record.
        name: of the table; that of its file.
        device: what it is about.
        runtime: what ran the operators; missing where the publication does not say.
        precision: of weights and arithmetic, likewise.
        threads: likewise.
        batch: images in one run.
        unit: of all times.
        kind: `measured` on the device, or an `estimate` of a simulator, compiler or model.
        level: whether the operators are whole blocks or single layers.
        source: where the figures come from, and how.
        credit: licences and copyrights of figures that somebody else published.
        date: when the last operator was measured.
        versions: of everything that took part.
        relative_to: figures are differences to this operator at the same place; `base_ms` holds the rest.
        base_ms: of the network of `base_operators`.
        base_operators: a whole network, with the operator of `relative_to` at every place.
        calibration: of sums against whole networks.
        operators: no two alike.
    """

    format: Literal[1] = 1
    name: Name
    device: DeviceInfo
    runtime: Text | None = None
    precision: Text | None = None
    threads: Count | None = None
    batch: Count = 1
    unit: Literal["ms"] = "ms"
    kind: Literal["measured", "estimate"]
    level: Level = "block"
    source: Text
    credit: tuple[Text, ...] = ()
    date: AwareDatetime | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    relative_to: Literal["skip"] | None = None
    base_ms: Milliseconds | None = None
    base_operators: tuple[Operator, ...] = ()
    calibration: Calibration | None = None
    operators: Annotated[tuple[OperatorLatency, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        relative = self.relative_to is not None
        if relative != (self.base_ms is not None) or relative != bool(self.base_operators):
            raise InputError("relative_to, base_ms and base_operators go together; give all three or none")
        twice = [operator for operator, count in Counter(self._keys()).items() if count > 1]
        if twice:
            raise InputError(f"{twice[0]} has two figures; keep one")
        negative = [entry for entry in self.operators if entry.median_ms < 0]
        if negative and not relative:
            raise InputError(f"{negative[0].operator} takes {negative[0].median_ms} ms; times are not negative")
        return self

    def _keys(self) -> Iterable[Operator]:
        return (entry.operator for entry in self.operators)

    @cached_property
    def by_operator(self) -> dict[Operator, OperatorLatency]:
        """The figures by their operator."""
        return {entry.operator: entry for entry in self.operators}

    @cached_property
    def _base(self) -> "_Base":
        return _Base(self.base_operators)

    def operator_ms(self, operator: Operator) -> float:
        """Return what an operator adds to a network, in constant time; in a relative table, beyond a skip.

        Raises:
            InputError: the table does not have it.
        """
        entry = self.by_operator.get(operator)
        if entry is not None:
            return entry.median_ms
        if operator.is_free or operator in self._base.operators:
            return 0.0
        raise InputError(f"the latency table {self.name} has no figure for {operator}; {self._way_out()}")

    def _way_out(self) -> str:
        if self.relative_to:
            return "it is only for the networks of one search space, with their image size and number of classes"
        where = f" --runtime {self.runtime}" if self.runtime and self.kind == "measured" else ""
        command = f"fbnet-zoo lut measure --space NAME --device {self.device.kind}{where}"
        return f"measure it: {command}, and merge the two tables"

    def sum_ms(self, operators: Sequence[Operator]) -> float:
        """Return the sum over operators, with the base of a relative table, without the correction.

        Raises:
            InputError: the table lacks one, or they are no network that the base of a relative table is part of.
        """
        self._base.check(self.name, operators)
        total = 0.0
        for operator in operators:  # `sum` compensates rounding from Python 3.12 on, a population's sums do not
            total += self.operator_ms(operator)
        return (self.base_ms or 0.0) + total

    def corrected_ms(self, sum_ms: float) -> float:
        """Return the latency of a network whose operators add up to `sum_ms`."""
        fit = self.calibration
        return sum_ms if fit is None else fit.slope * sum_ms + fit.intercept_ms


class _Base:
    """The network that a relative table starts from; without one, everything fits."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = frozenset(operators)
        self.places = self._count(operators)

    def check(self, name: str, operators: Sequence[Operator]) -> None:
        """Refuse a network with other places: the base would count what is not there, or not count what is."""
        if not self.operators:
            return
        found = self._count(operators)
        if found != self.places:
            size, before, after, stride = next(iter((found - self.places) or (self.places - found)))
            more = "more" if found - self.places else "fewer"
            raise InputError(
                f"the latency table {name} is for networks like its base, and this one has {more} operators "
                f"{before}->{after}, stride {stride}, at {size} px; its space, image size and classes must be the same"
            )

    @staticmethod
    def _count(operators: Sequence[Operator]) -> Counter[tuple[int, int, int, int]]:
        """Count the places where a skip costs something: those that change the shape."""
        shapes = (operator.place for operator in operators)
        return Counter(place for place in shapes if place[1] != place[2] or place[3] > 1)


def build_table(origin: str, **fields: Any) -> LatencyTable:
    """Return a table of values that come from somewhere else.

    Raises:
        InputError: they are no table; the text starts with `origin` and tells the field.
    """
    try:
        return LatencyTable(**fields)
    except ValidationError as error:
        raise refused(origin, error) from error


def refused(origin: str, error: ValidationError) -> InputError:
    """Return the error of a record in one sentence: where from, which field, what is wrong."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return InputError(f"{origin}: {key}: {reason}" if key else f"{origin}: {reason}")


def network_ms(
    table: LatencyTable,
    network: ArchSpec | NetworkPlan,
    input_size: int | None = None,
    *,
    num_classes: int = 1000,
) -> float:
    """Return the latency of a network, ms: the sum over its operators, with the table's correction where it has one.

    Args:
        table: of a device.
        network: a definition, or a resolved one.
        input_size: side of the image, px; the definition's if not said.
        num_classes: outputs of the classifier of a definition.

    Raises:
        InputError: the table lacks an operator of the network.
    """
    operators = network_operators(network, input_size, level=table.level, num_classes=num_classes)
    return table.corrected_ms(table.sum_ms(operators))
