"""Latency tables: the time of every operator of a search space on one device, and of networks as sums.

The sum is FBNet's latency model (Wu et al., arXiv:1812.03443, section 3.3). A table is a JSON file (see `files`); its
schema, `tables/table.schema.json`, is generated from the records here. Times are in milliseconds.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import Count, DeviceInfo, Milliseconds, Threads
from fbnet_zoo.latency.operators import Level, Operator, network_operators
from fbnet_zoo.plans import NetworkPlan
from fbnet_zoo.reading import record_error
from fbnet_zoo.spec import ArchSpec, Name, Positive, Record, Text

_ORDER = ("minimum_ms", "p10_ms", "median_ms", "p90_ms")


class OperatorLatency(Record):
    """Latency of one operator.

    Attributes:
        median_ms: median, which sums are made of; in a relative table, the difference to a skip in the same place.
        minimum_ms: fastest run.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        samples: number of runs.
    """

    operator: Operator
    median_ms: float
    minimum_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    samples: Count | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        known = [value for field in _ORDER if (value := getattr(self, field)) is not None]
        if known != sorted(known):
            raise InputError(f"{self.operator}: minimum, p10, median and p90 must be in ascending order, got {known}")
        return self


class Calibration(Record):
    """Linear correction of sums, and how well they agree with whole networks.

    In a table of estimates the whole networks are estimated too, so the errors do not apply to hardware.

    Attributes:
        slope: slope of the linear correction.
        intercept_ms: intercept of the linear correction.
        networks: number of measured networks.
        mape: mean absolute error of the corrected sums, percent of the measured latency, with each network left out
            of the fit that predicts it.
        spearman: rank correlation of the corrected sums, from the same fits.
        sum_mape: mean absolute error of the uncorrected sums, percent.
    """

    slope: Positive = 1.0
    intercept_ms: float = 0.0
    networks: Count
    mape: Milliseconds
    spearman: Annotated[float, Field(ge=-1, le=1)]
    sum_mape: Milliseconds


class LatencyTable(Record):
    """Latencies of operators on one device.

    Attributes:
        format: version of this record.
        name: name of the table and of its file.
        device: device that the latencies belong to.
        runtime: runtime of the operators, if known.
        precision: precision of weights and arithmetic, if known.
        threads: number of threads, if known.
        limits_khz: highest frequency that the system allowed each group of cores, if known.
        batch: batch size.
        unit: unit of all times.
        kind: `measured` on the device, or an `estimate` of a simulator, compiler or model.
        level: whether the operators are whole blocks or single layers.
        source: origin of the figures and method of measurement.
        credit: licenses and copyright notices of figures published by others.
        date: date of the last measurement.
        versions: package name to version, for every library used.
        relative_to: operator that figures are relative to, in the same place; `base_ms` has the rest.
        base_ms: latency of the network of `base_operators`.
        base_operators: operators of a whole network, with that of `relative_to` in every place.
        calibration: calibration of sums with whole networks.
        operators: latency of each operator, without duplicates.
    """

    format: Literal[1] = 1
    name: Name
    device: DeviceInfo
    runtime: Text | None = None
    precision: Text | None = None
    threads: Threads | None = None
    limits_khz: tuple[Count, ...] = ()
    batch: Annotated[Count, AfterValidator(limits.within("batch"))] = 1
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

    @model_serializer(mode="wrap")
    def _written(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out limits of the clock that are not known, so that earlier tables stay the same."""
        return {key: value for key, value in serialize(self).items() if key != "limits_khz" or value}

    @model_validator(mode="after")
    def _check(self) -> Self:
        relative = self.relative_to is not None
        if relative != (self.base_ms is not None) or relative != bool(self.base_operators):
            raise InputError("relative_to, base_ms and base_operators require each other; give all three or none")
        twice = [operator for operator, count in Counter(each.operator for each in self.operators).items() if count > 1]
        if twice:
            raise InputError(f"duplicate operator {twice[0]}")
        if not relative:
            self._check_times()
        return self

    def _check_times(self) -> None:
        """Refuse what no operator takes, and a correction that takes off more than all of them together."""
        for index, entry in enumerate(self.operators):
            lowest = min(getattr(entry, field) or 0.0 for field in _ORDER)
            if entry.median_ms <= 0 or lowest < 0:
                key = "median_ms" if entry.median_ms <= 0 else "minimum_ms"
                value = entry.median_ms if entry.median_ms <= 0 else lowest
                raise InputError(
                    f"{entry.operator} takes {value} ms; expected more than 0: measure it again",
                    location=("operators", index, key),
                )
        if self.corrected_ms(sum(entry.median_ms for entry in self.operators)) <= 0:
            raise InputError(
                f"{self.calibration and self.calibration.intercept_ms} ms leave nothing of all operators together; "
                "calibrate the table again",
                location=("calibration", "intercept_ms"),
            )

    @cached_property
    def by_operator(self) -> dict[Operator, OperatorLatency]:
        """Operator to its entry."""
        return {entry.operator: entry for entry in self.operators}

    @cached_property
    def _base(self) -> "_Base":
        return _Base(self.base_operators)

    def operator_ms(self, operator: Operator) -> float:
        """Return the latency of an operator, in a relative table the difference to a skip; in constant time.

        Raises:
            InputError: the table lacks the operator.
        """
        entry = self.by_operator.get(operator)
        if entry is not None:
            return entry.median_ms
        if operator.is_free or operator in self._base.operators:
            return 0.0
        raise InputError(f"the latency table {self.name} has no figure for {operator}; {self._way_out()}")

    def _way_out(self) -> str:
        if self.relative_to:
            return "it covers only the networks of one search space, with their image size and number of classes"
        where = f" --runtime {self.runtime}" if self.runtime and self.kind == "measured" else ""
        command = f"fbnet-zoo lut measure --space NAME --device {self.device.kind}{where}"
        return f"measure it with {command}, and merge the two tables"

    def sum_ms(self, operators: Sequence[Operator]) -> float:
        """Return the uncorrected sum over operators, including the base of a relative table.

        Raises:
            InputError: the table lacks an operator, or the network does not match the base of a relative table.
        """
        self._base.check(self.name, operators)
        total = 0.0
        for operator in operators:  # `sum` compensates rounding since Python 3.12, unlike the sums of populations
            total += self.operator_ms(operator)
        return (self.base_ms or 0.0) + total

    def corrected_ms(self, sum_ms: float) -> float:
        """Return the latency of a network whose operators add up to `sum_ms`; see `check_ms`."""
        fit = self.calibration
        return sum_ms if fit is None else fit.slope * sum_ms + fit.intercept_ms

    def check_ms(self, latency_ms: float) -> float:
        """Return the latency of a network; by a relative table, that of a network of skips may be 0.

        Raises:
            InputError: it is not above 0, so that the table cannot be right for the network.
        """
        if latency_ms > 0 or (self.relative_to and latency_ms == 0):
            return latency_ms
        key = "calibration.intercept_ms" if self.calibration else "base_ms"
        raise InputError(
            f"by the latency table {self.name} a network takes {latency_ms:.4g} ms, not more than 0: its {key} is "
            "wrong for this network; use another table"
        )


class _Base:
    """The network that a relative table starts from; without one, every network matches."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = frozenset(operators)
        self.places = self._count(operators)

    def check(self, name: str, operators: Sequence[Operator]) -> None:
        """Refuse a network with other places, for which the base would count too much or too little."""
        if not self.operators:
            return
        found = self._count(operators)
        if found != self.places:
            size, before, after, stride = next(iter((found - self.places) or (self.places - found)))
            more = "more" if found - self.places else "fewer"
            raise InputError(
                f"the latency table {name} covers only networks like its base, but this one has {more} operators "
                f"{before}->{after}, stride {stride}, at {size} px; the space, image size and classes must be the same"
            )

    @staticmethod
    def _count(operators: Sequence[Operator]) -> Counter[tuple[int, int, int, int]]:
        """Count the places where a skip takes time, which are those that change the shape."""
        shapes = (operator.place for operator in operators)
        return Counter(place for place in shapes if place[1] != place[2] or place[3] > 1)


def build_table(origin: str, **fields: Any) -> LatencyTable:
    """Return a table of unvalidated values.

    Raises:
        InputError: a value is invalid; the text starts with `origin` and gives the field.
    """
    try:
        return LatencyTable(**fields)
    except ValidationError as error:
        raise record_error(origin, error) from error


def network_ms(
    table: LatencyTable,
    network: ArchSpec | NetworkPlan,
    input_size: int | None = None,
    *,
    num_classes: int = 1000,
) -> float:
    """Return the latency of a network, ms: the sum over its operators, corrected if the table has a calibration.

    Args:
        table: latency table of the device.
        network: a definition or a plan.
        input_size: side of the image, px (default: that of the definition).
        num_classes: number of classes, for a definition (default: 1000).

    Raises:
        InputError: the table lacks an operator of the network, or gives no latency above 0.
    """
    operators = network_operators(network, input_size, level=table.level, num_classes=num_classes)
    return table.check_ms(table.corrected_ms(table.sum_ms(operators)))
