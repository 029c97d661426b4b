"""Going on where a series of measurements was interrupted."""

from collections import Counter
from collections.abc import Sequence

from fbnet_zoo.benchmarks.fleet import Task
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.errors import InputError

_Key = tuple[str, str, int, int, int]


def remaining(tasks: Sequence[Task], stored: Sequence[Measurement], device_id: str) -> tuple[Task, ...]:
    """Return the tasks that a device has still to do, in their order.

    A stored measurement stands for a task when it is of that device (`DeviceInfo.id`) and of a file with the same
    content, precision, threads, runs and warm-up; each stands for one, so a task that is there twice is done twice.

    Args:
        tasks: all that shall be measured.
        stored: what a store has, of any device.
        device_id: of the device that shall go on.

    Raises:
        InputError: a model cannot be read.
    """
    done = Counter(_key_of_measurement(each) for each in stored if each.device.id == device_id)
    left: list[Task] = []
    for task, key in zip(tasks, _keys(tasks), strict=True):
        if done[key]:
            done[key] -= 1
        else:
            left.append(task)
    return tuple(left)


def _keys(tasks: Sequence[Task]) -> list[_Key]:
    digests = {task.model.path: _digest(task.model) for task in tasks}
    return [(digests[task.model.path], task.model.precision, task.threads, task.runs, task.warmup) for task in tasks]


def _digest(model: ModelFile) -> str:
    try:
        return FileRecord.of(model.path).sha256
    except OSError as error:
        raise InputError(f"{model.path}: the model cannot be read: {error.strerror}") from error


def _key_of_measurement(measurement: Measurement) -> _Key:
    runs = len(measurement.samples_ms) * measurement.runs_per_sample
    return measurement.sha256, measurement.precision, measurement.threads, runs, measurement.warmup
