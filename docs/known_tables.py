"""The part of the page of search results on tables of known accuracies, from figures in `docs/known_accuracies/`."""

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markdown_parts import filled, table

KNOWN = Path(__file__).parent / "known_accuracies"
_SHOWN = (20, 40, 60, 80, 100)


def known_accuracies() -> Iterator[str]:
    """Yield the paragraphs and tables about every file of figures."""
    yield "## On known accuracies"
    for path in sorted(KNOWN.glob("*.json")):
        yield from _section(json.loads(path.read_text(encoding="utf-8")))


def _section(found: dict[str, Any]) -> Iterator[str]:
    space, name, batch, regrets = (found[key] for key in ("space", "table", "batch", "regrets"))
    seeds = len(regrets[0]["points"])
    limits = [each["limits"] for each in regrets if each["method"] == regrets[0]["method"]]
    options = "".join(f" --limit {name}={value:g}" for each in limits for name, value in each.items())
    yield filled(f"""
        Published accuracies judge a search without any training of ours: Accel-NASBench (Ahmad et al., DAC 2024)
        trained thousands of networks of the space `{space}` on ImageNet. Here, {found["networks"]:,} of them are
        searched. The regret of a search is what its best network lacks to the best one of the table within the limit,
        in points; mean and standard deviation over {seeds} seeds, after so many evaluations. `chamnet` and `nars`
        evaluate {batch} networks before they fit their predictor again, and the first {batch} are random.""")
    yield f"""\
```console
fbnet-zoo oracle import accel-nasbench anb_dataset_jsons.tar.gz --out {name}
python -m fbnet_zoo.benchmarks.suites.known_accuracies {name} --space {space} \\
 {options} --out {space}.json
```"""
    titles = ("limit", "method", *(f"regret after {count}" for count in _SHOWN))
    yield table(titles, [_regret_row(each) for each in regrets])
    first = found["rankings"][0]
    yield filled(f"""
        The predictors alone: Spearman's rank correlation of predicted and known accuracies on all other networks of the
        table, after a fit to so many random ones; mean and standard deviation over {len(first["spearman"])} seeds.""")
    yield table(
        ("what the predictor sees", *(f"{count} networks" for count in first["samples"])),
        [_ranking_row(each) for each in found["rankings"]],
    )
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    yield f"Measured on {found['date'][:10]} with {versions}."


def _regret_row(found: dict[str, Any]) -> tuple[str, ...]:
    limits = " and ".join(f"`{name}` {value:g}" for name, value in found["limits"].items()) or "none"
    columns = [[row[found["evaluations"].index(count)] for row in found["points"]] for count in _SHOWN]
    return (limits, f"`{found['method']}`", *map(_spread, columns))


def _ranking_row(found: dict[str, Any]) -> tuple[str, ...]:
    return (found["features"], *(_spread(column) for column in zip(*found["spearman"], strict=True)))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
