"""Arm's Ethos-U as a device: latency estimates of its compiler, Vela, without hardware.

For each layer, Vela counts the cycles of the slowest of arithmetic and memories, and adds them up. The estimate of a
file is deterministic.
"""

import configparser
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fbnet_zoo._require import CONVERTING, quiet, require
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.context import measurement
from fbnet_zoo.benchmarks.measure import RUNS, WARMUP, Device, DeviceState, Inputs, Measurement, ModelFile, check_counts
from fbnet_zoo.errors import InputError, MissingKernelError, ModelFileError, UnknownNameError, did_you_mean
from fbnet_zoo.folders import temporary
from fbnet_zoo.latency.device import DeviceInfo
from fbnet_zoo.reading import read_csv

EXTRA = "ethosu"
DEFAULT = "ethos-u55-128"

_TIME = "inference_time"
_PACKAGE, _CONFIGURATIONS = "ethos-u-vela", "Arm/vela.ini"
_USUAL = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_Embedded", "Shared_Sram"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Sram_Only"),
}
"""Default system and memory configuration of each family. All keep the input and output of a file in SRAM, like the
tensors between layers: with DRAM there, the operators of a network, each in its own file, would exceed the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Vela's compile target.

    Attributes:
        accelerator: family and multiply-accumulates per cycle.
        system: Vela's system configuration: clock and memory speeds.
        memory: Vela's memory mode: placement of data.
        clock_hz: clock of the accelerator.
    """

    accelerator: str
    system: str
    memory: str
    clock_hz: float

    @classmethod
    def find(cls, accelerator: str = DEFAULT, system: str | None = None, memory: str | None = None) -> "Configuration":
        """Return Vela's configuration with these names.

        Args:
            accelerator: such as `ethos-u85-256` (default: `ethos-u55-128`).
            system: such as `Ethos_U85_SYS_Flash_High` (default: by family).
            memory: such as `Shared_Sram` (default: by family).

        Raises:
            UnknownNameError: Vela has no such name; the text lists the known ones.
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
        """Return the description of the device."""
        return DeviceInfo(
            kind="ethosu",
            id=f"{self.accelerator}/{self.system}/{self.memory}",
            manufacturer="Arm",
            model=self.accelerator.replace("ethos-u", "Ethos-U"),
            system=f"{self.system}, {self.memory}, {self.clock_hz / 1e6:g} MHz",
        )

    def arguments(self) -> Iterator[str]:
        """Yield Vela's command line options."""
        yield f"--config={_CONFIGURATIONS}"
        yield f"--accelerator-config={self.accelerator}"
        yield f"--system-config={self.system}"
        yield f"--memory-mode={self.memory}"


def _named(file: configparser.ConfigParser, kind: str) -> list[str]:
    return [section.removeprefix(f"{kind}.") for section in file.sections() if section.startswith(f"{kind}.")]


def _prefix(family: str) -> str:
    """Return the prefix of the names of a family's system configurations."""
    return family.title().replace("-", "_")


def _check(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
        raise UnknownNameError(f"Vela has no {what} {name!r}{hint}")


class EthosUDevice(Device):
    """A virtual Ethos-U, for int8 files of TensorFlow Lite that Vela compiles as a whole.

    Args:
        configuration: compile target.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def info(self) -> DeviceInfo:
        return self._configuration.info()

    def push(self, model: ModelFile) -> None:
        """Do nothing: there is no hardware to copy to."""

    def run(
        self, model: ModelFile, inputs: Inputs = (), runs: int = RUNS, warmup: int = WARMUP, threads: int = 1
    ) -> Measurement:
        """Return the estimate of a file as a single sample, as all runs would be equal."""
        check_counts(runs=runs, warmup=warmup, threads=threads)
        with temporary() as folder:
            self._compile(model.path, folder)
            inference_ms = _inference_ms(folder)
        compiler = version(_PACKAGE)
        return measurement(
            model,
            DeviceState(),
            DeviceState(),
            runtime=f"vela {compiler}",
            device=self.info(),
            threads=1,
            warmup=0,
            samples_ms=(inference_ms,),
            versions={_PACKAGE: compiler},
        )

    def profile(self, model: ModelFile, out: Path, inputs: Inputs = (), runs: int = RUNS, threads: int = 1) -> None:
        """Write Vela's estimate of each layer as CSV."""
        check_counts(runs=runs, threads=threads)
        with temporary() as folder:
            self._compile(model.path, folder, "--verbose-performance")
            (layers,) = folder.glob("*_per-layer.csv")
            write_atomically(out, layers.read_bytes())

    def cleanup(self) -> None:
        """Do nothing: nothing was copied."""

    def _compile(self, file: Path, folder: Path, *more: str) -> None:
        vela: Any = require("ethosu.vela.vela", extra=EXTRA)
        if not file.is_file():
            raise InputError(f"{file}: the model cannot be read: no such file")
        arguments = [str(file), f"--output-dir={folder}", *self._configuration.arguments(), *more]
        # Without this option Vela lowers the recursion limit of the whole process.
        arguments.append(f"--recursion-limit={sys.getrecursionlimit()}")
        try:
            with CONVERTING, quiet():
                vela.main(arguments)
        except (Exception, SystemExit) as error:
            raise ModelFileError(f"{file.name}: Vela cannot compile it: {error}") from error
        _check_placed(file, folder)


def _inference_ms(folder: Path) -> float:
    (summary,) = folder.glob("*_summary_*.csv")
    _, rows = read_csv(summary, "Vela's summary")
    text = rows[0].cells.get(_TIME) if rows else None
    try:
        return 1000 * float(text or "")
    except ValueError as error:
        raise ModelFileError(f"{summary.name}: {_TIME} is {text!r}; expected seconds, as Vela 5.1 writes it") from error


def _check_placed(file: Path, folder: Path) -> None:
    """Check that Vela compiled the whole file: each compiled part is one custom operator."""
    model: Any = require("ethosu.vela.tflite.Model", extra=EXTRA)
    operators: Any = require("ethosu.vela.tflite.BuiltinOperator", extra=EXTRA).BuiltinOperator
    (compiled,) = folder.glob("*_vela.tflite")
    found = model.Model.GetRootAs(compiled.read_bytes(), 0)
    codes = {found.OperatorCodes(at).BuiltinCode() for at in range(found.OperatorCodesLength())} - {operators.CUSTOM}
    if codes:
        left = ", ".join(sorted(name for name, code in vars(operators).items() if code in codes))
        raise MissingKernelError(
            f"{file.name}: {left} would run on the CPU beside Ethos-U, for which there is no estimate"
        )
