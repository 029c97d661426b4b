"""Merging and comparing latency tables."""

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
"""Default tolerance: largest relative difference between two figures of an operator."""

_ALIKE = ("runtime", "precision", "threads", "batch", "kind", "level", "relative_to", "base_ms", "base_operators")

_IRRELEVANT = {"python", "fbnet_zoo"}
"""Versions that every table has and that change no figure."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRatio:
    """An operator in two tables.

    Attributes:
        a_ms: median in table A.
        b_ms: median in table B.
        ratio: B over A; `None` if A's figure is not positive.
    """

    operator: Operator
    a_ms: float
    b_ms: float
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDiff:
    """Comparison of two tables.

    Attributes:
        shared: operators in both tables, in the order of A.
        only_a: operators only in A.
        only_b: operators only in B.
        median_ratio: median of B over A; `None` if no operator is shared.
        low_ratio: 10th percentile of B over A.
        high_ratio: 90th percentile of B over A.
        rank_correlation: Spearman's rank correlation of the medians.
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
    """Merge tables of one device, runtime and precision; the newest figure of each operator is kept.

    A calibration is valid only for its own operators, so the result has one only if the newest table has it and the
    other tables add no operators.

    Args:
        tables: tables to merge; among those without a date, later ones in the list count as newer.
        conflicts: what to do if two figures differ by more than the tolerance (default: `error`).
        tolerance: largest difference as a fraction of the larger figure (default: 0.05).
        name: name of the result (default: that of the first table).

    Raises:
        InputError: the tables' settings differ, or figures conflict.
    """
    if not tables:
        raise InputError("no tables to merge; expected two or more")
    for table in tables[1:]:
        _check_alike(tables[0], table)
    for table in tables[1:]:
        _tell_versions(tables[0], table)
    by_age = sorted(tables, key=lambda table: table.date.timestamp() if table.date else 0.0)
    merged: dict[Operator, OperatorLatency] = {}
    for table in by_age:
        for entry in table.operators:
            _check_conflict(merged.get(entry.operator), entry, conflicts, tolerance)
            merged[entry.operator] = entry
    newest = by_age[-1]
    calibration = newest.calibration if len(merged) == len(newest.operators) else None
    if any(table.calibration for table in tables) and calibration is None:
        log.warning("the calibration was dropped, as the merged table has other operators; calibrate it again")
    update = {
        "name": name or tables[0].name,
        "operators": tuple(merged.values()),
        "calibration": calibration,
        "limits_khz": newest.limits_khz if len({table.limits_khz for table in tables}) == 1 else (),
        "credit": tuple(dict.fromkeys(line for table in tables for line in table.credit)),
        "versions": {key: value for table in by_age for key, value in table.versions.items()},
    }
    fields = {name: getattr(newest, name) for name in LatencyTable.model_fields}  # `dict` would add cached properties
    return build_table("the merged table", **fields | update)


def _check_alike(first: LatencyTable, other: LatencyTable) -> None:
    fields = [("device", first.device.id, other.device.id)]
    fields += [(field, getattr(first, field), getattr(other, field)) for field in _ALIKE]
    for field, left, right in fields:
        if left != right:
            shown = "" if field == "base_operators" else f": {left} and {right}"
            raise InputError(f"{first.name} and {other.name} cannot be merged: their {field} differs{shown}")


def _tell_versions(first: LatencyTable, other: LatencyTable) -> None:
    """Warn of libraries and compilers in other versions: a change of figures may be theirs."""
    shared = sorted((first.versions.keys() & other.versions.keys()) - _IRRELEVANT)
    found = [(name, first.versions[name], other.versions[name]) for name in shared]
    differ = [f"{name} {before} and {after}" for name, before, after in found if before != after]
    if differ:
        log.warning(
            "%s and %s come from other versions, whose figures may differ for the same operator: %s",
            *(first.name, other.name, "; ".join(differ)),
        )


def _check_conflict(before: OperatorLatency | None, after: OperatorLatency, conflicts: str, tolerance: float) -> None:
    if before is None:
        return
    difference = abs(before.median_ms - after.median_ms)
    if difference > tolerance * max(abs(before.median_ms), abs(after.median_ms)):
        text = f"{after.operator} has {before.median_ms:.4g} ms and {after.median_ms:.4g} ms"
        if conflicts == "error":
            raise InputError(f"{text}, more than {tolerance:.0%} apart; measure it again, or keep the newer one")
        log.info("%s; the newer one is kept", text)


def diff_tables(a: LatencyTable, b: LatencyTable) -> TableDiff:
    """Compare two tables, operator by operator.

    Raises:
        InputError: the tables differ in level (blocks or layers), or only one is relative.
    """
    for field in ("level", "relative_to"):
        left, right = getattr(a, field), getattr(b, field)
        if left != right:
            raise InputError(f"{a.name} and {b.name} cannot be compared: their {field} is {left} and {right}")
    _tell_versions(a, b)
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
