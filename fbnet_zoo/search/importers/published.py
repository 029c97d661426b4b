"""From a table that others published to the table of accuracies that a search reads."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.search.importers.tables import TABLES, PublishedNetwork
from fbnet_zoo.search.oracle import TOP1, check_cost_name
from fbnet_zoo.space import load_space
from fbnet_zoo.space.encoding import Encoding, Positions

_Repeats = list[PublishedNetwork]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTable:
    """A table of accuracies.

    Attributes:
        space: name of the search space.
        credit: license and copyright of the figures.
        networks: number of networks.
        repeated: number of networks that were published several times; the table has their mean.
        columns: names of the cost columns.
        text: the table as CSV, for `fbnet_zoo.search.read_oracle`.
    """

    space: str
    credit: str
    networks: int
    repeated: int
    columns: tuple[str, ...]
    text: str


def import_table(name: str, path: Path) -> ImportedTable:
    """Convert a published table.

    Args:
        name: name of the table, one of `TABLES`.
        path: the published file.

    Raises:
        InputError: the table is unknown, or the file cannot be read or is not valid; the text gives file and place.
    """
    table = TABLES[name]
    encoding = Encoding(load_space(table.space))
    found: dict[Positions, _Repeats] = {}
    for network in table.read(path):
        found.setdefault(_positions(network, encoding), []).append(network)
    if not found:
        raise InputError(f"{path} has no networks; expected {table.title}")
    columns = tuple(_columns(network for repeats in found.values() for network in repeats))
    return ImportedTable(
        space=table.space,
        credit=table.credit,
        networks=len(found),
        repeated=sum(len(repeats) > 1 for repeats in found.values()),
        columns=columns,
        text=_written(encoding, found.items(), columns),
    )


def _positions(network: PublishedNetwork, encoding: Encoding) -> Positions:
    """Return the positions of a network, in canonical form; refuse options and figures that are not valid."""
    found = []
    for decision in encoding.decisions:
        option = network.options.get(decision.name, "nothing")
        if option not in decision.options:
            hint = did_you_mean(option, decision.options) or f"; expected {', '.join(decision.options)}"
            raise InputError(f"{network.where}: {decision.name} cannot be {option!r}{hint}")
        found.append(decision.options.index(option))
    if not 0 <= network.top1 <= 100:
        raise InputError(f"{network.where}: {TOP1} cannot be {network.top1:g}; expected percent, from 0 to 100")
    for name, cost in network.costs.items():
        check_cost_name(name, network.where)
        if cost is not None and not 0 <= cost < math.inf:
            raise InputError(f"{network.where}: {name} cannot be {cost:g}; expected a number that is not negative")
    return tuple(encoding.canonical([found])[0].tolist())


def _columns(networks: Iterable[PublishedNetwork]) -> Iterator[str]:
    """Yield the costs that are known of some network."""
    known: dict[str, bool] = {}
    for network in networks:
        for name, cost in network.costs.items():
            known[name] = known.get(name, False) or cost is not None
    yield from (name for name, is_known in known.items() if is_known)


def _written(encoding: Encoding, found: Iterable[tuple[Positions, _Repeats]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(decision.name for decision in encoding.decisions), TOP1, *columns])
    for positions, repeats in found:
        pairs = zip(encoding.decisions, positions, strict=True)
        options = [decision.options[position] for decision, position in pairs]
        costs = ([network.costs.get(name) for network in repeats] for name in columns)
        writer.writerow([*options, _mean([network.top1 for network in repeats]), *map(_mean, costs)])
    return text.getvalue()


def _mean(values: Sequence[float | None]) -> str:
    """Return the mean of the known values as text, to the last digit; nothing if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = known[0] if len(set(known)) == 1 else fmean(known)
    return str(int(mean)) if float(mean).is_integer() else repr(float(mean))
