"""Known accuracies for searches that evaluate networks one by one, and what such a search is given."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.evaluator import Evaluations, Evaluator
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Costs
from fbnet_zoo.search.oracle import Oracle, read_oracle
from fbnet_zoo.space import Space
from fbnet_zoo.space.encoding import Encoding, Positions
from fbnet_zoo.space.files import parse
from fbnet_zoo.train import Recipe
from fbnet_zoo.train.run_folder import RunFolder
from tests.helpers.search_spaces import TWINS


def twins() -> Encoding:
    """Four layers of six blocks: 1,296 networks."""
    return Encoding(parse(TWINS, "twins.yaml"))


def accuracy(positions: Sequence[int]) -> float:
    """Return an accuracy to which every decision adds its own share; that of no other network of four layers."""
    shares = ((2 * at + 5 * position) % 6 * math.sqrt(2 + at) for at, position in enumerate(positions))
    return 50 + sum(shares) / 4


def energy(positions: Sequence[int]) -> float:
    """Return a cost that is against the accuracy in the first two decisions."""
    return 1.0 + sum((5 - position) * 0.5 for position in positions[:2])


def table(encoding: Encoding, rows: Iterable[Positions], **columns: Callable[[Positions], float]) -> str:
    """Return a table of networks with `accuracy`, and columns of costs."""
    text, names = io.StringIO(), [decision.name for decision in encoding.decisions]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "top1", *columns])
    for row in rows:
        pairs = zip(encoding.decisions, row, strict=True)
        options = [decision.options[position] for decision, position in pairs]
        writer.writerow([*options, accuracy(row), *(column(row) for column in columns.values())])
    return text.getvalue()


def oracle(path: Path, encoding: Encoding, rows: Iterable[Positions]) -> Oracle:
    """Return the table of some networks, with a column `energy`, read from a file."""
    path.write_text(table(encoding, rows, energy=energy))
    return read_oracle(path, encoding)


@dataclass(kw_only=True)
class Known:
    """An evaluator of all networks by `accuracy`, which notes what it was asked."""

    candidates: None = None
    about: str = "by a formula"
    asked: list[Positions] = field(default_factory=list)

    def top1(self, networks: Sequence[Positions]) -> list[float]:
        self.asked += networks
        return [accuracy(network) for network in networks]


def evaluations(evaluator: Evaluator, folder: Path, encoding: Encoding, costs: Costs | None = None) -> Evaluations:
    """Return what a method evaluates networks with."""
    folder.mkdir(exist_ok=True)
    return Evaluations(
        encoding=encoding, costs=costs or {}, evaluator=evaluator, folder=RunFolder(folder), progress=lambda _: None
    )


def oracle_job(config: MethodConfig, known: Oracle, space: Space | None = None) -> SearchJob:
    """Return a search without images."""
    space = space or known.encoding.space
    return SearchJob(space=space, dataset=None, config=config, recipe=Recipe(), batch_size=1, oracle=known)
