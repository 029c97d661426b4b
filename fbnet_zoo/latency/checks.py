"""Plausibility checks of valid latency tables."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from fbnet_zoo.latency.operator_costs import operator_cost
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import LatencyTable

TOLERANCE = 0.02
"""Fraction by which the larger of two operators may be faster without a warning."""

SLOWEST, FASTEST = 1e6, 1e14
"""Plausible multiply-accumulates per second; outside this range, the unit is probably not ms."""

SPREAD = 0.5
"""Largest distance from p10 to p90, as a fraction of the median, without a warning."""


def table_warnings(table: LatencyTable) -> tuple[str, ...]:
    """Return warnings about implausible figures, one sentence each."""
    return (*_unit(table), *_spread(table), *_order(table))


def _unit(table: LatencyTable) -> Iterator[str]:
    if table.relative_to is not None:
        return
    total_ms = sum(entry.median_ms for entry in table.operators)
    counted = sum(operator_cost(entry.operator).macs for entry in table.operators)
    if counted and not SLOWEST < counted / max(total_ms / 1000, 1e-30) < FASTEST:
        yield (
            f"{counted:.3g} multiply-accumulates in {total_ms:.3g} ms is not a plausible speed; "
            "check that the times are milliseconds"
        )


def _spread(table: LatencyTable) -> Iterator[str]:
    for entry in table.operators:
        if entry.p10_ms is None or entry.p90_ms is None:
            continue
        spread = entry.p90_ms - entry.p10_ms
        if spread > SPREAD * entry.median_ms:
            yield (
                f"{entry.operator}: p10 and p90 are {spread:.3g} ms apart, more than half of the median; "
                "measure it again on an idle device"
            )


def _order(table: LatencyTable) -> Iterator[str]:
    """Warn of operators that are faster than ones with a smaller kernel or expansion and otherwise equal."""
    for field in ("kernel_size", "middle_channels"):
        families: dict[Operator, list[Operator]] = defaultdict(list)
        for entry in table.operators:
            if getattr(entry.operator, field) is not None:
                families[_without(entry.operator, field)].append(entry.operator)
        for alike in families.values():
            yield from _falls(table, sorted(alike, key=lambda operator: getattr(operator, field)))


def _without(operator: Operator, field: str) -> Operator:
    """Return the operator with the field reset; for the kernel size, also its padding."""
    plain: dict[str, int] = {"kernel_size": 1, "padding": 0} if field == "kernel_size" else {"middle_channels": 1}
    return operator.model_copy(update=plain)


def _falls(table: LatencyTable, growing: Iterable[Operator]) -> Iterator[str]:
    base_ms = table.base_ms or 0.0
    largest: Operator | None = None
    for operator in growing:
        median_ms = table.operator_ms(operator)
        if largest is None or median_ms >= table.operator_ms(largest):
            largest = operator
        elif median_ms < table.operator_ms(largest) - TOLERANCE * (base_ms or table.operator_ms(largest)):
            smaller_ms = table.operator_ms(largest)
            yield f"{operator} takes {median_ms:.4g} ms, less than the smaller {largest} with {smaller_ms:.4g} ms"
