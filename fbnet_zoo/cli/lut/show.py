"""Latency tables, as text and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import screen
from fbnet_zoo.latency.merging import OperatorRatio, TableDiff
from fbnet_zoo.latency.predictor import PredictorEvaluation
from fbnet_zoo.latency.table import Calibration, LatencyTable, OperatorLatency

_FIGURES = {
    "median_ms": ">median\nms",
    "minimum_ms": ">minimum\nms",
    "p10_ms": ">p10\nms",
    "p90_ms": ">p90\nms",
    "samples": ">samples",
}


def about(table: LatencyTable) -> dict[str, Any]:
    """Return a table as JSON, without its operators."""
    record = table.model_dump(mode="json", exclude={"operators", "base_operators"})
    return record | {"operators": len(table.operators)}


def details(table: LatencyTable) -> dict[str, Any]:
    """Return a whole table as JSON."""
    return table.model_dump(mode="json")


def listing(tables: Iterable[LatencyTable]) -> Table:
    """Return one line for each table."""
    lines = screen.table("name", "device", "runtime", "precision", ">operators", "level", "kind")
    for table in tables:
        runtime, precision = table.runtime or "unknown", table.precision or "unknown"
        count = str(len(table.operators))
        lines.add_row(
            Text(table.name, style="bold"), device_of(table), runtime, precision, count, table.level, table.kind
        )
    return lines


def page(table: LatencyTable, entries: Iterable[OperatorLatency]) -> tuple[RenderableType, ...]:
    """Return the facts of a table, and some of its operators."""
    head = Table.grid(padding=(0, 2))
    for label, value in _facts(table).items():
        head.add_row(label, Text(value))
    shown = [field for field in _FIGURES if any(getattr(entry, field) is not None for entry in table.operators)]
    figures = screen.table("operator", *(_FIGURES[field] for field in shown))
    for entry in entries:
        figures.add_row(str(entry.operator), *(_figure(getattr(entry, field)) for field in shown))
    return Text(table.name, style="bold"), head, Text(), figures


def _facts(table: LatencyTable) -> dict[str, str]:
    base = f"{table.base_ms:.6g} ms, the network of skips, to which differences are added" if table.base_ms else ""
    facts = {
        "device": device_of(table),
        "runtime": " ".join(filter(None, (table.runtime, table.precision))),
        "threads": "" if table.threads is None else str(table.threads),
        "batch": str(table.batch),
        "kind": table.kind,
        "date": "" if table.date is None else f"{table.date:%Y-%m-%d}",
        "source": table.source,
        "credit": "; ".join(table.credit),
        "base": base,
        "calibration": fitted(table.calibration) if table.calibration else "",
    }
    return {label: value for label, value in facts.items() if value}


def device_of(table: LatencyTable) -> str:
    """Return the name of a table's device."""
    device = table.device
    return " ".join(filter(None, (device.manufacturer, device.model))) or device.soc or device.id


def fitted(fit: Calibration) -> str:
    """Return a sentence: how well sums agree with whole networks."""
    line = f"{fit.slope:.4g} x sum {fit.intercept_ms:+.4g} ms"
    return (
        f"{line}; over {fit.networks} networks the error is {fit.mape:.2f} % (plain sums {fit.sum_mape:.2f} %), "
        f"rank correlation {fit.spearman:.4f}"
    )


def comparison(diff: TableDiff, shown: Iterable[OperatorRatio]) -> tuple[RenderableType, ...]:
    """Return the operators that differ most, and a summary."""
    lines = screen.table("operator", ">A\nms", ">B\nms", ">B / A")
    for each in shown:
        ratio = "" if each.ratio is None else f"{each.ratio:.3f}"
        lines.add_row(str(each.operator), _figure(each.a_ms), _figure(each.b_ms), ratio)
    summary = f"{len(diff.shared)} operators in both, {len(diff.only_a)} only in A, {len(diff.only_b)} only in B"
    if diff.median_ratio is not None:
        summary += f"; B / A is {diff.median_ratio:.3f} ({diff.low_ratio:.3f} to {diff.high_ratio:.3f} from p10 to p90)"
    if diff.rank_correlation is not None:
        summary += f", rank correlation {diff.rank_correlation:.3f}"
    return lines, Text(summary)


def difference(diff: TableDiff) -> dict[str, Any]:
    """Return a comparison of two tables as JSON."""
    return {
        "shared": [
            {"operator": each.operator.model_dump(mode="json", exclude_defaults=True)}
            | {"a_ms": each.a_ms, "b_ms": each.b_ms, "ratio": each.ratio}
            for each in diff.shared
        ],
        "only_a": [operator.model_dump(mode="json", exclude_defaults=True) for operator in diff.only_a],
        "only_b": [operator.model_dump(mode="json", exclude_defaults=True) for operator in diff.only_b],
        "median_ratio": diff.median_ratio,
        "low_ratio": diff.low_ratio,
        "high_ratio": diff.high_ratio,
        "rank_correlation": diff.rank_correlation,
    }


def evaluations(results: dict[str, PredictorEvaluation]) -> Table:
    """Return the accuracy of predictors, one line for each device."""
    lines = screen.table("latencies", ">fitted on", ">tested on", ">rank correlation\nmean", ">\nlowest", ">error\n%")
    for column, result in results.items():
        mean, error = _mean(result.spearman), _mean(result.mape)
        counts = str(result.samples), str(result.held_out)
        lines.add_row(column, *counts, f"{mean:.4f}", f"{min(result.spearman):.4f}", f"{error:.2f}")
    return lines


def evaluated(result: PredictorEvaluation) -> dict[str, Any]:
    """Return the accuracy of a predictor as JSON."""
    return asdict(result) | {"mean_spearman": _mean(result.spearman), "mean_mape": _mean(result.mape)}


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _figure(value: float | None) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value or "")
