"""The settings of a search, to repeat it."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.text import NOTHING
from fbnet_zoo.search.config import LATENCY, MethodConfig
from fbnet_zoo.search.record import MetricRecord, SearchRecord
from fbnet_zoo.train import Recipe


def command(record: SearchRecord) -> str:
    """Return the command line of a search, without further settings."""
    words = ["fbnet-zoo", "search", "--space", record.space, "--method", record.config.method]
    words += ["--data", record.data.name] if record.data else []
    for metric in record.metrics:
        words += _source(metric)
    priors = [name for metric in record.metrics if metric.predictor for name in metric.predictor.priors]
    words += [word for name in dict.fromkeys(priors) for word in ("--prior", name)]
    of_devices = {metric.name: metric.unit for metric in record.metrics if metric.table or metric.predictor}
    for name, limit in record.config.limits.items():
        amount = f"{limit:.15g}{of_devices.get(name, '')}"
        target = name == LATENCY and name in of_devices
        words += ["--target-latency", amount] if target else ["--limit", f"{name}={amount}"]
    return shlex.join([*words, "--out", "RUN"])


def _source(metric: MetricRecord) -> list[str]:
    """Return the options that give the cost of a device."""
    if metric.table:
        return ["--lut" if metric.name == LATENCY else "--also-lut", metric.table]
    if metric.predictor is None:
        return []
    file, key, column = [*metric.predictor.name.rsplit(":", 2), "KEY", "COLUMN"][:3]
    many, one = ("--latencies", "--latency") if metric.name == LATENCY else ("--energies", "--energy")
    return [many, file, f"{one}-key", key, f"{one}-column", column]


def changed(record: SearchRecord) -> Table:
    """Return a table of the settings that differ from the defaults."""
    defaults = _flat(type(record.config)())
    rows = [(name, text, _default(defaults, name)) for name, text in _flat(record.config).items()]
    return Table(
        caption="Settings that differ from the defaults",
        columns=columns("setting", "value", "default"),
        rows=[*_subject(record), *(row for row in rows if row[1] != row[2])],
    )


def _subject(record: SearchRecord) -> Iterator[tuple[str, str, str]]:
    yield "space", record.space, NOTHING
    if record.data:
        yield "data", record.data.name, NOTHING
    yield "accuracy", f"top-1 {record.judged}", NOTHING
    for metric in record.metrics:
        if metric.table:
            yield "table" if metric.name == LATENCY else f"table of {metric.name}", metric.table, NOTHING
    yield "input_size", f"{record.input_size} px", NOTHING


def _default(defaults: Mapping[str, str], name: str) -> str:
    """Return the default of a setting; of a nested record, the defaults of its fields."""
    inside = (
        f"{path.removeprefix(name + '.')} {text}" for path, text in defaults.items() if path.startswith(f"{name}.")
    )
    return defaults.get(name) or ", ".join(inside) or NOTHING


def everything(record: SearchRecord) -> Table:
    """Return a table of all settings of the search."""
    rows = list(_flat(record.config).items())
    return Table(caption="All settings of the search", columns=columns("setting", "value"), rows=rows)


def recipe(trained: Recipe) -> Table:
    """Return a table of all settings of the training of the best network."""
    rows = list(_flat(trained).items())
    return Table(caption="All settings of the training", columns=columns("setting", "value"), rows=rows)


def _flat(config: MethodConfig | Recipe) -> dict[str, str]:
    return dict(_leaves("", config.model_dump(mode="json")))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the paths and values of nested records."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, inner)
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if value not in (None, {}) else "none"
