"""The base of all training loops: epochs with a metrics line each, checkpoints, and resuming from any step."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import Record
from fbnet_zoo.train.checkpoint import restore
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunFolder

RecordT = TypeVar("RecordT", bound=Record)


class LoopState(Protocol):
    """The state of a run: everything that the next step depends on.

    Attributes:
        step: number of steps made so far.
        total: number of steps of the whole run.
        place: epoch of the next step, from 0, and its position in that epoch.
    """

    step: int

    @property
    def total(self) -> int: ...
    @property
    def place(self) -> tuple[int, int]: ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""


class RunLoop(ABC, Generic[RecordT]):
    """A loop over epochs.

    Args:
        state: initial state of the run; a checkpoint in the folder is loaded into it.
        record: class of the epoch records; it has a field `step`.
        folder: run folder (default: nothing is written).
        checkpoint_steps: steps between checkpoints; there is always one after every epoch.
        processes: cooperating processes (default: one); only the main one reads and writes the folder.
    """

    def __init__(
        self,
        state: LoopState,
        record: type[RecordT],
        folder: RunFolder | None,
        *,
        checkpoint_steps: int,
        processes: Processes | None = None,
    ) -> None:
        self.loop_state, self.record, self.folder = state, record, folder
        self.checkpoint_steps, self.processes = checkpoint_steps, processes or Processes()

    @abstractmethod
    def make_steps(self, epoch: int, position: int) -> None:
        """Make the steps of an epoch from a position on, and call `after_step` after each."""

    @abstractmethod
    def settle(self) -> None:
        """Prepare the state for saving; raise `TrainingError` if it is not finite."""

    @abstractmethod
    def summarize(self, epoch: int, seconds: float) -> RecordT:
        """Return the record of an epoch (counted from 0) that just ended; called in the main process."""

    @abstractmethod
    def begin_epoch(self) -> None:
        """Reset the sums over the last epoch."""

    def run(
        self, progress: Callable[[RecordT], None] | None = None, *, until: int | None = None
    ) -> tuple[RecordT, ...]:
        """Run the remaining epochs; return the records of all epochs.

        Args:
            progress: called after every epoch, in the main process.
            until: number of epochs after which to stop, to be resumed (default: all).
        """
        done, started = self._resume(), time.perf_counter()
        while self.loop_state.step < self.loop_state.total and (until is None or len(done) < until):
            epoch, position = self.loop_state.place
            self.make_steps(epoch, position)
            done.append(self._finish(epoch, time.perf_counter() - started))
            if progress and self.processes.is_main:
                progress(done[-1])
        return tuple(done[:until])

    def after_step(self) -> None:
        """Count a step, and save if a checkpoint is due; the end of an epoch is saved with its record."""
        self.loop_state.step += 1
        if self.loop_state.step % self.checkpoint_steps == 0 and self.loop_state.place[1]:
            self.settle()
            self._save()

    def _resume(self) -> list[RecordT]:
        """Restore the checkpoint; return the records of the completed epochs."""
        if self.folder is None:
            return []
        saved = self.processes.on_main(self.folder.load)
        if saved is not None:
            restore(self.loop_state, saved, str(self.folder.checkpoint))
        return self.processes.on_main(partial(self._records, self.folder))

    def _records(self, folder: RunFolder) -> list[RecordT]:
        folder.forget_after(self.loop_state.step)
        done, completed = folder.read(self.record), self.loop_state.place[0]
        if len(done) != completed:
            raise InputError(
                f"{folder.metrics} has {len(done)} epochs, but {folder.checkpoint.name} {completed}; "
                "start again in another folder"
            )
        return list(done)

    def _finish(self, epoch: int, seconds: float) -> RecordT:
        """Log an epoch, save, and return its record."""
        self.settle()
        record = self.processes.on_main(partial(self._logged, epoch, seconds))
        self.begin_epoch()
        self._save()
        return record

    def _logged(self, epoch: int, seconds: float) -> RecordT:
        record = self.summarize(epoch, seconds)
        if self.folder is not None:
            self.folder.log(record.model_dump(mode="json"))
        return record

    def _save(self) -> None:
        if self.folder is not None:
            self.processes.on_main(partial(self._write, self.folder))

    def _write(self, folder: RunFolder) -> None:
        folder.save(self.loop_state.state_dict())
