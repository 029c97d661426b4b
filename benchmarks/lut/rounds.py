"""Measuring files in rounds, so that slow drifts of a device affect all equally, with more rounds if they disagree.

Disturbances make runs slower, hardly ever faster, so only the fastest quarter of the runs of each file counts.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbnet_zoo import limits
from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.measure import WARMUP, Device, Measurement, ModelFile
from fbnet_zoo.errors import InputError
from fbnet_zoo.stats import Floats

MOST = 3
"""Maximum number of rounds, as a multiple of the requested number."""

SHARE = 4
"""One in `SHARE` runs counts."""

_ROUND_MS, _PROCESS_MS = 3000.0, 300.0
_FEWEST_RUNS, _MOST_RUNS = 20, 1000
_MACS_PER_MS, _CALL_MS = 1e7, 0.01

log = logging.getLogger(__name__)

Steps = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
"""Progress display: maps title and number of steps to a context that yields a callback for each step's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file to measure.

    Attributes:
        key: unique key; the file name without suffix.
        about: description for the user.
        macs: multiply-accumulates, which determine the number of runs.
        alone: whether it runs in its own process; all others run in turn in one process.
        write: function that writes the file.
    """

    key: str
    about: str
    macs: int
    alone: bool
    write: Callable[[], ModelFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Settings of a measurement in rounds.

    Attributes:
        count: minimum number of rounds.
        spread: largest accepted relative difference between the `count` fastest rounds.
        threads: number of threads.

    Raises:
        InputError: a number is out of range.
    """

    count: int = 5
    spread: float = 0.05
    threads: int = 1

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.count), ("threads", self.threads)):
            if value < 1:
                raise InputError(f"{name} cannot be {value}; expected at least 1")
        limits.check("threads", self.threads, "there are")
        if not self.spread > 0:
            raise InputError(f"spread cannot be {self.spread}; expected a number above 0, such as 0.05 for 5 %")

    def differ(self, measurements: Iterable[Measurement]) -> bool:
        """Return whether the `count` fastest rounds differ by more than `spread`."""
        lowest = sorted(float(np.median(least_disturbed([each]))) for each in measurements)[: self.count]
        return bool(lowest) and lowest[-1] > (1 + self.spread) * lowest[0]

    def wants(self, measurements: Sequence[Measurement]) -> bool:
        """Return whether another round is needed."""
        if len(measurements) < self.count:
            return True
        return len(measurements) < MOST * self.count and self.differ(measurements)


def least_disturbed(measurements: Iterable[Measurement]) -> Floats:
    """Return the fastest quarter of the runs, ms, in ascending order."""
    samples = np.sort(np.array([sample for each in measurements for sample in each.samples_ms], dtype=np.float64))
    return samples[: max(1, len(samples) // SHARE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A series of measurements on one device.

    Attributes:
        device: device to measure on.
        rounds: settings of the measurement.
        partial: store of all measurements, from which an interrupted session resumes.
        steps: progress display.
    """

    device: Device
    rounds: Rounds
    partial: Path
    steps: Steps

    def stored(self) -> tuple[Measurement, ...]:
        """Return the stored measurements.

        Raises:
            InputError: the store is invalid.
        """
        return store.read(self.partial) if self.partial.exists() else ()

    def measure(self, subjects: Sequence[Subject]) -> dict[str, Floats]:
        """Measure in rounds; each measurement is stored as soon as it is complete.

        Returns:
            Key of each subject to its fastest runs, ms, in ascending order.

        Raises:
            InputError: a file cannot be written, or the store is invalid.
            ConversionError: a subject cannot be written in the format.
            DeviceError: the device or its runtime failed.
            MissingExtraError: a library is not installed.
        """
        number, left = 0, self._left(subjects)
        files = self._written(left)
        while left:
            number += 1
            self._round(number, left, files)
            left = self._left(subjects)
        done = self._done()
        self._warn([each.about for each in subjects if self.rounds.differ(done[each.key])])
        return {each.key: least_disturbed(done[each.key]) for each in subjects}

    def _done(self) -> dict[str, list[Measurement]]:
        done: defaultdict[str, list[Measurement]] = defaultdict(list)
        for measurement in self.stored():
            done[measurement.model].append(measurement)
        return done

    def _left(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Return the subjects of the next round; those that run in turn all take part if one needs it."""
        done = self._done()
        wanting = {each.key for each in subjects if self.rounds.wants(done[each.key])}
        in_turn = any(each.key in wanting for each in subjects if not each.alone)
        return [each for each in subjects if (each.key in wanting if each.alone else in_turn)]

    def _written(self, subjects: Sequence[Subject]) -> dict[str, ModelFile]:
        """Write all files, and only then copy them to the device."""
        files = {}
        with self.steps("writing", len(subjects) + 1) as progress:
            for subject in subjects:
                progress(subject.about)
                files[subject.key] = subject.write()
        for file in files.values():
            self.device.push(file)
        return files

    def _round(self, number: int, subjects: Sequence[Subject], files: Mapping[str, ModelFile]) -> None:
        in_turn, alone = (tuple(each for each in subjects if each.alone is kind) for kind in (False, True))
        threads = self.rounds.threads
        with self.steps(f"round {number}", 1 + bool(in_turn) + len(alone)) as progress:
            if in_turn:
                progress(f"{len(in_turn)} files in turn")
                models, runs = [files[each.key] for each in in_turn], _runs(in_turn, _ROUND_MS)
                self._keep(self.device.run_in_turn(models, runs, WARMUP, threads))
            for subject in alone:
                progress(subject.about)
                runs = _runs([subject], _PROCESS_MS)
                warmup = max(WARMUP, runs // 10)
                self._keep([self.device.run(files[subject.key], (), runs, warmup, threads)])

    def _keep(self, measurements: Iterable[Measurement]) -> None:
        for measurement in measurements:
            store.append(self.partial, measurement)

    def _warn(self, unsteady: Sequence[str]) -> None:
        if unsteady:
            others = f" and {len(unsteady) - 1} more" if len(unsteady) > 1 else ""
            limit = f"{100 * self.rounds.spread:g} %"
            log.warning("rounds of %s%s differ by more than %s: the device is not idle", unsteady[0], others, limit)


def _runs(subjects: Iterable[Subject], total_ms: float) -> int:
    """Return the number of runs that take about `total_ms`, within limits."""
    expected_ms = sum(each.macs / _MACS_PER_MS + _CALL_MS for each in subjects)
    return int(min(max(total_ms / expected_ms, _FEWEST_RUNS), _MOST_RUNS))
