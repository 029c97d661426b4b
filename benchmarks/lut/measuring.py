"""Measuring the latency table of a search space: every operator alone, and whole networks to calibrate their sums.

A file with a single operator takes longer than the operator does in a network: it includes the call of the runtime and
the layout conversion of input and output. This overhead is measured for every shape, with files of one and of two
depthwise 1x1 convolutions: twice the first time minus the second is the time without layers. Half of the overhead is
subtracted for the shape of the operator's input, half for that of its output. The files run in turn, so that weights
are no more likely to be cached than in a network.

A compiler's estimate is deterministic and covers only the layers: nothing is subtracted, and one run is enough.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fbnet_zoo import registry
from fbnet_zoo.benchmarks.lut.operator_files import Writer
from fbnet_zoo.benchmarks.lut.rounds import Rounds, Session, Steps, Subject
from fbnet_zoo.benchmarks.measure import Device, Measurement, limits_khz
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.latency.calibration import calibrate
from fbnet_zoo.latency.operator_costs import operator_cost
from fbnet_zoo.latency.operators import Operator, network_operators
from fbnet_zoo.latency.table import LatencyTable, OperatorLatency, build_table
from fbnet_zoo.space import Space
from fbnet_zoo.space.operators import space_operators
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.stats import Floats

_DIGITS = 7
"""Decimal places of times in ms; no clock is more precise."""

_LEAST_MS = 10.0**-_DIGITS
"""Time of an operator that is not distinguished from a file without it; nothing takes no time at all."""

_Shape = tuple[int, int]
"""Channels, and side in px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLatency:
    """Latency of a whole network, measured (or estimated) and predicted.

    Attributes:
        network: network name.
        measured_ms: median of the measured runs.
        sum_ms: sum over its operators.
        predicted_ms: sum after the table's correction.
    """

    network: str
    measured_ms: float
    sum_ms: float
    predicted_ms: float


def held_out(space: Space, count: int) -> tuple[ArchSpec, ...]:
    """Return `count` random networks of a space and its members in the zoo, without duplicates."""
    drawn = [space.decode(space.sample(seed)) for seed in range(count)]
    zoo = [spec for spec in map(registry.get_spec, registry.bundled()) if _is_in(space, spec)]
    return tuple({network_operators(spec): spec for spec in (*drawn, *zoo)}.values())


def _is_in(space: Space, spec: ArchSpec) -> bool:
    try:
        space.encode(spec)
    except InputError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class TableJob:
    """The measurements for a table.

    Attributes:
        name: table name.
        space: search space whose operators are measured.
        num_classes: number of outputs of the classifier.
        networks: networks of the space to calibrate the sums with; empty for a table without calibration.
        writer: writer of the model files.
        rounds: settings of the measurement.
        kind: kind of the figures; estimates are deterministic.
    """

    name: str
    space: Space
    num_classes: int
    networks: Sequence[ArchSpec]
    writer: Writer
    rounds: Rounds
    kind: Literal["measured", "estimate"] = "measured"

    def measure(self, device: Device, partial: Path, steps: Steps) -> tuple[LatencyTable, tuple[NetworkLatency, ...]]:
        """Measure operators and networks together, in rounds.

        Args:
            device: device to measure on.
            partial: store of all measurements, from which an interrupted run resumes.
            steps: progress display.

        Raises:
            InputError: an operator cannot be built, a file cannot be written, or the stored settings differ.
            ConversionError: an operator or a network cannot be written in the format.
            DeviceError: the device or its runtime failed.
            MissingExtraError: a library is not installed.
        """
        session = Session(device=device, rounds=self.rounds, partial=partial, steps=steps)
        self._check_stored(session)
        found = session.measure(tuple(self.subjects()))
        table = self._table(found, session.stored()[-1])
        measured = [float(np.median(found[_network_key(spec)])) for spec in self.networks]
        sums = [table.sum_ms(network_operators(spec, num_classes=self.num_classes)) for spec in self.networks]
        if measured:
            table = table.model_copy(update={"calibration": calibrate(sums, measured)})
        return table, tuple(
            NetworkLatency(
                network=spec.name, measured_ms=time_ms, sum_ms=sum_ms, predicted_ms=table.corrected_ms(sum_ms)
            )
            for spec, time_ms, sum_ms in zip(self.networks, measured, sums, strict=True)
        )

    @functools.cached_property
    def operators(self) -> tuple[Operator, ...]:
        """Operators that take time in any network of the space, and further ones of `networks`."""
        networks = (network_operators(spec, num_classes=self.num_classes) for spec in self.networks)
        others = (each for network in networks for each in network if not each.is_free)
        return tuple(dict.fromkeys((*space_operators(self.space, num_classes=self.num_classes), *others)))

    def subjects(self) -> Iterator[Subject]:
        """Yield everything to measure: the operators, then the overhead of each shape, then the networks."""
        for operator in self.operators:
            key = _operator_key(operator)
            macs = operator_cost(operator).macs
            write = functools.partial(self.writer.operator, operator, key)
            yield Subject(key=key, about=str(operator), macs=macs, alone=self._is_estimate, write=write)
        shapes = dict.fromkeys(shape for operator in self.operators for shape in _shapes(operator))
        for channels, size in () if self._is_estimate else shapes:
            for count in (1, 2):
                key = _layers_key(count, (channels, size))
                about = f"{count} of the cheapest layers, {channels}->{channels}, {size} px"
                write = functools.partial(self.writer.layers, count, channels, size, key)
                yield Subject(key=key, about=about, macs=count * channels * size**2, alone=False, write=write)
        for spec in self.networks:
            key = _network_key(spec)
            write = functools.partial(self.writer.network, spec, key, num_classes=self.num_classes)
            yield Subject(key=key, about=f"network {spec.name}", macs=cost(spec).macs, alone=True, write=write)

    @property
    def _is_estimate(self) -> bool:
        return self.kind == "estimate"

    def _check_stored(self, session: Session) -> None:
        """Refuse to resume from measurements of another device or with other settings."""
        asked = (self.writer.target, self.writer.precision, self.rounds.threads)
        for each in session.stored():
            found = (each.target, each.precision, each.threads)
            if found != asked or each.device.id != session.device.info().id:
                stored = f"{session.partial} has target {found[0]}, precision {found[1]}, threads {found[2]} on device "
                raise InputError(f"{stored}{each.device.id}; use the same settings and device, or delete it")

    def _table(self, found: "_Found", last: Measurement) -> LatencyTable:
        return build_table(
            self.name,
            name=self.name,
            device=last.device,
            runtime=last.runtime,
            precision=last.precision,
            threads=None if self._is_estimate else last.threads,
            limits_khz=limits_khz(last.before),
            kind=self.kind,
            source=self._estimate_source(last) if self._is_estimate else self._source(),
            date=last.date,
            versions=last.versions,
            operators=tuple(
                _estimate(operator, found) if self._is_estimate else _figures(operator, found)
                for operator in self.operators
            ),
        )

    def _estimate_source(self, last: Measurement) -> str:
        return (
            f"fbnet-zoo lut measure: the operators of the search space {self.space.name} with {self.num_classes} "
            f"classes, each alone in a file; estimates of {last.runtime} for {last.device.model} "
            f"({last.device.system}), without hardware."
        )

    def _source(self) -> str:
        return (
            f"fbnet-zoo lut measure: the operators of the search space {self.space.name} with {self.num_classes} "
            f"classes, each alone in a file; statistics of the fastest quarter of the runs in at least "
            f"{self.rounds.count} rounds, minus the time of a file of the same shapes without the operator."
        )


_Found = Mapping[str, Floats]


def _estimate(operator: Operator, found: _Found) -> OperatorLatency:
    (estimate,) = found[_operator_key(operator)]
    return OperatorLatency(operator=operator, median_ms=max(_LEAST_MS, round(float(estimate), _DIGITS)))


def _figures(operator: Operator, found: _Found) -> OperatorLatency:
    samples = found[_operator_key(operator)]
    nothing = sum(_without_layers_ms(shape, found) for shape in _shapes(operator)) / 2
    own = [
        round(max(_LEAST_MS, float(each) - nothing), _DIGITS)
        for each in (samples[0], *np.percentile(samples, (10, 50, 90)))
    ]
    return OperatorLatency(
        operator=operator, minimum_ms=own[0], p10_ms=own[1], median_ms=own[2], p90_ms=own[3], samples=len(samples)
    )


def _without_layers_ms(shape: _Shape, found: _Found) -> float:
    one, two = (float(np.median(found[_layers_key(count, shape)])) for count in (1, 2))
    return min(one, max(0.0, 2 * one - two))


def _shapes(operator: Operator) -> tuple[_Shape, _Shape]:
    """Return the shapes of input and output."""
    return (operator.in_channels, operator.input_size), (operator.out_channels, operator.output_size)


def _operator_key(operator: Operator) -> str:
    return f"operator_{_digest(operator.model_dump_json(exclude_defaults=True))}"


def _layers_key(count: int, shape: _Shape) -> str:
    return f"layers_{count}_{shape[0]}_{shape[1]}"


def _network_key(spec: ArchSpec) -> str:
    return f"network_{spec.name}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
