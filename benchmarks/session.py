"""Resuming an interrupted series of measurements."""

from collections import Counter
from collections.abc import Sequence

from fbnet_zoo.benchmarks.context import file_record
from fbnet_zoo.benchmarks.fleet import ModelRun
from fbnet_zoo.benchmarks.measure import Measurement

_Key = tuple[str, str, int, int, int]


def remaining(tasks: Sequence[ModelRun], stored: Sequence[Measurement], device_id: str) -> tuple[ModelRun, ...]:
    """Return the tasks that a device has yet to run, in order.

    A stored measurement completes one task if its device ID (`DeviceInfo.id`), file content, precision, threads, runs
    and warm-up match, and if it has the energy of a task that asks for it; a task that is listed twice needs two
    measurements.

    Args:
        tasks: all tasks.
        stored: measurements stored so far, of any device.
        device_id: ID of the device that resumes.

    Raises:
        InputError: a model cannot be read.
    """
    own = [each for each in stored if each.device.id == device_id]
    done = {metered: Counter(map(_key_of_measurement, _having(own, metered=metered))) for metered in (False, True)}
    left: list[ModelRun] = []
    for task, key in zip(tasks, _keys(tasks), strict=True):
        found = next((each for metered, each in done.items() if each[key] and (metered or not task.energy)), None)
        if found is None:
            left.append(task)
        else:
            found[key] -= 1
    return tuple(left)


def _having(stored: Sequence[Measurement], *, metered: bool) -> list[Measurement]:
    """Return the measurements with, or without, energy."""
    return [each for each in stored if (each.energy is not None) is metered]


def _keys(tasks: Sequence[ModelRun]) -> list[_Key]:
    digests = {path: file_record(path).sha256 for path in {task.model.path for task in tasks}}
    return [(digests[task.model.path], task.model.precision, task.threads, task.runs, task.warmup) for task in tasks]


def _key_of_measurement(measurement: Measurement) -> _Key:
    runs = len(measurement.samples_ms) * measurement.runs_per_sample
    return measurement.sha256, measurement.precision, measurement.threads, runs, measurement.warmup
