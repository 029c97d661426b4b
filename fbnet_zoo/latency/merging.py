"""Several latency tables: joined into one, or compared."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.latency.table import LatencyTable, OperatorLatency, build_table
from fbnet_zoo.stats import spearman

TOLERANCE = 0.05
"""Share by which two figures of one operator may differ."""

_ALIKE = ("runtime", "precision", "threads", "batch", "kind", "level", "relative_to", "base_ms", "base_operators")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRatio:
    """An operator that two tables have.

    Attributes:
        a_ms: its median in A.
        b_ms: in B.
        ratio: B over A; `None` where A has no time above 0.
    """

    operator: Operator
    a_ms: float
    b_ms: float
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDiff:
    """Two tables compared.

    Attributes:
        shared: the operators that both have, in the order of A.
        only_a: those that B lacks.
        only_b: those that A lacks.
        median_ratio: of B over A; `None` where nothing is shared.
        low_ratio: tenth percentile of the same.
        high_ratio: ninetieth percentile.
        rank_correlation: Spearman's, of the medians.
    """

    shared: tuple[OperatorRatio, ...]
    only_a: tuple[Operator, ...]
    only_b: tuple[Operator, ...]
    median_ratio: float | None
    low_ratio: float | None
    high_ratio: float | None
    rank_correlation: float | None


def merge_tables(
    tables: Sequence[LatencyTable],
    *,
    conflicts: Literal["newer", "error"] = "error",
    tolerance: float = TOLERANCE,
    name: str | None = None,
) -> LatencyTable:
    """Join tables of one device, runtime and precision; of an operator that several have, the newest figure stays.

    A calibration holds for the operators that it was made with, so the result has none unless it is that of the newest
    table and no other table added anything.

    Args:
        tables: two or more; the newer of two without a date is the later one in the list.
        conflicts: what to do where two figures differ by more than the tolerance.
        tolerance: share of the larger figure.
        name: of the result; that of the first table if not said.

    Raises:
        InputError: the tables are not about the same, or figures differ.
    """
    if not tables:
        raise InputError("there is nothing to merge; give two tables or more")
    for table in tables[1:]:
        _check_alike(tables[0], table)
    by_age = sorted(tables, key=lambda table: table.date.timestamp() if table.date else 0.0)
    merged: dict[Operator, OperatorLatency] = {}
    for table in by_age:
        for entry in table.operators:
            _check_conflict(merged.get(entry.operator), entry, conflicts, tolerance)
            merged[entry.operator] = entry
    newest = by_age[-1]
    calibration = newest.calibration if len(merged) == len(newest.operators) else None
    if any(table.calibration for table in tables) and calibration is None:
        log.warning("the calibration is left out: the merged table has other operators; calibrate it again")
    update = {
        "name": name or tables[0].name,
        "operators": tuple(merged.values()),
        "calibration": calibration,
        "credit": tuple(dict.fromkeys(line for table in tables for line in table.credit)),
        "versions": {key: value for table in by_age for key, value in table.versions.items()},
    }
    return build_table("the merged table", **dict(newest) | update)


def _check_alike(first: LatencyTable, other: LatencyTable) -> None:
    said = [("device", first.device.id, other.device.id)]
    said += [(field, getattr(first, field), getattr(other, field)) for field in _ALIKE]
    for field, left, right in said:
        if left != right:
            shown = "" if field == "base_operators" else f": {left} and {right}"
            raise InputError(f"{first.name} and {other.name} cannot be merged: their {field} differs{shown}")


def _check_conflict(before: OperatorLatency | None, after: OperatorLatency, conflicts: str, tolerance: float) -> None:
    if before is None:
        return
    difference = abs(before.median_ms - after.median_ms)
    if difference > tolerance * max(abs(before.median_ms), abs(after.median_ms)):
        text = f"{after.operator} has {before.median_ms:.4g} ms and {after.median_ms:.4g} ms"
        if conflicts == "error":
            raise InputError(f"{text}, over {tolerance:.0%} apart; measure it again, or let the newer one win")
        log.info("%s; the newer one stays", text)


def diff_tables(a: LatencyTable, b: LatencyTable) -> TableDiff:
    """Compare two tables, operator by operator.

    Raises:
        InputError: one is of blocks and the other of layers, or only one has differences.
    """
    for field in ("level", "relative_to"):
        left, right = getattr(a, field), getattr(b, field)
        if left != right:
            raise InputError(f"{a.name} and {b.name} cannot be compared: their {field} is {left} and {right}")
    shared = tuple(_ratios(a, b))
    ratios = [each.ratio for each in shared if each.ratio is not None]
    low, middle, high = np.percentile(ratios, (10, 50, 90)).tolist() if ratios else (None, None, None)
    medians = [each.a_ms for each in shared], [each.b_ms for each in shared]
    return TableDiff(
        shared=shared,
        only_a=tuple(operator for operator in a.by_operator if operator not in b.by_operator),
        only_b=tuple(operator for operator in b.by_operator if operator not in a.by_operator),
        median_ratio=middle,
        low_ratio=low,
        high_ratio=high,
        rank_correlation=spearman(*medians) if len(shared) > 1 else None,
    )


def _ratios(a: LatencyTable, b: LatencyTable) -> Iterator[OperatorRatio]:
    for operator, entry in a.by_operator.items():
        other = b.by_operator.get(operator)
        if other is not None:
            ratio = other.median_ms / entry.median_ms if entry.median_ms > 0 else None
            yield OperatorRatio(operator=operator, a_ms=entry.median_ms, b_ms=other.median_ms, ratio=ratio)
