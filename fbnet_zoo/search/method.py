"""The interface of search methods: a job goes in, networks come out; files, pages and devices are handled outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fbnet_zoo.search.effort import Effort
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
    """The result of a method.

    Attributes:
        networks: compared networks; within the limits first, then by accuracy.
        history: history records, in order.
        judged: how accuracy was determined, as words that follow "top-1".
        effort: epochs of training that successive halving saved, if networks were stopped early.
    """

    networks: tuple[NetworkRecord, ...]
    history: Sequence[HistoryRecord]
    judged: str
    effort: Effort | None = None

    @property
    def best(self) -> NetworkRecord:
        """The first of the networks."""
        return self.networks[0]

    @property
    def met(self) -> bool:
        """Whether the best network is within all limits."""
        return self.best.within_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a method receives beside its job.

    Attributes:
        encoding: encoding of the space, as returned by `Method.encoding`.
        costs: known costs, by name.
        folder: folder of the run, where a method logs its history and resumes from.
        processes: the cooperating processes.
        progress: to be called with every history record, in the main process.
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
    """A search method; its configuration is a separate class, see `fbnet_zoo.search.methods`."""

    def encoding(self, job: SearchJob) -> Encoding:
        """Return the encoding of the decisions that the method searches.

        Raises:
            InputError: the method cannot search this space.
        """

    def check(self, job: SearchJob, context: Context) -> None:
        """Refuse a job that cannot be run, before its folder is created.

        Raises:
            InputError: the job cannot be run.
        """

    def run(self, job: SearchJob, context: Context) -> SearchResult:
        """Search the space.

        Equal jobs give equal results on the same machine, even if resumed.

        Raises:
            InputError: an image cannot be read, or the folder holds another run.
            TrainingError: a value is NaN or infinite; the last good checkpoint is kept.
        """
