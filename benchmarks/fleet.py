"""Measuring on several devices at once, each with its own queue of models."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from statistics import median
from threading import Event, Lock

from fbnet_zoo.benchmarks.measure import RUNS, WARMUP, Device, Inputs, Measurement, ModelFile
from fbnet_zoo.errors import DeviceError, DeviceLostError, DeviceUnavailableError
from fbnet_zoo.programs import Canceller

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelRun:
    """One model and the arguments of `Device.run` to measure it with; `energy` if its energy is measured too."""

    model: ModelFile
    inputs: Inputs = ()
    runs: int = RUNS
    warmup: int = WARMUP
    threads: int = 1
    energy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A measurement that failed.

    Attributes:
        device: name of the device, as given to `measure_all`.
        model: model that was to be measured.
        error: cause of the failure.
    """

    device: str
    model: ModelFile
    error: DeviceError


def measure_all(
    devices: Mapping[str, Device],
    tasks: Sequence[ModelRun] | Mapping[str, Sequence[ModelRun]],
    record: Callable[[Measurement], None],
) -> tuple[Failure, ...]:
    """Measure every task on every device, the devices in parallel.

    A failing task does not stop the other tasks of its device, unless the device is lost. On any other exception
    in `record`, every device stops after its current task; on an interrupt, at once. All devices are cleaned up.

    Args:
        devices: devices by name; the names appear in failures.
        tasks: tasks of all devices, in order, or a mapping from device name to its tasks.
        record: callback that receives each measurement as soon as it is complete, one at a time.

    Returns:
        The failures, grouped by device.
    """
    stop, lock, cancellers = Event(), Lock(), {name: Canceller() for name in devices}
    own_tasks = tasks if isinstance(tasks, Mapping) else dict.fromkeys(devices, tasks)

    def record_alone(measurement: Measurement) -> None:
        with lock:
            record(measurement)

    def work_through(name: str, device: Device) -> list[Failure]:
        try:
            with cancellers[name]:
                return _queue(name, device, own_tasks[name], record_alone, stop)
        finally:  # outside of the canceller: cleanup is not interrupted
            _clean(name, device)

    with ThreadPoolExecutor(max_workers=max(1, len(devices))) as pool:
        # In copies of this context: the command line stores the destination of log messages in it.
        queues = [pool.submit(copy_context().run, work_through, name, device) for name, device in devices.items()]
        try:
            wait(queues, return_when=FIRST_EXCEPTION)
        except BaseException:
            for canceller in cancellers.values():
                canceller.cancel()
            raise
        finally:
            stop.set()
    return tuple(failure for queue in queues for failure in queue.result())


def _queue(
    name: str, device: Device, tasks: Sequence[ModelRun], record: Callable[[Measurement], None], stop: Event
) -> list[Failure]:
    failures: list[Failure] = []
    for position, task in enumerate(tasks):
        if stop.is_set():
            break
        try:
            record(_measured(device, task))
        except DeviceError as error:
            gone = isinstance(error, DeviceLostError | DeviceUnavailableError)
            failed = tasks[position:] if gone else [task]
            failures += [Failure(device=name, model=each.model, error=error) for each in failed]
            if gone:
                break
    return failures


def _measured(device: Device, task: ModelRun) -> Measurement:
    meter = device.energy_meter() if task.energy else None  # before a measurement that it might refuse to complete
    timed = device.run(task.model, task.inputs, task.runs, task.warmup, task.threads)
    if meter is None:
        return timed
    energy = meter.measure(task.model, task.inputs, run_ms=median(timed.samples_ms), threads=task.threads)
    return timed.model_copy(update={"energy": energy})


def _clean(name: str, device: Device) -> None:
    try:
        device.cleanup()
    except DeviceError as error:
        log.warning("%s: cleanup failed: %s", name, error)
