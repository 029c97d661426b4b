"""Energy of this machine's processors by RAPL (running average power limit), which Linux reports below `/sys`.

Counters of Intel's and AMD's processors have the same names, by
https://www.kernel.org/doc/html/latest/power/powercap/powercap.html: zones `<type>:<number>` with the energy of a
package, and below them `<type>:<number>:<number>` with that of its parts, of which only memory is not in the package's.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fbnet_zoo.benchmarks.devices.energy import EnergyMeter, above_idle
from fbnet_zoo.benchmarks.devices.host_process import measure, prepare_run
from fbnet_zoo.benchmarks.devices.linux import whole
from fbnet_zoo.benchmarks.measure import WARMUP, Inputs, ModelFile, RunEnergy
from fbnet_zoo.errors import EnergyUnavailableError

ROOT = Path("/")
_ZONES = "sys/class/powercap"
_ENERGY, _RANGE = "energy_uj", "max_energy_range_uj"


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A counter of energy.

    Attributes:
        name: name of the zone, such as `package-0`.
        path: file of the counter, uJ.
        range_uj: highest value, after which it starts again at 0; 0 if unknown.
    """

    name: str
    path: Path
    range_uj: int

    def consumed_uj(self, before: int, after: int) -> int:
        """Return the energy between two readings, of which the counter may have wrapped around once.

        Raises:
            EnergyUnavailableError: the counter ran backwards, and its range is unknown.
        """
        if after < before and self.range_uj < before:
            raise EnergyUnavailableError(
                f"{self.path} fell from {before} to {after}, but its {_RANGE} is {self.range_uj}: the energy is not "
                "known"
            )
        return after - before + (self.range_uj if after < before else 0)


class RaplMeter(EnergyMeter):
    """The energy of all packages of this machine, and of their memory where it is reported.

    Args:
        root: root of the file system to read.
        seconds: duration of the pause that shows the idle power, and least duration of the runs.
        timeout_s: time limit of the process, seconds (default: 600).

    Raises:
        EnergyUnavailableError: this machine reports no energy, or only to others than this user.
    """

    def __init__(self, *, root: Path = ROOT, seconds: float = 2.0, timeout_s: float = 600) -> None:
        self._zones, self._seconds, self._timeout_s = find_zones(root), seconds, timeout_s

    @property
    def source(self) -> str:
        """What is read: `RAPL` and the names of the zones."""
        return f"RAPL: {', '.join(zone.name for zone in self._zones)}"

    def measure(self, model: ModelFile, inputs: Inputs = (), *, run_ms: float, threads: int = 1) -> RunEnergy:
        """Measure the energy of a run; the process itself runs the model for long enough, whatever `run_ms` is."""
        counters = tuple(str(zone.path) for zone in self._zones)
        with prepare_run(model, inputs, runs=1, warmup=WARMUP, threads=threads) as run:
            metered = replace(run, counters=counters, metered_s=self._seconds)
            found = measure(model, metered, timeout_s=self._timeout_s).metered
        assert found is not None  # noqa: S101 - the process of this library, given counters
        idle_uj, busy_uj = (self._consumed_uj(found.readings[at], found.readings[at + 1]) for at in (0, 1))
        if busy_uj == 0:
            raise EnergyUnavailableError(
                f"{self.source}: the counters stood still during {found.runs} runs, as in some virtual machines; this "
                "machine does not measure energy"
            )
        idle_mw = idle_uj / 1000 / found.idle_s
        return above_idle(self.source, total_mj=busy_uj / 1000, idle_mw=idle_mw, runs=found.runs, seconds=found.runs_s)

    def _consumed_uj(self, before: Sequence[int], after: Sequence[int]) -> int:
        return sum(zone.consumed_uj(*pair) for zone, *pair in zip(self._zones, before, after, strict=True))


def find_zones(root: Path = ROOT) -> tuple[Zone, ...]:
    """Return the counters of all packages and of their memory, each once even if two interfaces report it.

    Args:
        root: root of the file system to read.

    Raises:
        EnergyUnavailableError: there are none, or they cannot be read.
    """
    folders = sorted((root / _ZONES).glob("*:*"), key=lambda folder: (len(folder.name), folder.name))
    packages: dict[str, Path] = {}
    for folder in folders:  # intel-rapl:0 before intel-rapl-mmio:0
        name = _text(folder / "name")
        if re.fullmatch(r"[^:]+:[0-9]+", folder.name) and name.startswith("package"):
            packages.setdefault(name, folder)
    if not packages:
        raise EnergyUnavailableError(
            f"this machine reports no energy: {root / _ZONES} has no zone of a processor package; Linux has it for "
            "processors of Intel and AMD, but not in most virtual machines and containers"
        )
    return tuple(zone for name, folder in packages.items() for zone in _package(name, folder, folders))


def _package(name: str, folder: Path, folders: Sequence[Path]) -> Iterator[Zone]:
    """Yield the counter of a package, and that of its memory."""
    yield _zone(name, folder)
    for part in folders:
        if part.name.startswith(f"{folder.name}:") and _text(part / "name") == "dram":
            yield _zone(f"dram of {name}", part)


def _zone(name: str, folder: Path) -> Zone:
    path = folder / _ENERGY
    try:
        value = whole(path.read_text(encoding="utf-8", errors="replace").strip())
    except OSError as error:
        raise EnergyUnavailableError(
            f"the energy of this machine cannot be read: {path}: {error.strerror}; run as root, or allow it until the "
            f"next start with: sudo chmod a+r {folder.parent}/*/{_ENERGY}"
        ) from error
    if value is None:
        raise EnergyUnavailableError(f"the energy of this machine cannot be read: {path} holds no whole number")
    return Zone(name=name, path=path, range_uj=whole(_text(folder / _RANGE)) or 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
