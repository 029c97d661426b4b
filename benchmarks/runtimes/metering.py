"""Counters of energy, read in the process that runs a model, as only it knows when its runs begin and end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """Counters of energy around a pause and the runs after it.

    Attributes:
        readings: values of all counters before the pause, between pause and runs, and after the runs.
        idle_s: duration of the pause, seconds.
        runs: number of runs.
        runs_s: their duration, seconds.
    """

    readings: Sequence[Sequence[int]]
    idle_s: float
    runs: int
    runs_s: float


def metered(run: Callable[[], object], counters: Sequence[str], seconds: float) -> Metered:
    """Read counters of energy before and after a pause, and after a model has run for as long as that.

    Args:
        run: runs the model once.
        counters: paths of the counters, which hold whole numbers.
        seconds: duration of the pause, and least duration of the runs.
    """
    readings, count = [_values(counters)], 0
    pausing = perf_counter_ns()
    sleep(seconds)
    readings.append(_values(counters))
    running = perf_counter_ns()
    while not count or perf_counter_ns() - running < seconds * 1e9:
        run()
        count += 1
    ended = perf_counter_ns()
    readings.append(_values(counters))
    return Metered(readings=readings, idle_s=(running - pausing) / 1e9, runs=count, runs_s=(ended - running) / 1e9)


def _values(paths: Sequence[str]) -> list[int]:
    return [int(Path(path).read_text(encoding="utf-8")) for path in paths]
