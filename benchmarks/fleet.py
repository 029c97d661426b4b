"""Several devices at once: each works through the same models, in a queue of its own."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event, Lock

from fbnet_zoo.benchmarks.measure import RUNS, WARMUP, Device, Inputs, Measurement, ModelFile
from fbnet_zoo.errors import DeviceError, DeviceLostError, DeviceUnavailableError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One model and how to measure it, as `Device.run` takes it."""

    model: ModelFile
    inputs: Inputs = ()
    runs: int = RUNS
    warmup: int = WARMUP
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A measurement that did not come about.

    Attributes:
        device: the name that it was given.
        model: what should have been measured.
        error: why not.
    """

    device: str
    model: ModelFile
    error: DeviceError


def measure_all(
    devices: Mapping[str, Device],
    tasks: Sequence[Task] | Mapping[str, Sequence[Task]],
    record: Callable[[Measurement], None],
) -> tuple[Failure, ...]:
    """Measure every task on every device, the devices at the same time.

    A task that fails does not stop the others of its device, unless the device is gone. When anything else is raised,
    in `record` or by the user's interruption, every device stops after the task that it is at. Each is left clean.

    Args:
        devices: by any name, used in failures.
        tasks: done in this order by each; or for each device, by its name, those that it shall do.
        record: gets every measurement as soon as it is there, one at a time.

    Returns:
        What failed, device by device.
    """
    stop, lock = Event(), Lock()
    own_tasks = tasks if isinstance(tasks, Mapping) else dict.fromkeys(devices, tasks)

    def record_alone(measurement: Measurement) -> None:
        with lock:
            record(measurement)

    def work_through(name: str, device: Device) -> list[Failure]:
        try:
            return _queue(name, device, own_tasks[name], record_alone, stop)
        finally:
            _clean(name, device)

    with ThreadPoolExecutor(max_workers=max(1, len(devices))) as pool:
        # In copies of this context: the command line keeps in it where messages go.
        queues = [pool.submit(copy_context().run, work_through, name, device) for name, device in devices.items()]
        try:
            wait(queues, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    return tuple(failure for queue in queues for failure in queue.result())


def _queue(
    name: str, device: Device, tasks: Sequence[Task], record: Callable[[Measurement], None], stop: Event
) -> list[Failure]:
    failures: list[Failure] = []
    for position, task in enumerate(tasks):
        if stop.is_set():
            break
        try:
            record(device.run(task.model, task.inputs, task.runs, task.warmup, task.threads))
        except DeviceError as error:
            gone = isinstance(error, DeviceLostError | DeviceUnavailableError)
            failed = tasks[position:] if gone else [task]
            failures += [Failure(device=name, model=each.model, error=error) for each in failed]
            if gone:
                break
    return failures


def _clean(name: str, device: Device) -> None:
    try:
        device.cleanup()
    except DeviceError as error:
        log.warning("%s: could not be cleaned up: %s", name, error)
