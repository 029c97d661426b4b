"""The page of what searches found, from their records in `docs/searches/`."""

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.table import network_ms
from fbnet_zoo.search.record import NetworkRecord, SearchRecord, load_record
from fbnet_zoo.space import load_space
from fbnet_zoo.spec import ArchSpec
from markdown_table import table

SEARCHES = Path(__file__).parent / "searches"
AGAINST_RANDOM, DEVICES = "against_random", "devices"
TABLE_CLASSES = 100
"""Outputs of the classifier whose latency the published tables hold."""


def search_results_page() -> str:
    """Return the page: searches against random networks, and one space for two devices."""
    seeds = [load_record(path) for path in sorted((SEARCHES / AGAINST_RANDOM).glob("*.json"))]
    devices = [load_record(path) for path in sorted((SEARCHES / DEVICES).glob("*.json"))]
    parts = [_INTRODUCTION, *_against_random(seeds), *_specialised(devices)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


_INTRODUCTION = """\
# What searches find

Made by `make docs` from the records in `docs/searches/`, which `fbnet-zoo search` wrote."""


def _against_random(records: Sequence[SearchRecord]) -> Iterator[str]:
    first = records[0]
    data, limit = first.data, first.config.limits["latency"]
    random = [each.top1 for each in first.random]
    found = [record.trained.top1 for record in records if record.trained]
    improvements = [record.improvement for record in records if record.improvement is not None]
    recipe = first.trained.recipe if first.trained else None
    yield "## Against random networks"
    yield _filled(f"""
        "NAS evaluation is frustratingly hard" (Yang et al., arXiv:1912.12522) asks what a search adds to its space and
        to its training. Here is the space `{first.space}` with the images of `{data.name}`: {len(records)} searches by
        `{first.method}`, each with another seed, for at most {1000 * limit:g} us by the table
        `{first.metrics[0].table}`, and {len(random)} networks drawn evenly from those of the space that keep the same
        limit. All are trained alike, from scratch, {recipe.epochs if recipe else 0} epochs, on all
        {data.weights + data.theta:,} images; top-1 is of {data.held_out:,} held-out images, which no search sees.""")
    lut, epochs, seeds = first.metrics[0].table, recipe.epochs if recipe else 0, len(records)
    yield f"""```console
fbnet-zoo search --space {first.space} --data {data.name} --lut {lut} --target-latency {1000 * limit:g}us \\
  --batch-size 64 --train-epochs {epochs} --seeds {seeds} --random {len(random)} --out runs/against_random
```"""
    yield table(
        ("network", "latency, us", "MACs", "top-1, %", "over the average random one"),
        [*(_seed_row(record) for record in records), *(_random_row(first, random))],
    )
    better = sum(top1 < min(found) for top1 in random)
    yield _filled(f"""
        The relative improvement over the average random network is {_spread(improvements)} %,
        {min(improvements):+.2f} to {max(improvements):+.2f} %; {sum(each > 0 for each in improvements)} of
        {len(improvements)} searches beat the average, and the worst of them {better} of the {len(random)} random
        networks. Those are cheaper on average: using the whole limit is part of what a search does. A search took
        {statistics.fmean(record.seconds for record in records) / 60:.0f} minutes on one core while other work ran.
        {_budget(records)}

        {_made(records)}""")


def _budget(records: Sequence[SearchRecord]) -> str:
    best = max(each.top1 for each in records[0].random)
    found = [record.trained.top1 for record in records if record.trained]
    verdict = "above" if statistics.fmean(found) > best else "not above"
    return (
        f"Random search that trains all {len(records[0].random)} of its networks and keeps the one that does best on "
        f"the held-out images themselves, which is more than it may know, comes to {best:.2f} %; the mean of the "
        f"searches, {statistics.fmean(found):.2f} %, is {verdict} that."
    )


def _seed_row(record: SearchRecord) -> tuple[str, ...]:
    top1 = f"{record.trained.top1:.2f}" if record.trained else ""
    over = "" if record.improvement is None else f"{record.improvement:+.2f} %"
    return (f"found, seed {record.config.seed}", *_costs(record.best), top1, over)


def _random_row(record: SearchRecord, random: Sequence[float]) -> Iterator[tuple[str, ...]]:
    latencies = [1000 * each.costs["latency"] for each in record.random]
    macs = [each.costs["macs"] / 1e6 for each in record.random]
    spread = f"{_spread(random)} ({min(random):.2f} to {max(random):.2f})"
    yield (f"{len(random)} random ones", _spread(latencies, 1), f"{_spread(macs)} M", spread, "")


def _costs(network: NetworkRecord) -> tuple[str, str]:
    return f"{1000 * network.costs['latency']:.1f}", f"{network.costs['macs'] / 1e6:.2f} M"


def _filled(text: str) -> str:
    """Return paragraphs whose lines are of equal length."""
    paragraphs = (" ".join(each.split()) for each in text.strip().split("\n\n"))
    wrapped = (textwrap.fill(each, 120, break_long_words=False, break_on_hyphens=False) for each in paragraphs)
    return "\n\n".join(wrapped)


def _spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def _specialised(records: Sequence[SearchRecord]) -> Iterator[str]:
    tables = [record.metrics[0].table or "" for record in records]
    first = records[0]
    networks = [load_space(record.space).decode(record.best.choices) for record in records]
    yield "## One space, two devices"
    yield _filled(f"""
        The space `{first.space}` with the images of `{first.data.name}`, searched for
        {" and for ".join(f"`{name}`" for name in tables)} (see [latency tables](latency_tables.md)), each with a limit
        of its own:""")
    yield f"```console\n{chr(10).join(_command(record) for record in records)}\n```"
    header = ("searched for", *(f"ms on `{name}`" for name in tables), "MACs", "top-1, %")
    rows = zip(records, networks, strict=True)
    yield table(header, [_device_row(record, network, tables) for record, network in rows])
    layers = [layer.name for layer in load_space(first.space).layers if len(layer.ops) > 1]
    yield "What they chose:"
    chosen = [[each.candidate or "" for each in record.best.choices.layers] for record in records]
    kept = [at for at, layer in enumerate(load_space(first.space).layers) if len(layer.ops) > 1]
    yield table(
        ("layer", *(f"for `{name}`" for name in tables)),
        [(name, *(f"`{each[at]}`" for each in chosen)) for name, at in zip(layers, kept, strict=True)],
    )
    own, other = (_times(network, tables) for network in networks)
    yield _filled(f"""
        Each is faster on the device that it was searched for than the other one: {other[0] / own[0]:.2f} times on
        `{tables[0]}`, {own[1] / other[1]:.2f} times on `{tables[1]}`. The held-out images are
        {first.data.held_out:,}: one of them is {100 / first.data.held_out:.2f} %, and the standard error of 98 % is
        {100 * (0.98 * 0.02 / first.data.held_out) ** 0.5:.2f} %.

        {_made(records)}""")


def _times(network: ArchSpec, tables: Sequence[str]) -> list[float]:
    return [network_ms(find_table(name), network, num_classes=TABLE_CLASSES) for name in tables]


def _device_row(record: SearchRecord, network: ArchSpec, tables: Sequence[str]) -> tuple[str, ...]:
    times = _times(network, tables)
    top1 = f"{record.trained.top1:.2f}" if record.trained else ""
    macs = f"{record.best.costs['macs'] / 1e6:.1f} M"
    return (f"`{record.metrics[0].table}`", *(f"{each:.2f}" for each in times), macs, top1)


def _command(record: SearchRecord) -> str:
    limit, name, epochs = record.config.limits["latency"], record.metrics[0].table, record.config.epochs
    training = f" --train-epochs {record.trained.recipe.epochs}" if record.trained else ""
    return (
        f"fbnet-zoo search --space {record.space} --data {record.data.name} --lut {name} --table-classes "
        f"{TABLE_CLASSES} \\\n  --target-latency {limit:g}ms --epochs {epochs}{training} --out runs/{name}"
    )


def _made(records: Sequence[SearchRecord]) -> str:
    days = sorted({f"{record.date:%Y-%m-%d}" for record in records})
    versions = ", ".join(f"{name} {version}" for name, version in records[0].versions.items())
    return f"Searched on {' and '.join(days)} with {versions}, on a virtual machine with two cores."
