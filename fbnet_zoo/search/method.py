"""What a method of search is: a job goes in, networks come out; files, pages and devices are not its business."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fbnet_zoo.search.history import HistoryRecord
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.limits import Costs
from fbnet_zoo.search.networks import NetworkRecord
from fbnet_zoo.space.encoding import Encoding
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder

Progress = Callable[[HistoryRecord], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a method found.

    Attributes:
        networks: those that were compared; within the limits first, then by accuracy.
        history: what it wrote down, in order.
        judged: how accuracies were found, in words that follow "top-1".
    """

    networks: tuple[NetworkRecord, ...]
    history: Sequence[HistoryRecord]
    judged: str

    @property
    def best(self) -> NetworkRecord:
        """The first of the networks."""
        return self.networks[0]

    @property
    def met(self) -> bool:
        """Whether the best network keeps all limits."""
        return self.best.within_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a method is given beside its job.

    Attributes:
        encoding: of the space, as `Method.encoding` returned it.
        costs: what networks cost, by name.
        folder: of the run; a method logs its history there, and resumes from what it finds.
        processes: that search together.
        progress: to be called with every record of the history, in the main process.
    """

    encoding: Encoding
    costs: Costs
    folder: RunFolder
    processes: Processes
    progress: Progress

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.folder.path


class Method(Protocol):
    """A method of search. Its configuration is a class of its own: see `fbnet_zoo.search.methods`."""

    def encoding(self, job: SearchJob) -> Encoding:
        """Return the decisions that it searches.

        Raises:
            InputError: the method cannot search this space.
        """

    def check(self, job: SearchJob, costs: Costs) -> None:
        """Refuse a job that cannot be done, before there is a folder.

        Raises:
            InputError: always then.
        """

    def run(self, job: SearchJob, context: Context) -> SearchResult:
        """Search.

        Equal jobs give equal results on the same machine, also after a resume.

        Raises:
            InputError: an image cannot be read, or the folder holds something else.
            TrainingError: a value became NaN or infinite; the last good checkpoint stays.
        """
