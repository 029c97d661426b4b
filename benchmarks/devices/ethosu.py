"""Arm's Ethos-U as a device: what its compiler, Vela, counts of a file. No hardware takes part, so all is an estimate.

Vela adds up, layer by layer, the cycles of the slowest of the arithmetic and the memories. That is exact: it says the
same of a file each time.
"""

import configparser
import csv
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fbnet_zoo._require import quiet, require
from fbnet_zoo.benchmarks.context import commit, versions
from fbnet_zoo.benchmarks.measure import RUNS, WARMUP, Device, DeviceState, Inputs, Measurement, ModelFile, check_counts
from fbnet_zoo.converters.manifest import FileRecord
from fbnet_zoo.errors import InputError, MissingKernelError, ModelFileError, UnknownNameError, did_you_mean
from fbnet_zoo.latency.device import DeviceInfo

EXTRA = "ethosu"
DEFAULT = "ethos-u55-128"

_PACKAGE, _CONFIGURATIONS = "ethos-u-vela", "Arm/vela.ini"
_USUAL = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_Embedded", "Shared_Sram"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Sram_Only"),
}
"""Clock, memories and what lies where, by the family. All keep images in SRAM at the ends of a file as between layers:
elsewhere they lie in DRAM at the ends, and the operators of a network, each alone in a file, take more than it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What Vela compiles for.

    Attributes:
        accelerator: family, and multiply-accumulates in one cycle.
        system: its name for clock and speed of memories.
        memory: its name for what lies in which memory.
        clock_hz: of the accelerator.
    """

    accelerator: str
    system: str
    memory: str
    clock_hz: float

    @classmethod
    def find(cls, accelerator: str = DEFAULT, system: str | None = None, memory: str | None = None) -> "Configuration":
        """Return what Vela knows under these names.

        Args:
            accelerator: as `ethos-u85-256`.
            system: as `Ethos_U85_SYS_Flash_High`; usual for the family if not said.
            memory: as `Shared_Sram`; likewise.

        Raises:
            UnknownNameError: Vela has no such name; the text lists those it has.
            MissingExtraError: Vela is not installed.
        """
        features: Any = require("ethosu.vela.architecture_features", extra=EXTRA)
        _check("accelerator", accelerator, [each.value for each in features.Accelerator])
        family = accelerator.rpartition("-")[0]
        usual_system, usual_memory = _USUAL[family]
        file = configparser.ConfigParser()
        file.read(Path(features.CONFIG_FILES_PATH, _CONFIGURATIONS))
        systems, memories = (_named(file, kind) for kind in ("System_Config", "Memory_Mode"))
        system, memory = system or usual_system, memory or usual_memory
        _check("system configuration", system, [name for name in systems if name.startswith(_prefix(family))])
        _check("memory mode", memory, memories)
        clock_hz = file.getfloat(f"System_Config.{system}", "core_clock")
        return cls(accelerator=accelerator, system=system, memory=memory, clock_hz=clock_hz)

    def info(self) -> DeviceInfo:
        """Return it as a device."""
        return DeviceInfo(
            kind="ethosu",
            id=f"{self.accelerator}/{self.system}/{self.memory}",
            manufacturer="Arm",
            model=self.accelerator.replace("ethos-u", "Ethos-U"),
            system=f"{self.system}, {self.memory}, {self.clock_hz / 1e6:g} MHz",
        )

    def arguments(self) -> Iterator[str]:
        """Yield what Vela is told."""
        yield f"--config={_CONFIGURATIONS}"
        yield f"--accelerator-config={self.accelerator}"
        yield f"--system-config={self.system}"
        yield f"--memory-mode={self.memory}"


def _named(file: configparser.ConfigParser, kind: str) -> list[str]:
    return [section.removeprefix(f"{kind}.") for section in file.sections() if section.startswith(f"{kind}.")]


def _prefix(family: str) -> str:
    """Return how the names of a family's system configurations begin."""
    return family.title().replace("-", "_")


def _check(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known) or ""
        raise UnknownNameError(f"Vela knows no {what} {name!r}{hint}; there are {', '.join(known)}")


class EthosUDevice(Device):
    """An Ethos-U that is not there. Its files are in int8, of TensorFlow Lite.

    Args:
        configuration: what Vela compiles for.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def info(self) -> DeviceInfo:
        return self._configuration.info()

    def push(self, model: ModelFile) -> None:
        """Do nothing: there is nowhere to put it."""

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        """Return the estimate of a file, once: there are no runs that could differ.

        Raises:
            ModelFileError: Vela cannot compile it.
            MissingKernelError: Vela leaves a layer to another processor, of which it knows no time.
            MissingExtraError: Vela is not installed.
            InputError: a number is out of its range, or the file cannot be read.
        """
        check_counts(runs=runs, warmup=warmup, threads=threads)
        with tempfile.TemporaryDirectory() as folder:
            self._compile(model.path, Path(folder))
            inference_ms = _inference_ms(Path(folder))
        record, compiler = FileRecord.of(model.path), version(_PACKAGE)
        return Measurement(
            model=model.name,
            file=record.file,
            sha256=record.sha256,
            size=record.size,
            target=model.target,
            precision=model.precision,
            runtime=f"vela {compiler}",
            device=self.info(),
            threads=1,
            warmup=0,
            samples_ms=(inference_ms,),
            before=DeviceState(),
            after=DeviceState(),
            throttled=False,
            versions={**versions(), _PACKAGE: compiler},
            commit=commit(),
            date=datetime.now(UTC),
        )

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Write Vela's estimate of each layer, CSV.

        Raises:
            ModelFileError: Vela cannot compile the file.
            MissingKernelError: Vela leaves a layer to another processor.
            MissingExtraError: Vela is not installed.
            InputError: a number is out of its range, or a file cannot be read or written.
        """
        check_counts(runs=runs, threads=threads)
        with tempfile.TemporaryDirectory() as folder:
            self._compile(model.path, Path(folder), "--verbose-performance")
            (layers,) = Path(folder).glob("*_per-layer.csv")
            try:
                out.write_bytes(layers.read_bytes())
            except OSError as error:
                raise InputError(f"{out}: the profile cannot be written: {error.strerror}") from error

    def cleanup(self) -> None:
        """Do nothing: nothing was put anywhere."""

    def _compile(self, file: Path, folder: Path, *more: str) -> None:
        vela: Any = require("ethosu.vela.vela", extra=EXTRA)
        if not file.is_file():
            raise InputError(f"{file}: the model cannot be read: there is no such file")
        arguments = [str(file), f"--output-dir={folder}", *self._configuration.arguments(), *more]
        # Vela sets the limit of the whole process, to less than Python has if it is not told.
        arguments.append(f"--recursion-limit={sys.getrecursionlimit()}")
        try:
            with quiet():
                vela.main(arguments)
        except (Exception, SystemExit) as error:
            raise ModelFileError(f"{file.name}: Vela cannot compile it: {error}") from error
        _check_placed(file, folder)


def _inference_ms(folder: Path) -> float:
    (summary,) = folder.glob("*_summary_*.csv")
    with summary.open(encoding="utf-8", newline="") as lines:
        (line,) = csv.DictReader(lines)
    return 1000 * float(line["inference_time"])


def _check_placed(file: Path, folder: Path) -> None:
    """Refuse a file of which something would run elsewhere: what Vela compiled is one operator, of its own kind."""
    model: Any = require("ethosu.vela.tflite.Model", extra=EXTRA)
    operators: Any = require("ethosu.vela.tflite.BuiltinOperator", extra=EXTRA).BuiltinOperator
    (compiled,) = folder.glob("*_vela.tflite")
    found = model.Model.GetRootAs(compiled.read_bytes(), 0)
    codes = {found.OperatorCodes(at).BuiltinCode() for at in range(found.OperatorCodesLength())} - {operators.CUSTOM}
    if codes:
        left = ", ".join(sorted(name for name, code in vars(operators).items() if code in codes))
        raise MissingKernelError(
            f"{file.name}: {left} would run on the processor beside Ethos-U, whose time is unknown"
        )
