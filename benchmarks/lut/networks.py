"""Measuring whole networks on the device of a latency table, to evaluate its predictions."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.lut.operator_files import Writer
from fbnet_zoo.benchmarks.lut.rounds import Rounds, Session, Steps, Subject
from fbnet_zoo.benchmarks.measure import Device, limits_khz
from fbnet_zoo.complexity import cost
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.converters.targets import RUNTIMES
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.latency.table import LatencyTable, network_ms
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.stats import Floats

_PRECISIONS: dict[str, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}

_STORE = "measurements.jsonl"


def is_of(table: LatencyTable, device: Device) -> bool:
    """Return whether a table was measured on a device, with a runtime that is available here.

    Computers are the same if their processors are of one model with as many cores: a virtual machine has a new name
    every time.
    """
    known = table.kind == "measured" and table.runtime in RUNTIMES and table.precision in _PRECISIONS
    return known and _is_same(table.device, device.info())


def _is_same(one: DeviceInfo, other: DeviceInfo) -> bool:
    if one.id == other.id:
        return True
    alike = (one.kind, one.soc, one.cores, one.abis) == (other.kind, other.soc, other.cores, other.abis)
    return alike and one.kind == "host" and one.soc is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The latency of a network, as measured now and by a table.

    Attributes:
        measured_ms: latency now.
        predicted_ms: latency by the table.
        limits_khz: highest frequency that the system now allows each group of cores, if known.
    """

    measured_ms: float
    predicted_ms: float
    limits_khz: tuple[int, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times as long as by the table the network takes."""
        return self.measured_ms / self.predicted_ms


def device_speed(
    table: LatencyTable, network: ArchSpec, device: Device, folder: Path, steps: Steps, *, num_classes: int
) -> Speed:
    """Measure a network once, to see whether the device is as fast as when the table was measured.

    Arguments and errors are those of `network_samples`.
    """
    samples = network_samples(table, [network], device, folder, steps, num_classes=num_classes, rounds=1)
    state = store.read(folder / _STORE)[-1].before
    return Speed(
        measured_ms=float(np.median(samples[network.name])),
        predicted_ms=network_ms(table, network, num_classes=num_classes),
        limits_khz=limits_khz(state),
    )


def network_samples(
    table: LatencyTable,
    networks: Sequence[ArchSpec],
    device: Device,
    folder: Path,
    steps: Steps,
    *,
    num_classes: int,
    rounds: int = 3,
) -> dict[str, Floats]:
    """Measure whole networks with random weights, like the networks of the table's calibration.

    Args:
        table: latency table, which defines runtime, precision and threads.
        networks: networks with distinct names.
        device: device of the table.
        folder: folder of the files and measurements, from which an interrupted run resumes.
        steps: progress display.
        num_classes: number of outputs of the classifiers.
        rounds: minimum number of processes in which each network runs (default: 3).

    Returns:
        Network name to its fastest runs, ms, in ascending order.

    Raises:
        InputError: the table belongs to another device, or its runtime is not available here.
        ConversionError: a network cannot be written in the format.
        DeviceError: the device or its runtime failed.
        MissingExtraError: a library is not installed.
    """
    if not is_of(table, device) or table.runtime is None or table.precision is None:
        raise InputError(
            f"the latency table {table.name} was not measured on this {device.info().kind} with a runtime of "
            "'fbnet-zoo lut measure'; measure a table there, or omit the measurement"
        )
    folder.mkdir(parents=True, exist_ok=True)
    target, precision = RUNTIMES[table.runtime].target, _PRECISIONS[table.precision]
    writer = Writer(target=target, precision=precision, frame=networks[0], folder=folder)
    settings = Rounds(count=rounds, spread=1.0, threads=table.threads or 1)
    session = Session(device=device, rounds=settings, partial=folder / _STORE, steps=steps)
    return session.measure([_subject(writer, spec, num_classes) for spec in networks])


def _subject(writer: Writer, spec: ArchSpec, num_classes: int) -> Subject:
    write = functools.partial(writer.network, spec, spec.name, num_classes=num_classes)
    return Subject(key=spec.name, about=f"network {spec.name}", macs=cost(spec).macs, alone=True, write=write)
